"""How codes of weights lie in the file: their element types, and wider ones where onnxruntime has no kernel for theirs.

onnxruntime replaces a layer between quantisers by an integer kernel that does not always take the weights it finds: it
then refuses the model, or fails while it runs. Where types differ it leaves the layer as it is spelled.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from accelsim.errors import printable
from accelsim.quantise.grid import Grid
from accelsim.quantise.network.editing import GraphEditor
from accelsim.quantise.write.weights import QuantisedWeights, Weights

CODE_TYPES = {
    (2, True): TensorProto.INT2 if hasattr(TensorProto, "INT2") else 0,
    (4, True): TensorProto.INT4,
    (8, True): TensorProto.INT8,
    (16, True): TensorProto.INT16,
    (8, False): TensorProto.UINT8,
    (16, False): TensorProto.UINT16,
}
_BYTE = 8
_BYTES = (TensorProto.INT8, TensorProto.UINT8)
_NARROW, _WIDER = 2, {2: 4, 8: 16}
_CODES_PER_BYTE = 4  # of 2 bits
_ENTRY = (
    "onnxruntime opens 2-bit weights with the session entry session.qdqisint8allowed=1, as the reference does: without "
    "it int8 activations become uint8 on x86, beside which it has no kernel for them"
)
_REASONS = {
    2: "2-bit weights are stored in 4 bits beside uint8 activations, because onnxruntime has no kernel for them, and "
    "in a MatMul whose columns are no multiple of four beside wider ones, because it mixes the columns up",
    8: "8-bit weights in groups are stored in 16 bits where onnxruntime would use a kernel that has no groups",
}


def stored(graph: GraphEditor, weights: Weights, biased: Container[str]) -> Weights:
    """Return the weights with the bits that a code of theirs takes in the file.

    Args:
        graph: the Q/DQ graph, activations in place.
        weights: by layer. Layers that share weights share the storage.
        biased: names of the layers with a bias.
    """
    wider = {
        one.layer.weight
        for name, one in weights.items()
        if _has_no_kernel(_type_read(graph, name), one.grid, fused=_is_fused(graph.nodes[name].op_type, name in biased))
        or _is_mixed_up(_type_read(graph, name), one, graph.nodes[name].op_type)
    }
    return {
        name: replace(one, code_bits=_WIDER[one.grid.spec.bits]) if one.layer.weight in wider else one
        for name, one in weights.items()
    }


def _type_read(graph: GraphEditor, layer: str) -> int | None:
    """Return the element type of the codes that a layer reads, None if it reads floats."""
    node = graph.producers.get(graph.nodes[layer].input[0])
    if node is None or node.op_type != "DequantizeLinear":
        return None
    return int(graph.tensors[node.input[2]].data_type)


def _is_fused(kind: str, biased: bool) -> bool:
    """Tell whether onnxruntime fuses whatever the scales are; the float bias that groups have keeps it from a Conv."""
    return kind == "MatMul" or (kind == "Conv" and not biased)


def _has_no_kernel(read: int | None, grid: Grid, *, fused: bool) -> bool:
    """Tell whether onnxruntime would take a layer for one of its integer kernels that refuses it."""
    if grid.spec.bits == _NARROW:
        return bool(read == TensorProto.UINT8)
    return grid.spec.bits == _BYTE and grid.block > 0 and read in _BYTES and fused


def _is_mixed_up(read: int | None, one: QuantisedWeights, kind: str) -> bool:
    """Tell whether onnxruntime would make a MatMulNBits of 2-bit weights whose rows end inside of a byte."""
    narrow = one.grid.spec.bits == _NARROW and one.codes.shape[-1] % _CODES_PER_BYTE != 0
    return narrow and kind == "MatMul" and read not in _BYTES


def remarks(weights: Weights) -> Iterator[str]:
    """Say which weights take more bits in the file than their codes have.

    Args:
        weights: by layer.
    """
    for bits, reason in _REASONS.items():
        layers = [name for name, one in weights.items() if one.grid.spec.bits == bits != one.code_bits]
        if layers:
            yield f"{reason}: {len(layers)} layer(s), first '{printable(layers[0], 60)}'"
    if any(one.code_bits == _NARROW for one in weights.values()):
        yield _ENTRY


def packed(name: str, bits: int, codes: NDArray[np.int64]) -> TensorProto:
    """Return signed codes as a constant: 2- and 4-bit codes share bytes, the first one in the lowest bits.

    Args:
        name: of the constant.
        bits: 2, 4, 8 or 16.
        codes: any shape.
    """
    dtype = helper.tensor_dtype_to_np_dtype(CODE_TYPES[bits, True])
    return numpy_helper.from_array(codes.astype(dtype), name)
