"""Nodes outside the integer machine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from accelsim.operators.parts import FloatProduct, Part
from accelsim.operators.tensors import TensorType


@dataclass(frozen=True, eq=False)
class HostOperator:
    """A node outside the integer machine, executed alone by onnxruntime."""

    kind: str
    """The ONNX operator, for prices and reports."""
    model: bytes = field(repr=False)
    """The serialised one-node model; onnxruntime is opened with all optimisations off and one thread."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """inputs and outputs: tensor names inside that model."""
    constants: tuple[TensorType, ...] = ()
    """Types of the initialisers, which have to be read as well."""
    product: FloatProduct | None = None
    """Set where the machine's array is priced for it."""
    macs: int | None = 0
    """Multiply-accumulates that it does, None where nobody has counted them."""
    part: Part | None = None
    """Set where the node is priced in parts, of which this layer is the last one."""
    priced_inputs: int = 0
    """How many inputs of the layer, its first ones, that part reads: they exist for the price only, and are followed by
    those that onnxruntime is given."""
    steps: NDArray[np.float32] | None = field(default=None, repr=False)
    """What one code is worth in the floats that it gives, where it dequantises codes with constant scales, broadcast
    against them."""
