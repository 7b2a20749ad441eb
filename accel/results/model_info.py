"""What a result says about the model that was run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accelsim.operators.dimensions import Dimension


@dataclass(frozen=True)
class InputInfo:
    """An input of a model as it was run: its name, element type and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def described(self) -> str:
        """Shape and element type in words."""
        return f"{'x'.join(map(str, self.shape)) or 'scalar'} {self.dtype}"


@dataclass(frozen=True)
class ModelInfo:
    """What was run; inputs, dimensions: None in results of versions that did not write them.

    batch: samples in one run, None where the file does not say which dimension counts them.
    """

    name: str
    sha256: str
    macs: int
    parameters_bytes: int
    inputs: tuple[InputInfo, ...] | None = None
    dimensions: tuple[Dimension, ...] | None = None
    batch: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what was run as plain data."""
        inputs = None if self.inputs is None else [vars(one) | {"shape": list(one.shape)} for one in self.inputs]
        dimensions = None if self.dimensions is None else [vars(one).copy() for one in self.dimensions]
        return vars(self) | {"inputs": inputs, "dimensions": dimensions}
