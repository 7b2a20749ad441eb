"""What is supported: one table of operators that the loader checks, the importer obeys and `accel-sim ops` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import AttributeProto, ModelProto, NodeProto, defs

from accelsim.errors import Finding, printable
from accelsim.graph.load.element_types import ELEMENT_BITS, INPUT_TYPES, PACKED_TYPES, constant_tensors, element_name
from accelsim.reference.schemas import contributed_operators

OPSET_WINDOW = (10, 25)
DOMAINS = {
    "": "ai.onnx",
    "ai.onnx": "ai.onnx",
    "com.microsoft": "com.microsoft",
    "com.microsoft.nchwc": "com.microsoft",
}


@dataclass(frozen=True)
class Support:
    """One row of the table of operators."""

    kernel: str
    """Operator of the normalised graph."""
    sources: str
    """What a file contains for it."""
    placement: str
    """Which unit executes it."""
    rule: str
    """The constraints, as users read them."""
    scales: tuple[int, ...] = ()
    """Input positions that hold scales."""


OPERATORS: tuple[Support, ...] = (
    Support(
        "QLinearConv",
        "Q/DQ around Conv [+ Relu/Clip]; QLinearConv, also with channels_last (files that onnxruntime saved)",
        "array",
        "1-D, 2-D or 3-D (each output slice of a volume loads the input slices it needs); any strides, dilations, "
        "groups, pads or auto_pad; uint8/int8 activations; 8-bit weights per tensor or per channel with any zero "
        "points; int32 bias; constant weights and parameters",
        (1, 4, 6),
    ),
    Support(
        "QLinearMatMul",
        "Q/DQ around MatMul; QLinearMatMul",
        "array",
        "matrices and vectors of any rank with broadcasting; second operand constant or computed; per tensor, or per "
        "column when constant",
        (1, 4, 6),
    ),
    Support(
        "QGemm",
        "Q/DQ around Gemm, or MatMul + bias; com.microsoft QGemm",
        "array",
        "any alpha; constant second operand; bias of one row; output quantised or float",
        (1, 4, 7),
    ),
    Support(
        "MatMulIntegerToFloat",
        "DQ, DQ -> MatMul without Q",
        "array",
        "float32 output, optional float bias; scale and zero point of the activation constant or computed",
        (2, 3),
    ),
    Support(
        "MatMulInteger, ConvInteger",
        "the same",
        "array",
        "accumulators leave as int32; one zero point per operand, constant or computed; ConvInteger with constant "
        "weights",
    ),
    Support(
        "DynamicQuantizeMatMul",
        "dynamic quantisation of MatMul (DynamicQuantizeLinear, MatMulInteger, Cast, Mul [, Add])",
        "vector, array",
        "two layers: extremes and codes on the vector unit, then the product; the second operand is constant or "
        "computed, also one that is quantised at run time",
    ),
    Support(
        "DynamicQuantizeLinear",
        "DynamicQuantizeLinear",
        "vector",
        "float32 to uint8; two passes over the tensor",
    ),
    Support(
        "MatMulNBits, MatMul, Gemm, FusedMatMul, FusedGemm",
        "weight-only quantisation: float activations, DequantizeLinear of constant 2- to 8-bit weights per tensor, "
        "channel or block; also Conv with one tap and blocks of channels",
        "array",
        "values from onnxruntime; priced as float multipliers with packed weights, dequantised on their way in; where "
        "onnxruntime quantises the activations per block (accuracy level 4), in parts, as products of integers",
    ),
    Support(
        "QLinearAdd",
        "Q/DQ around Add",
        "vector",
        "uint8 or int8, broadcasting, constant parameters",
        (1, 4, 6),
    ),
    Support(
        "QLinearMul",
        "Q/DQ around Mul",
        "vector",
        "uint8 or int8, broadcasting, constant parameters",
        (1, 4, 6),
    ),
    Support(
        "QLinearAveragePool",
        "Q/DQ around AveragePool",
        "vector",
        "1-D or 2-D, dilation 1, pads, ceil_mode",
        (1, 3),
    ),
    Support(
        "QLinearGlobalAveragePool",
        "Q/DQ around GlobalAveragePool",
        "vector",
        "any rank",
        (1, 3),
    ),
    Support("MaxPool", "Q/DQ around MaxPool; NhwcMaxPool", "vector", "on 8- or 16-bit codes, 1-D or 2-D, one output"),
    Support("QLinearSoftmax", "Q/DQ around Softmax", "vector", "any axis", (1, 3)),
    Support("QLinearSigmoid", "Q/DQ around Sigmoid", "vector", "table of 256 codes", (1, 3)),
    Support("QLinearLeakyRelu", "Q/DQ around LeakyRelu", "vector", "table of 256 codes", (1, 3)),
    Support("QLinearConcat", "Q/DQ around Concat", "vector", "tables where scales differ, else moved by DMA"),
    Support(
        "Conv, FusedConv, MatMul, Gemm, FusedMatMul, FusedGemm, TransposeMatMul",
        "products of codes that onnxruntime leaves in float: quantisers at the inputs only, several readers, float16, "
        "16-bit activations, 4-bit weights, a loose Relu/Clip",
        "array",
        "ideal integer arithmetic, class float-reference; constant weights per tensor or per output channel, or two "
        "activations of one scale; any alpha, beta and bias; result requantised, float32 or float16",
    ),
    Support(
        "ConvTranspose",
        "Q/DQ around ConvTranspose",
        "array",
        "1-D or 2-D with explicit pads; ideal integer arithmetic, class float-reference; the convolution of the map "
        "with zeros inserted, which take time but no energy",
    ),
    Support(
        "Sigmoid, Tanh, Erf, Exp, Sqrt, Gelu, QuickGelu, Relu, Clip, Abs, HardSigmoid, HardSwish, Reciprocal, Neg, "
        "Floor, Ceil, Round, Softsign, LeakyRelu, Sinh, Asinh, Acosh, Atanh, Tan, Sign, ThresholdedRelu, Shrink, Pow",
        "Q/DQ around the function",
        "vector",
        "table of all codes, 8 or 16 bits; Pow by a constant scalar other than 3. Log, Softplus, Elu, Celu, Selu, Sin, "
        "Cos, Atan, Asin and Acos round differently at different positions in onnxruntime, which therefore computes "
        "them; they are priced on the vector unit",
    ),
    Support(
        "Add, Sub, Mul, Div, Max, Min, Sum, PRelu",
        "Q/DQ groups that onnxruntime leaves in float",
        "vector",
        "operands quantised or constant; float32 operations from left to right",
    ),
    Support(
        "Add, Sub, Mul, Div, Sqrt, Reciprocal, Neg, Abs",
        "the float operator itself",
        "vector",
        "float32; one IEEE 754 operation per element",
    ),
    Support(
        "BatchNormalization, ReduceSum, ReduceMean",
        "Q/DQ around the operator",
        "vector",
        "constant parameters; float32 in onnxruntime's order of operations. Sums over the last axes or over the first "
        "ones; over axes in the middle they stay with onnxruntime",
    ),
    Support("ReduceMax, ReduceMin", "the reduction of codes, or Q/DQ around it", "vector", "any axes; equal scales"),
    Support("ArgMax, ArgMin", "the operator on codes or behind DQ", "vector", "any axis, first or last index"),
    Support(
        "QLinearWhere, Where",
        "Where, Q/DQ around Where",
        "vector",
        "any types; a table for each side of 8 or 16 bits whose scale differs",
    ),
    Support(
        "Resize",
        "Resize, Q/DQ around Resize",
        "dma or vector",
        "nearest: every coordinate transformation and rounding, any type, moved like Tile; linear between quantisers: "
        "two axes, without tf_crop_and_resize and antialiasing, float32 in onnxruntime's order; constant scales or "
        "sizes",
    ),
    Support(
        "Expand, Tile, DepthToSpace, SpaceToDepth, GatherElements, GatherND",
        "the operator on any type, Q/DQ around it",
        "dma or vector",
        "runs of 64 bytes and more are copied by DMA, shorter ones pass through the lanes; constant or computed "
        "indices (computed ones: one DMA segment per index)",
    ),
    Support("QuantizeLinear", "QuantizeLinear", "vector", "float32 to 8- or 16-bit codes with one scale", (1,)),
    Support("DequantizeLinear", "DequantizeLinear", "vector", "8-, 16- or 32-bit codes with one scale", (1,)),
    Support(
        "Reshape",
        "Reshape, Flatten, Squeeze, Unsqueeze, Identity",
        "none",
        "same bytes under another shape: nothing moves",
    ),
    Support("Transpose", "Transpose", "vector", "any permutation, one element per lane and cycle"),
    Support("Slice", "Slice", "dma", "constant ranges"),
    Support("Split", "Split", "dma", "constant sizes"),
    Support("Gather", "Gather", "dma", "constant or computed indices, one DMA segment per index"),
    Support("Concat", "Concat", "dma", "equal scales or plain data"),
    Support(
        "Pad",
        "Pad, Q/DQ around Pad",
        "dma",
        "constant widths; a constant, or elements of the tensor (edge, reflect, wrap), in short runs through the lanes",
    ),
    Support(
        "(any other)",
        "every other onnxruntime operator without subgraphs",
        "vector or host",
        "executed by onnxruntime one node at a time. Element-wise float operators, softmax, normalisations and "
        "reductions are priced on the vector unit (accel/data/vector_unit.toml), all others (3-D pooling, TopK, "
        "NonMaxSuppression, ...) as host with their bytes moved over DMA",
    ),
)

# Rows of the operators that only QONNX models have, or that are lowered in another way in them.
QONNX_OPERATORS: tuple[Support, ...] = (
    Support(
        "Quant, IntQuant, BipolarQuant",
        "QONNX (qonnx.custom_op.general, onnx.brevitas)",
        "vector",
        "1 to 8 bits (constants to 32), signed, narrow, all seven roundings, constant scale and whole zero point per "
        "tensor or channel; thresholds of the layer before wherever one can be found; opset 9 and later",
    ),
    Support(
        "Trunc",
        "QONNX, versions 1 and 2",
        "vector",
        "behind AveragePool or a sum a shift, as thresholds; out-widths to 8 bits",
    ),
    Support(
        "Conv, MatMul, Gemm, Add, AveragePool, GlobalAveragePool",
        "QONNX, between quantised tensors",
        "array or vector",
        "integer sums of 1- to 8-bit codes; BatchNormalization, scales, biases, Relu and the next quantiser become "
        "thresholds; else float32 sums; exact where float32 sums are, else class float-reference",
    ),
)

_SCALES: dict[str, tuple[int, ...]] = {row.kernel: row.scales for row in OPERATORS if row.scales}
RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
_SEQUENCES = ("Sequence", "Optional", "SplitToSequence", "ConcatFromSequence")
_TEXTS = ("String", "Regex", "TfIdfVectorizer")


def node_label(node: NodeProto) -> str:
    """Return what a node is called: its name, or else the first of its outputs that is there."""
    return str(node.name or next(filter(None, node.output), "(unnamed)"))


def scale_positions(node: NodeProto) -> Iterator[int]:
    """Yield the input positions of a node that hold scales."""
    if node.op_type == "QLinearConcat":
        yield 0
        yield from range(3, len(node.input), 3)
    yield from _SCALES.get(node.op_type, ())


def opset_finding(proto: ModelProto, lowest: int = OPSET_WINDOW[0]) -> Iterator[Finding]:
    """Check domains and the opset window, whose lower end depends on the kind of model."""
    highest = OPSET_WINDOW[1]
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        yield Finding("(model)", "opset", "no opset of the standard operators is imported", "export the model again")
    for version in versions:
        if not lowest <= version <= highest:
            yield Finding(
                "(model)",
                "opset",
                f"opset {version} is outside of {lowest}..{highest}",
                f"export with an opset in {lowest}..{highest}",
            )


def node_findings(node: NodeProto, opset: int) -> Iterator[Finding]:
    """Say why a node cannot run at all, if so.

    Args:
        node: the node.
        opset: version of the standard operators that the model imports.
    """
    problem = _domain_problem(node) or _content_problem(node) or _schema_problem(node, opset)
    if problem is not None:
        yield Finding(node_label(node), node.op_type, *problem)


def _domain_problem(node: NodeProto) -> tuple[str, str] | None:
    """Return reason and remedy when an operator belongs to nobody we know."""
    if node.domain in DOMAINS:
        return None
    return f"its domain '{printable(node.domain, 40)}' is unknown", "replace it by standard ONNX operators"


def _content_problem(node: NodeProto) -> tuple[str, str] | None:
    """Return reason and remedy when a node handles something else than dense numbers, or draws random ones."""
    attributes = node.attribute
    if any(a.HasField("g") or a.graphs or a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in attributes):
        return "control flow with subgraphs is not executed", "unroll it before export"
    if node.op_type.startswith(_SEQUENCES):
        return "sequences and optionals are not executed", "export the model with tensors"
    if node.op_type.startswith(_TEXTS) or any(a.name in ("value_string", "value_strings") for a in attributes):
        return "strings are not executed", "preprocess them outside of the model"
    if any(a.HasField("sparse_tensor") or a.sparse_tensors for a in attributes):
        return "sparse tensors are not executed", "store a dense tensor"
    if node.op_type in RANDOM:
        return "its output is random, so nothing can be compared", "make it an input of the model"
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        return "it may run in training mode, where its output is random", "export the model for inference"
    return None


def _schema_problem(node: NodeProto, opset: int) -> tuple[str, str] | None:
    """Return reason and remedy when neither ONNX nor onnxruntime knows an operator."""
    if DOMAINS[node.domain] == "com.microsoft":
        known = contributed_operators()
        if known is None or (node.domain, node.op_type) in known:
            return None
        return "the installed onnxruntime has no such operator", "replace it by standard ONNX operators"
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        if not defs.has(node.op_type, ""):
            if ("", node.op_type) in (contributed_operators() or ()):  # onnxruntime keeps some of its own there
                return None
            return "neither ONNX nor onnxruntime has such an operator", "replace it by standard ONNX operators"
        return f"opset {opset} has no such operator", "export with a newer opset"
    return (f"opset {opset} no longer has it", "replace it by its successor") if schema.deprecated else None


def value_findings(proto: ModelProto) -> Iterator[Finding]:
    """Say which inputs, outputs and constants of a model are no dense tensors of numbers."""
    graph = proto.graph
    for value in (*graph.input, *graph.output):
        kind = value.type.WhichOneof("value") or "tensor_type"
        if kind != "tensor_type":
            spelled = kind.removesuffix("_type").replace("_", " ")
            yield Finding(value.name, spelled, "only dense tensors enter or leave", "export the model with tensors")
    for value in graph.input:
        if (value.type.WhichOneof("value") or "tensor_type") != "tensor_type":
            continue
        tensor = value.type.tensor_type
        if tensor.elem_type not in INPUT_TYPES | PACKED_TYPES:
            reason = f"element type {element_name(tensor.elem_type)} cannot be fed"
            yield Finding(value.name, "input", reason, "export it as float32 or 8-bit codes")
        if not tensor.HasField("shape"):
            yield Finding(value.name, "input", "it has no shape", "export it with its dimensions")
    for sparse in graph.sparse_initializer:
        yield Finding(sparse.values.name, "sparse initializer", "sparse tensors are not executed", "store it densely")
    for label, tensor in constant_tensors(proto):
        if tensor.data_type not in ELEMENT_BITS:
            reason = f"element type {element_name(tensor.data_type)} is not executed"
            yield Finding(label, "constant", reason, "export it as float32, integers or 8-bit codes")
