"""The normalised ONNX graph to the typed integer graph: one integer node, one operator of the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from onnx import NodeProto

from accelsim.errors import UnsupportedModelError, printable
from accelsim.graph import (
    import_contractions,
    import_dynamic,
    import_elementwise,
    import_movement,
    import_weight_only,
)
from accelsim.graph.context import Context, Imported, NotOnTheMachineError
from accelsim.graph.fold_clamps import fold_clamps
from accelsim.graph.host_macs import domain_of
from accelsim.graph.import_groups import GROUPED, import_group
from accelsim.graph.import_host import import_host
from accelsim.graph.import_parts import IN_PARTS
from accelsim.graph.import_qonnx import import_qonnx_graph
from accelsim.graph.import_rearrange import REARRANGEMENTS
from accelsim.graph.import_reductions import REDUCTIONS
from accelsim.graph.ir import Graph, Node, verify
from accelsim.graph.normalise import NormalisedModel
from accelsim.graph.qdq_groups import find_groups
from accelsim.operators import Convolution, GlobalAveragePool, HostOperator, MatrixMultiply, Operator, Part, Softmax
from accelsim.tensors import TensorType

IMPORTERS: dict[str, Callable[[Context, NodeProto], Imported]] = {
    "QLinearConv": import_contractions.import_convolution,
    "QLinearMatMul": import_contractions.import_matmul,
    "QGemm": import_contractions.import_gemm,
    "MatMulIntegerToFloat": import_dynamic.import_matmul_to_float,
    "MatMulInteger": import_dynamic.import_matmul_integer,
    "ConvInteger": import_dynamic.import_convolution_integer,
    "DynamicQuantizeLinear": import_dynamic.import_dynamic_quantise,
    "DynamicQuantizeMatMul": import_dynamic.import_dynamic_matmul,
    "MatMulNBits": import_weight_only.import_matmul_n_bits,
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm"), import_weight_only.import_float_product),
    **dict.fromkeys(("Conv", "FusedConv"), import_weight_only.import_float_convolution),
    "QLinearAdd": import_elementwise.import_add,
    "QLinearMul": import_elementwise.import_multiply,
    "QLinearAveragePool": import_elementwise.import_average_pool,
    "QLinearGlobalAveragePool": import_elementwise.import_global_average_pool,
    "MaxPool": import_elementwise.import_max_pool,
    "QLinearSoftmax": import_elementwise.import_softmax,
    "QLinearSigmoid": import_elementwise.import_sigmoid,
    "QLinearLeakyRelu": import_elementwise.import_leaky_relu,
    "QLinearConcat": import_elementwise.import_quantised_concat,
    "QuantizeLinear": import_elementwise.import_quantise,
    "DequantizeLinear": import_elementwise.import_dequantise,
    "Reshape": import_movement.import_view,
    "Flatten": import_movement.import_view,
    "Squeeze": import_movement.import_view,
    "Unsqueeze": import_movement.import_view,
    "Identity": import_movement.import_view,
    "Transpose": import_movement.import_transpose,
    "Slice": import_movement.import_slice,
    "Split": import_movement.import_split,
    "Concat": import_movement.import_concat,
    **REARRANGEMENTS,
    **REDUCTIONS,
}


def import_graph(model: NormalisedModel) -> Graph:
    """Turn a normalised model into a verified graph of machine operators.

    Args:
        model: graph and types as onnxruntime wrote them.

    Raises:
        GraphError: the result contradicts onnxruntime's types.
    """
    if model.quantisers:
        return import_qonnx_graph(model, IMPORTERS)
    context = Context.build(model.proto, {**model.types, **model.inputs}, model.exposed.weights)
    groups = _import_groups(context)
    types = dict(context.types)
    grouped = [part for node in model.proto.graph.node for part in _import_node(context, node, groups, types)]
    outputs = tuple(value.name for value in model.proto.graph.output)
    nodes = fold_clamps(_without_unread(tuple(grouped), outputs), outputs)
    read = {name for node in nodes for name in node.inputs} | set(outputs)
    constants = {name: array for name, array in context.constants.items() if name in read}
    graph = Graph(tuple(model.inputs), outputs, types, constants, nodes)
    verify(graph)
    return graph


def _import_groups(context: Context) -> dict[str, Node | None]:
    """Import the float groups; returns, by output name, the node that replaces a group's last node, or None inside."""
    replaced: dict[str, Node | None] = {}
    for group in find_groups(context, GROUPED).values():
        core = group.core
        try:
            imported = import_group(context, group)
            _refuse_empty(context, core, imported.operator)
        except NotOnTheMachineError:
            continue
        label = core.name or core.output[0]
        exactness = "float-reference" if imported.float_reference else "exact"
        replaced.update((name, None) for name in group.inside)
        replaced[group.output_name] = Node(
            label, core.op_type, imported.operator, imported.inputs, (group.output_name,), exactness
        )
    return replaced


def _without_unread(nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> tuple[Node, ...]:
    """Drop the DequantizeLinear nodes whose results only exist inside of operators that read the codes."""
    read = {name for node in nodes for name in node.inputs} | set(outputs)
    return tuple(
        node for node in nodes if node.kind != "DequantizeLinear" or any(name in read for name in node.outputs)
    )


def _import_node(
    context: Context, node: NodeProto, groups: Mapping[str, Node | None], types: dict[str, TensorType]
) -> Iterator[Node]:
    """Import one node, falling back to a host operator when its importer declines; nothing when a group has it.

    The types of tensors that exist only between the parts of a node are added to `types`.
    """
    if node.output[0] in groups:
        grouped = groups[node.output[0]]
        if grouped is not None:
            yield grouped
        return
    try:
        importer = IN_PARTS.get((domain_of(node), node.op_type)) or IMPORTERS.get(node.op_type, import_host)
        with np.errstate(divide="ignore", invalid="ignore"):  # the average of no element, which is then declined
            imported = importer(context, node)
        _refuse_empty(context, node, imported.operator)
    except NotOnTheMachineError:
        imported = import_host(context, node)
    label = node.name or node.output[0]
    for prelude in imported.preludes:
        types.update(zip(prelude.outputs, prelude.types, strict=True))
        part_of = node.op_type if isinstance(prelude.operator, Part) else None
        parts = prelude.operator, prelude.inputs, prelude.outputs
        yield Node(f"{label}/{prelude.kind}", prelude.kind, *parts, part_of=part_of)
    yield Node(
        label, node.op_type, imported.operator, imported.inputs, tuple(filter(None, node.output)),
        part_of=node.op_type if _is_in_parts(imported.operator) else None,
    )  # fmt: skip


def _is_in_parts(operator: Operator) -> bool:
    """Tell whether an operator is the last part of a node whose values onnxruntime alone knows."""
    return isinstance(operator, HostOperator) and operator.part is not None


def _refuse_empty(context: Context, node: NodeProto, operator: Operator) -> None:
    """Leave sums over tensors without elements to onnxruntime: the array has nothing to do for them.

    Raises:
        NotOnTheMachineError: the result has no elements.
        UnsupportedModelError: it has, and each is a sum of nothing, for which onnxruntime leaves memory as it is.
    """
    product = operator.product or operator.part if isinstance(operator, HostOperator) else None
    sums = isinstance(operator, Convolution | MatrixMultiply | GlobalAveragePool | Softmax) or product is not None
    source, target = (context.types[name].elements for name in (node.input[0], next(filter(None, node.output))))
    if not sums or (source and target):
        return
    if target:
        label = printable(node.name or node.output[0])
        raise UnsupportedModelError(
            f"{node.op_type} '{label}' sums over an empty tensor, which onnxruntime leaves undefined: remove it"
        )
    raise NotOnTheMachineError("an empty tensor")
