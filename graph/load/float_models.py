"""What is a float model, with nothing to simulate before it is quantised, and what only looks like one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from onnx import ModelProto, NodeProto, TensorProto

from accelsim.errors import UnsupportedModelError, printable
from accelsim.graph.load.constraints import node_label
from accelsim.reference.schemas import operators_on_codes

# How operators on codes are called: QLinearAdd, QMoE, ConvInteger, DynamicQuantizeLSTM, MatMulNBits, IntQuant, ...
_QUANTISED = re.compile(r"^Q[A-Z]|[Qq]uant|Integer|NBits|Bnb4|FpQ4|^Trunc$")
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Attention"}
_INTEGERS = {
    TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT4, TensorProto.UINT4,
    TensorProto.INT32, TensorProto.UINT32, TensorProto.INT64, TensorProto.UINT64, TensorProto.BOOL,
}  # fmt: skip


def is_quantised(node: NodeProto) -> bool:
    """Tell whether a node belongs to a quantised model."""
    named = _QUANTISED.search(node.op_type) is not None
    return named or (node.domain == "com.microsoft" and node.op_type in operators_on_codes())


def spells_quantisers(proto: ModelProto) -> bool:
    """Tell whether a model quantises with float operators: Round next to a Clip, whole numbers added in between."""
    return next(_spelled(proto), None) is not None


def _spelled(proto: ModelProto) -> Iterator[NodeProto]:
    """Yield the Round nodes of quantisers that are spelled out."""
    writers = {name: node for node in proto.graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in proto.graph.node:
        if node.op_type != "Round" or not node.input or not node.output:
            continue
        before = writers.get(node.input[0])
        behind = [*readers.get(node.output[0], ())]
        behind += [far for near in behind if near.op_type in ("Add", "Sub") for far in readers.get(near.output[0], ())]
        if (before is not None and before.op_type == "Clip") or any(other.op_type == "Clip" for other in behind):
            yield node


def float_model_error(proto: ModelProto, name: str, source: str = "") -> UnsupportedModelError | None:
    """Return the error for a float model, listing its layers and the way out; None for anything else.

    A model is none if it has a quantised node, spells quantisers in float operators, or handles integers alone.

    Args:
        proto: the model.
        name: of the model, for messages.
        source: what the model is read from, which the command that quantises it names; else its name.
    """
    graph = proto.graph
    types = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    if any(map(is_quantised, graph.node)) or spells_quantisers(proto) or types <= _INTEGERS:
        return None
    layers = [node for node in graph.node if node.op_type in _LAYERS]
    listed = ", ".join(f"{node.op_type} '{printable(node_label(node), 60)}'" for node in layers[:12])
    more = f" and {len(layers) - 12} more" if len(layers) > 12 else ""
    argument = shlex.quote(printable(source or name, 300))
    return UnsupportedModelError(
        f"{name} is a float model: it has no Q/DQ nodes; layers to quantise: {listed or 'none'}{more}; "
        f"quantise it first: accel-sim quantize {argument} -o quantised.onnx --calib samples.npz (or with "
        f"onnxruntime's quantize_static)"
    )
