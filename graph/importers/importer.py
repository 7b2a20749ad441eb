"""The normalised ONNX graph to the typed integer graph: one integer node, one operator of the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.errors import UnsupportedModelError, printable
from accelsim.graph.context import MATRIX_PRODUCTS, Context, Imported
from accelsim.graph.importers import (
    contractions as import_contractions,
    dynamic as import_dynamic,
    elementwise as import_elementwise,
    movement as import_movement,
    weight_only as import_weight_only,
)
from accelsim.graph.importers.channels_first import ChannelsFirst, with_channels_first
from accelsim.graph.importers.fold_clamps import fold_clamps
from accelsim.graph.importers.fuse_epilogues import fuse_epilogues
from accelsim.graph.importers.groups import GROUPED, import_group
from accelsim.graph.importers.host import import_host
from accelsim.graph.importers.host_macs import domain_of
from accelsim.graph.importers.parts import IN_PARTS
from accelsim.graph.importers.rearrange import REARRANGEMENTS
from accelsim.graph.importers.reductions import REDUCTIONS
from accelsim.graph.ir import Graph, Node, verify, with_widths
from accelsim.graph.load.constraints import node_label
from accelsim.graph.load.operator_checks import BLOCKED_DOMAIN
from accelsim.graph.normalise.block_quantisation import asks_for_int8
from accelsim.graph.normalise.normalise import NormalisedModel
from accelsim.graph.normalise.source import Source
from accelsim.graph.qonnx.importer import import_qonnx_graph
from accelsim.graph.quantised.analysis import Quantisation, analyse
from accelsim.graph.quantised.groups import CONTRACTIONS, Group, GroupImport, find_groups
from accelsim.graph.quantised.rules import RULES, file_limits
from accelsim.graph.quantised.share_quantisers import share_quantisers
from accelsim.graph.quantised.spelled_constants import take_spelled_constants
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import (
    Convolution,
    GlobalAveragePool,
    HostOperator,
    MatrixMultiply,
    Operator,
    Part,
    Softmax,
    View,
)
from accelsim.operators.uniform import Decoding, Permuted

# What constants alone decide and has more elements than this is computed in every run, rather than stored as floats.
_LARGEST_CONSTANT = 1 << 18

Array = NDArray[np.generic]

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
    **dict.fromkeys(MATRIX_PRODUCTS, import_weight_only.import_float_product),
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
    "Clip": import_elementwise.import_clip,
    **import_movement.VIEWS,
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
    rewritten = with_channels_first(model.proto, {**model.types, **model.inputs})
    context = Context.build(rewritten.proto, rewritten.types, model.exposed.weights)
    context.limits.update(_limits(model, rewritten))
    found = analyse(context, RULES, lambda known: take_spelled_constants(known, Source.of(model)))
    context.quantised.update(found.tensors)
    groups, recast = _import_groups(context, found, _own_blocks(model))
    nodes = [
        part
        for node in context.proto.graph.node
        for part in (*_explained(found, node, _import_node(context, node, groups)), *_derived(found, node))
    ]
    outputs = tuple(value.name for value in model.proto.graph.output)
    nodes = _without_constant(nodes, outputs, found)
    kept = share_quantisers(_without_unread(nodes, outputs), outputs)
    kept = fuse_epilogues(fold_clamps(kept, outputs), outputs, context)
    kept = _without_unread(kept, outputs)
    read = {name for node in kept for name in node.inputs} | set(outputs)
    constants = {name: array for name, array in context.constants.items() if name in read}
    written = {name for node in kept for name in node.outputs}
    decodings: dict[str, Decoding | Permuted] = {**found.decodings, **rewritten.views}
    decodings = {name: known for name, known in decodings.items() if name in written}
    types = with_widths(kept, context.types)
    graph = Graph(tuple(model.inputs), outputs, types, constants, kept, decodings, recast)
    verify(graph)
    return graph


def _limits(model: NormalisedModel, rewritten: ChannelsFirst) -> dict[str, tuple[int, int]]:
    """Return the limits of codes that the file states, for both layouts of a tensor."""
    limits = file_limits(model.source)
    return limits | {name: limits[view.tensor] for name, view in rewritten.views.items() if view.tensor in limits}


def _explained(found: Quantisation, node: NodeProto, parts: Iterator[Node]) -> Iterator[Node]:
    """Say of a product that onnxruntime computes why it is no product of codes."""
    for part in parts:
        if part.kind in CONTRACTIONS and isinstance(part.operator, HostOperator) and not part.remark:
            yield replace(part, remark=f"a float product: {_why_float(found, node)}")
        else:
            yield part


def _why_float(found: Quantisation, node: NodeProto) -> str:
    """Return the reason why a product is not one of codes."""
    if node.output[0] in found.reasons:
        return found.reasons[node.output[0]]
    for place, name in zip(("first", "second"), node.input, strict=False):
        if found.get(name) is None:
            reason = found.reasons.get(name)
            return f"its {place} operand holds floats" + (f" ({reason})" if reason else "")
    return "onnxruntime computes it"


def _derived(found: Quantisation, node: NodeProto) -> list[Node]:
    """Return the layers that make codes of what a node gives."""
    return [part for name in node.output if name for part in found.derived.get(name, ())]


def _own_blocks(model: NormalisedModel) -> frozenset[str]:
    """Return the weights that the file itself packs for MatMulNBits: what it asks of their activations is its own."""
    nodes = (node for node in model.source.graph.node if node.op_type == "MatMulNBits")
    return frozenset(node.input[1] for node in nodes)


def _import_groups(
    context: Context, found: Quantisation, own: frozenset[str]
) -> tuple[dict[str, list[Node]], frozenset[str]]:
    """Import the float groups.

    Returns:
        By the output that a node of the graph writes, what stands in its place; and outputs of MatMulNBits that are
        products of codes here.
    """
    replaced: dict[str, list[Node]] = {}
    recast = set()
    for group in find_groups(context, found, GROUPED).values():
        core = group.core
        blocks = core.op_type == "MatMulNBits"
        try:
            if blocks and core.input[1] in own and asks_for_int8(core):
                raise NotOnTheMachineError("the file asks for int8 activations in blocks")
            imported = import_group(context, found, group)
            _refuse_empty(context, core, imported.operator)
        except NotOnTheMachineError as reason:
            found.reasons[core.output[0]] = str(reason)
            continue
        replaced.update(_replacement(context, group.as_float() if imported.floating else group, imported))
        if blocks:
            recast.add(core.output[0])
    return replaced, frozenset(recast)


def _replacement(context: Context, group: Group, imported: GroupImport) -> dict[str, list[Node]]:
    """Return the nodes of one group by the output of the node that they replace; inside of it, none."""
    core, ending = group.core, group.ending
    label = node_label(core)
    exactness = "float-reference" if imported.float_reference else "exact"
    target = core.output[0] if ending is None else ending.name
    result = imported.result or target
    nodes = [Node(label, core.op_type, imported.operator, imported.inputs, (result,), exactness, imported.remark)]
    for step in imported.steps:
        last = step.outputs[0] == target
        nodes.append(
            Node(
                f"{label}/{step.kind}", step.kind, step.operator, step.inputs, step.outputs,
                exactness if last else "exact",
            )
        )  # fmt: skip
    replaced: dict[str, list[Node]] = {name: [] for name in group.inside}
    replaced[target] = nodes
    for alias in () if ending is None else ending.aliases:
        view = View(context.types[alias].shape)
        replaced[alias] = [Node(f"{label}/{alias}", "Identity", view, (target,), (alias,))]
    return replaced


def _without_constant(nodes: Sequence[Node], outputs: tuple[str, ...], found: Quantisation) -> list[Node]:
    """Drop what constants alone decide, as far as the results are not large; the machine is given them."""
    context, kept, values = found.context, [], dict[str, Array]()
    for node in nodes:
        fixed = bool(node.inputs) and all(name in context.constants or name in values for name in node.inputs)
        small = all(context.types[name].elements <= _LARGEST_CONSTANT for name in node.outputs)
        if fixed and small and not set(node.outputs) & set(outputs):
            known = {name: value for name in node.outputs if (value := found.folder.value(name)) is not None}
            if len(known) == len(node.outputs):
                values.update(known)
                continue
        kept.append(node)
    context.constants.update(values)
    return kept


def _without_unread(nodes: Sequence[Node], outputs: tuple[str, ...]) -> tuple[Node, ...]:
    """Drop what nothing reads, such as the floats between operators that read codes."""
    read = set(outputs)
    kept = []
    for node in reversed(nodes):
        if any(name in read for name in node.outputs):
            kept.append(node)
            read.update(node.inputs)
    return tuple(reversed(kept))


def _import_node(context: Context, node: NodeProto, groups: Mapping[str, list[Node]]) -> Iterator[Node]:
    """Import one node, falling back to a host operator when its importer declines; a group's part where it is one.

    The types of tensors that exist only between the parts of a node are added to those of the context.
    """
    if node.output[0] in groups:
        yield from groups[node.output[0]]
        return
    if all(name in context.constants for name in node.output if name):  # known before the run
        return
    reason = "the machine has no such operator"
    try:
        importer = IN_PARTS.get((domain_of(node), node.op_type)) or IMPORTERS.get(node.op_type, import_host)
        importer = import_host if node.domain == BLOCKED_DOMAIN else importer
        with np.errstate(divide="ignore", invalid="ignore"):  # the average of no element, which is then declined
            imported = importer(context, node)
        _refuse_empty(context, node, imported.operator)
    except NotOnTheMachineError as declined:
        imported, reason = import_host(context, node), str(declined)
    label = node_label(node)
    for prelude in imported.preludes:
        context.types.update(zip(prelude.outputs, prelude.types, strict=True))
        part_of = node.op_type if isinstance(prelude.operator, Part) else None
        parts = prelude.operator, prelude.inputs, prelude.outputs
        yield Node(f"{label}/{prelude.kind}", prelude.kind, *parts, part_of=part_of)
    yield Node(
        label, node.op_type, imported.operator, imported.inputs, tuple(filter(None, node.output)),
        remark=f"left to onnxruntime: {reason}" if _multiplies(imported.operator, node) else "",
        part_of=node.op_type if _is_in_parts(imported.operator) else None,
    )  # fmt: skip


def _multiplies(operator: Operator, node: NodeProto) -> bool:
    """Tell whether onnxruntime multiplies and accumulates where the array might, products of floats left aside."""
    if not isinstance(operator, HostOperator) or operator.product is not None or operator.part is not None:
        return False
    return operator.macs != 0 and node.op_type not in CONTRACTIONS


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
        label = printable(node_label(node))
        raise UnsupportedModelError(
            f"{node.op_type} '{label}' sums over an empty tensor, which onnxruntime leaves undefined: remove it"
        )
    raise NotOnTheMachineError("an empty tensor")
