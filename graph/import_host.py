"""Host operators: a node cut out of the normalised graph, to be run alone by onnxruntime."""

from __future__ import annotations

from onnx import NodeProto, helper

from accelsim.graph.context import Context, Imported
from accelsim.operators import HostOperator


def import_host(context: Context, node: NodeProto) -> Imported:
    """Wrap any node as a one-node model; what is constant in the graph stays an initialiser (semantics, section 6)."""
    names = list(dict.fromkeys(filter(None, node.input)))
    dynamic = [name for name in names if name not in context.constants]
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(context.types[name].dtype), context.types[name].shape
        )
        for name in dynamic
    ]
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "host",
        inputs,
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [context.tensors[name] for name in names if name in context.constants],
    )
    model = helper.make_model(
        graph, opset_imports=context.proto.opset_import, ir_version=min(context.proto.ir_version, 10)
    )
    constants = tuple(context.types[name] for name in names if name in context.constants)
    operator = HostOperator(node.op_type, model.SerializeToString(), tuple(dynamic), tuple(outputs), constants)
    return Imported(operator, tuple(dynamic))
