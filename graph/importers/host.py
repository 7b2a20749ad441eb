"""Host operators: a node cut out of the normalised graph, to be run alone by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, OperatorSetIdProto, TensorProto, helper

from accelsim.graph.context import Context, Imported, attributes
from accelsim.graph.importers.host_macs import host_macs
from accelsim.operators import FloatProduct, HostOperator, Part
from accelsim.reference.host import run_host_operator


def import_host(
    context: Context,
    node: NodeProto,
    *before: NodeProto,
    product: FloatProduct | None = None,
    part: Part | None = None,
    priced: tuple[str, ...] = (),
) -> Imported:
    """Wrap any node as a one-node model; what is constant in the graph stays an initialiser.

    ONNX Runtime semantics, section 6, says why.

    Args:
        context: the normalised graph.
        node: the node.
        before: nodes that only it reads and that belong to it on the machine.
        product: see HostOperator.
        part: what it is priced as, where it is the last part of a node.
        priced: what that part reads.
    """
    inside = {name for part in before for name in part.output}
    names = list(dict.fromkeys(name for part in (*before, node) for name in part.input if name and name not in inside))
    dynamic = [name for name in names if name not in context.constants]
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(context.types[name].dtype), context.types[name].shape
        )
        for name in dynamic
    ]
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [*before, node],
        "host",
        inputs,
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [context.tensors[name] for name in names if name in context.constants],
    )
    model = helper.make_model(
        graph, opset_imports=context.proto.opset_import, ir_version=min(context.proto.ir_version, 10)
    )
    constants = tuple(context.types[name] for name in names if name in context.constants)
    operator = HostOperator(
        node.op_type,
        model.SerializeToString(),
        tuple(dynamic),
        tuple(outputs),
        constants,
        product,
        0 if part is not None else host_macs(context, node),
        part,
        len(priced),
        _steps(context, node),
    )
    return Imported(operator, (*priced, *dynamic))


def _steps(context: Context, node: NodeProto) -> NDArray[np.float32] | None:
    """Return the constant scales of DequantizeLinear in a shape that broadcasts against what it gives."""
    if node.op_type != "DequantizeLinear" or node.input[1] not in context.constants:
        return None
    scales = context.constants[node.input[1]].astype(np.float32)
    shape, attribute = context.types[node.output[0]].shape, attributes(node)
    if scales.size == 1 or not shape:
        return scales.reshape(-1)[:1].reshape(())
    axis = int(attribute.get("axis", 1)) % len(shape)
    block = int(attribute.get("block_size", 0))
    if block:
        return scales.repeat(min(block, shape[axis]), axis)[(slice(None),) * axis + (slice(shape[axis]),)]
    return scales.reshape([-1 if place == axis else 1 for place in range(len(shape))])


def apply_unary(
    node: NodeProto,
    values: NDArray[np.float32],
    opsets: Sequence[OperatorSetIdProto],
    constants: Sequence[TensorProto] = (),
) -> NDArray[np.float32]:
    """Run one unary float node alone in onnxruntime, to tabulate it.

    Args:
        node: the node; its other inputs are among the constants.
        values: what its first input is fed.
        opsets: versions of the operators.
        constants: its other inputs.
    """
    alone = NodeProto()
    alone.CopyFrom(node)
    alone.input[0], alone.output[0] = "table_in", "table_out"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(values.shape)) for name in ("table_in", "table_out")
    ]
    graph = helper.make_graph([alone], "table", ends[:1], ends[1:], list(constants))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    operator = HostOperator(node.op_type, model, ("table_in",), ("table_out",))
    return run_host_operator(operator, [values])[0].astype(np.float32)
