"""Dynamic quantisation: integer products whose scales and zero points are known at run time only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, Prelude, attributes
from accelsim.graph.importers.contractions import import_product, make_weights, with_runtime
from accelsim.graph.importers.windows import convolution_window
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import Convolution, DynamicQuantise, MatrixMultiply, Raw, Rescale
from accelsim.operators.tensors import TensorType


def import_dynamic_quantise(context: Context, node: NodeProto) -> Imported:
    """DynamicQuantizeLinear: x; gives codes, scale, zero point."""
    if context.types[node.input[0]].dtype != np.float32 or not all(node.output):
        raise NotOnTheMachineError("not float32 to codes, scale and zero point")
    return Imported(DynamicQuantise(), (node.input[0],))


def import_matmul_integer(context: Context, node: NodeProto) -> Imported:
    """MatMulInteger: a, b [, z_a [, z_b]]; the accumulators leave as int32."""
    return import_product(context, node, second=1, zero_points=(2, 3), epilogue=Raw())


def import_convolution_integer(context: Context, node: NodeProto) -> Imported:
    """ConvInteger: x, w [, z_x [, z_w]]; the accumulators leave as int32."""
    attribute = attributes(node)
    weights = context.constant(node, 1)
    geometry, depth = convolution_window(attribute, weights.shape[2:], context.types[node.input[0]].shape[2:])
    late = context.computed_scalar(node, 2)
    code = context.code(node.input[0], 0 if late else context.zero_point(node, 2))
    values = make_weights(weights.reshape(weights.shape[0], -1), context.optional(node, 3), None)
    operator = Convolution(geometry, int(attribute.get("group", 1)), values, code, Raw(), depth)
    return with_runtime(operator, [node.input[0]], zero_point=late)


def import_matmul_to_float(context: Context, node: NodeProto) -> Imported:
    """MatMulIntegerToFloat: a, b, s_a, s_b, z_a, z_b [, bias]; y = fl32(fl32(A) * fl32(s_a * s_b)) [+ bias]."""
    late, late_second = context.computed_scalar(node, 2), context.computed_scalar(node, 3)
    scales = np.ones(1, np.float32) if late_second else context.scales(node, 3)
    scale = scales if late else context.scale(node, 2) * scales
    epilogue = Rescale(scale, _float_bias(context, node, 6))
    imported = import_product(context, node, second=1, zero_points=(4, 5), epilogue=epilogue)
    if not isinstance(imported.operator, MatrixMultiply):
        raise NotOnTheMachineError("not a product")
    return with_runtime(imported.operator, imported.inputs, scale=late, second_scale=late_second)


def import_dynamic_matmul(context: Context, node: NodeProto) -> Imported:
    """DynamicQuantizeMatMul: a, b, s_b [, z_b [, bias]]: a is quantised first, then multiplied as integers."""
    source = node.input[0]
    if not context.types[source].shape:
        raise NotOnTheMachineError("an operand that is one number")
    late_scale = context.computed_scalar(node, 2)
    scales = np.ones(1, np.float32) if late_scale else context.scales(node, 2)
    epilogue = Rescale(scales, _float_bias(context, node, 4))
    imported = import_product(context, node, second=1, zero_points=(None, 3), epilogue=epilogue)
    product = imported.operator
    if not isinstance(product, MatrixMultiply):
        raise NotOnTheMachineError("not a product")
    label = node.output[0]
    names = tuple(context.fresh(f"{label}/{part}") for part in ("codes", "scale", "zero_point"))
    shapes = context.types[source].shape, (), ()
    types = tuple(TensorType.of(kind, shape) for kind, shape in zip(("u1", "f4", "u1"), shapes, strict=True))
    prelude = Prelude("DynamicQuantizeLinear", DynamicQuantise(), (source,), names, types)
    read = [names[0], *imported.inputs[1:]]
    imported = with_runtime(product, read, zero_point=names[2], scale=names[1], second_scale=late_scale)
    return Imported(imported.operator, imported.inputs, (prelude,))


def _float_bias(context: Context, node: NodeProto, position: int) -> NDArray[np.float32] | None:
    """Return a float bias as a vector."""
    bias = context.optional(node, position)
    return None if bias is None else bias.reshape(-1).astype(np.float32)
