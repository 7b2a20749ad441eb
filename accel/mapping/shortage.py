"""What to say where the scratchpads hold not even the smallest block."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.errors import printable
from accelsim.machine.arch import Arch
from accelsim.program.scratchpads import Needs


@dataclass
class Shortage:
    """The least that plans need which do not fit: of the weight scratchpad, and of the other one where weights fit."""

    weight: int | None = None
    activation: int | None = None

    def note(self, needs: Needs, arch: Arch) -> None:
        """Take one plan that does not fit into account."""
        if needs.weight > arch.spm_weight:
            self.weight = needs.weight if self.weight is None else min(self.weight, needs.weight)
        else:
            self.activation = needs.activation if self.activation is None else min(self.activation, needs.activation)

    def sentence(self, name: str, arch: Arch, reserved: int = 0) -> str:
        """Say which scratchpad cannot hold even the smallest block, and what it would need."""
        if self.activation is None:
            return too_small("weight", "buffers.weight", name, self.weight or 0, arch.spm_weight)
        return too_small("activation", "buffers.activation", name, self.activation + reserved, arch.spm_act)


def too_small(buffer: str, key: str, name: str, needed: int, available: int) -> str:
    """Say which scratchpad cannot hold one tile of a layer, and which setting raises it."""
    return (
        f"the {buffer} scratchpad is too small for one tile of layer '{printable(name)}': it needs {needed:,} bytes "
        f"and has {available:,}: raise it with --set {key}={-(-needed // 1024)}KiB"
    )
