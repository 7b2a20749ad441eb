"""Nodes outside the integer machine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from accelsim.operators.parts import FloatProduct, Part
from accelsim.operators.tensors import TensorType


@dataclass(frozen=True, eq=False)
class HostOperator:
    """A node outside the integer machine, executed alone by onnxruntime.

    model: the serialised one-node model; onnxruntime is opened with all optimisations off and one thread.
    kind: the ONNX operator, for prices and reports; inputs/outputs: tensor names inside that model; constants: types of
    the initialisers, which have to be read as well; product: set where the machine's array is priced for it; macs:
    multiply-accumulates that it does, None where nobody has counted them; part: set where the node is priced in parts,
    of which this layer is the last one; priced_inputs: how many inputs of the layer, its first ones, that part reads:
    they exist for the price only, and are followed by those that onnxruntime is given; steps: what one code is worth in
    the floats that it gives, where it dequantises codes with constant scales, broadcast against them.
    """

    kind: str
    model: bytes = field(repr=False)
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[TensorType, ...] = ()
    product: FloatProduct | None = None
    macs: int | None = 0
    part: Part | None = None
    priced_inputs: int = 0
    steps: NDArray[np.float32] | None = field(default=None, repr=False)
