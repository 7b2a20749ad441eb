"""Importers of float groups: contractions as ideal integers, unary functions as tables, float32 pairs, pads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context, attributes
from accelsim.graph.importers.host import apply_unary
from accelsim.graph.importers.products import PRODUCTS
from accelsim.graph.importers.vector_groups import VECTOR_GROUPS, import_chain
from accelsim.graph.quantised.analysis import Quantisation
from accelsim.graph.quantised.groups import Group, GroupImport, quantised_operand
from accelsim.graph.quantised.quantiser import all_codes, dequantise_codes, quantise_values
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import (
    CodeFormat,
    FloatBinary,
    FloatOperand,
    TableLookup,
)

IntArray = NDArray[np.generic]
Floats = NDArray[np.float32]

# Unary operators whose float kernel gives the same bits at every position of a tensor, so that a table of all codes
# holds what onnxruntime computes (ONNX Runtime semantics, section 6).
TABULATED = frozenset(
    {
        "Sigmoid", "Tanh", "Erf", "Exp", "Sqrt", "Gelu", "QuickGelu", "Relu", "Clip", "Abs", "HardSigmoid", "HardSwish",
        "Reciprocal", "Neg", "Floor", "Ceil", "Round", "Softsign", "LeakyRelu", "Sinh", "Asinh", "Acosh", "Atanh",
        "Tan", "Sign", "ThresholdedRelu", "Shrink",
    }
)  # fmt: skip
BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"})


def import_group(context: Context, found: Quantisation, group: Group) -> GroupImport:
    """Put one group on the machine.

    Raises:
        NotOnTheMachineError: the group has something that the machine cannot do exactly enough.
    """
    if group.core.op_type in PRODUCTS:
        return PRODUCTS[group.core.op_type](context, found, group)
    importer = _IMPORTERS.get(group.core.op_type)
    if importer is None:
        raise NotOnTheMachineError(group.core.op_type)
    return importer(context, group)


def _table(context: Context, group: Group) -> GroupImport:
    """A unary function: onnxruntime's own float kernel on all codes, then the quantiser."""
    source, code = quantised_operand(context, group, 0)
    values = _apply(context, group.core, dequantise_codes(all_codes(code.dtype), source.scale, code.zero_point))
    if group.bounds is not None:
        values = np.clip(values, np.float32(group.bounds[0]), np.float32(group.bounds[1]))
    table = quantise_values(values, group.output_scale, group.output)
    return GroupImport(TableLookup(group.core.op_type.lower(), table), (source.name,), False)


def _apply(context: Context, core: NodeProto, values: Floats) -> Floats:
    """Run a unary node alone on values; its other inputs must be constant."""
    extra = [name for name in core.input[1:] if name]
    if any(name not in context.tensors for name in extra):
        raise NotOnTheMachineError("parameters that are not constant")
    return apply_unary(core, values, context.proto.opset_import, [context.tensors[name] for name in extra])


def _power(context: Context, group: Group) -> GroupImport:
    """Pow by a constant scalar; the cube is left out, since its rounding depends on the element's position."""
    exponent = context.constant(group.core, 1)
    if exponent.size != 1 or exponent.ndim > 1 or float(exponent.reshape(-1)[0]) == 3.0:
        raise NotOnTheMachineError("an exponent that is 3 or no scalar")
    return _table(context, group)


def _binary(context: Context, group: Group) -> GroupImport:
    """Add, Sub, Mul, Div, Max, Min: dequantise both, one float32 operation, quantise.

    ONNX Runtime semantics, section 3.9.
    """
    core = group.core
    if core.op_type in ("Max", "Min") and len(core.input) > 2:
        return import_chain(context, group)
    if (
        len([name for name in core.input if name]) != 2
        or group.bounds is not None
        or attributes(core).get("activation")
    ):
        raise NotOnTheMachineError("not two operands")
    operands, names = [], []
    for position, name in enumerate(core.input):
        source = group.sources.get(position)
        if source is None and name not in context.constants:
            raise NotOnTheMachineError("an operand that is neither quantised nor constant")
        if source is None:
            operands.append(FloatOperand(None, np.float32(1)))
            names.append(name)
        else:
            code = CodeFormat(context.types[source.name].dtype, int(source.zero_points[0]))
            operands.append(FloatOperand(code, source.scale))
            names.append(source.name)
    operator = FloatBinary(core.op_type, operands[0], operands[1], group.output_scale, group.output)
    return GroupImport(operator, tuple(names), False)


_IMPORTERS: dict[str, Callable[[Context, Group], GroupImport]] = {
    **dict.fromkeys(TABULATED, _table),
    **dict.fromkeys(BINARY, _binary),
    "Pow": _power,
    **VECTOR_GROUPS,
}

GROUPED = frozenset(_IMPORTERS) | frozenset(PRODUCTS)
