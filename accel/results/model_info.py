"""What a result says about the model that was run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from accelsim.operators.dimensions import Dimension
from accelsim.results.limits import Count, Name, Text


@dataclass(frozen=True)
class InputInfo:
    """An input of a model as it was run."""

    name: Name
    dtype: Text
    """Element type."""
    shape: Annotated[tuple[Count, ...], Field(max_length=64)]

    @property
    def described(self) -> str:
        """Shape and element type in words."""
        return f"{'x'.join(map(str, self.shape)) or 'scalar'} {self.dtype}"


@dataclass(frozen=True)
class ModelInfo:
    """What was run."""

    name: Name
    sha256: Text
    """Digest of the file."""
    macs: Count
    """Multiply-accumulates that the array does."""
    parameters_bytes: Count
    inputs: Annotated[tuple[InputInfo, ...], Field(max_length=10_000)] | None = None
    """None in results of versions that did not write them."""
    dimensions: Annotated[tuple[Dimension, ...], Field(max_length=10_000)] | None = None
    """What the file leaves open; None in results of versions that did not write it."""
    batch: Count | None = None
    """Samples in one run, None where the file does not say which dimension counts them."""
