"""The executions of the timing contract that a whole program can be timed with, by name."""

from __future__ import annotations

from collections.abc import Callable

from accelsim.errors import UsageError, nearest, printable
from accelsim.machine.arch import Arch
from accelsim.program.layers import Program
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import time_program

ENGINES = ("recurrence", "event")


def check_engine(name: str) -> str:
    """Return the name of an engine as it is spelled here.

    Raises:
        UsageError: there is no such engine.
    """
    if str(name).lower() not in ENGINES:
        raise UsageError(f"there is no timing engine '{printable(str(name))}' ({nearest(str(name), ENGINES)})")
    return name.lower()


def time_with(
    engine: str, program: Program, arch: Arch, progress: Callable[[str, int, int], None] | None = None
) -> list[LayerTiming]:
    """Return the timing of every layer; both engines give the same, the event model some hundred times slower.

    Args:
        engine: "recurrence", or "event" for the SimPy model.
        program: the layers.
        arch: the machine.
        progress: called by the event model with (layer name, number of the layer, count of layers) after each layer.

    Raises:
        UsageError: there is no such engine.
    """
    if check_engine(engine) == "recurrence":
        return time_program(program, arch)
    from accelsim.timing.event.run import time_program_by_events

    return time_program_by_events(program, arch, progress)
