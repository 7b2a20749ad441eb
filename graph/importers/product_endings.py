"""What follows the accumulators of a product of codes: a requantiser, or a float result and what is fused with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from accelsim.graph.context import Context, Imported, Prelude, attributes
from accelsim.graph.importers.contractions import output_scale, with_runtime
from accelsim.graph.importers.host import import_host
from accelsim.graph.quantised.analysis import Quantisation
from accelsim.graph.quantised.groups import Group, GroupImport
from accelsim.graph.quantised.quantiser import quantise_values
from accelsim.graph.quantised.tensor import NotOnTheMachineError, QuantisedTensor
from accelsim.operators import CodeFormat, Contraction, Epilogue, Requantise, Rescale, View
from accelsim.operators.tensors import TensorType
from accelsim.operators.vector import FloatArithmetic

Floats = NDArray[np.float32]
Bounds = tuple[float, float]

# Attributes of the float operators that onnxruntime's fused activations stand for, in the order of activation_params.
_ACTIVATIONS = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}


@dataclass(frozen=True, eq=False)
class Operands:
    """What a contraction multiplies."""

    first: QuantisedTensor
    """Quantised activations."""
    code: CodeFormat
    """Their format."""
    scales: Floats
    """Of one accumulator, one or one per column."""
    columns: int
    bias: NDArray[np.float64] | None
    """Float constant, one per column, or None."""


def constant_bias(found: Quantisation, core: NodeProto, position: int, columns: int) -> NDArray[np.float64] | None:
    """Return a constant bias, one value per column; None without one.

    Raises:
        NotOnTheMachineError: it is computed, or no row.
    """
    name = core.input[position] if position < len(core.input) else ""
    if not name:
        return None
    values = found.folder.value(name) if found.folder.is_constant(name) else None
    if values is None:
        raise NotOnTheMachineError("a bias that is computed")
    if values.size not in (1, columns) or (values.ndim > 1 and values.shape[-1] != values.size):
        raise NotOnTheMachineError("a bias that is not one value per output channel")
    return np.broadcast_to(values.reshape(-1).astype(np.float64), (columns,))


def integer_bias(operands: Operands) -> NDArray[np.int32]:
    """Return the bias as int32 in units of the accumulator, rounded half to even as onnxruntime does.

    Args:
        operands: of the product (ONNX Runtime semantics, section 3.2).

    Raises:
        NotOnTheMachineError: it does not fit.
    """
    if operands.bias is None:
        return np.zeros(operands.columns, np.int32)
    with np.errstate(all="ignore"):
        counts = np.rint(operands.bias / np.broadcast_to(operands.scales, (operands.columns,)).astype(np.float64))
    if not (np.abs(counts) < 2**31).all():
        raise NotOnTheMachineError("a bias beyond int32")
    return counts.astype(np.int32)


@dataclass(frozen=True, eq=False)
class Added:
    """A tensor that is added to a product, and what is done to it before."""

    name: str = ""
    before: tuple[Prelude, ...] = ()


def gemm_bias(found: Quantisation, core: NodeProto, columns: int) -> tuple[NDArray[np.float64] | None, Added]:
    """Return the third operand of a Gemm, times beta, as a constant row, or else the tensor that is to be added."""
    beta = float(attributes(core).get("beta", 1.0))
    name = core.input[2] if len(core.input) > 2 else ""
    if not name or beta == 0:
        return None, Added()
    try:
        bias = constant_bias(found, core, 2, columns)
    except NotOnTheMachineError:
        return None, Added(name) if beta == 1 else _times(found, name, beta)
    return None if bias is None else bias * beta, Added()


def _times(found: Quantisation, name: str, beta: float) -> Added:
    """Return a matrix times beta: a constant at once, else as a step in front of the addition."""
    context, scaled = found.context, found.context.fresh(f"{name}/scaled")
    value = found.folder.value(name) if found.folder.is_constant(name) else None
    if value is not None:
        context.add_constant(scaled, value.astype(np.float32) * np.float32(beta))
        return Added(scaled)
    kind, factor = context.types[name], context.fresh(f"{name}/beta")
    context.add_constant(factor, np.array(beta, np.float32))
    context.add_type(scaled, kind)
    return Added(scaled, (Prelude("Mul", FloatArithmetic("Mul"), (name, factor), (scaled,), (kind,)),))


def channel_bias(
    found: Quantisation, core: NodeProto, position: int, columns: int
) -> tuple[NDArray[np.float64] | None, Added]:
    """Return the bias of a convolution as a constant row, or else as a tensor that is to be added, one per channel."""
    try:
        return constant_bias(found, core, position, columns), Added()
    except NotOnTheMachineError:
        context, name = found.context, core.input[position]
        if context.types[name].shape != (columns,):
            raise
        shape = (columns, *(1 for _ in context.types[core.output[0]].shape[2:]))
        view, kind = context.fresh(f"{name}/channels"), TensorType.of(context.types[name].dtype, shape)
        context.add_type(view, kind)
        return None, Added(view, (Prelude("Reshape", View(shape), (name,), (view,), (kind,)),))


def epilogue_of(group: Group, operands: Operands, scales: Floats, alpha: np.float32) -> Epilogue:
    """Build what follows the accumulators: a requantiser, or a scale and a bias to float32.

    Args:
        group: the group.
        operands: what is multiplied.
        scales: of the second operand.
        alpha: factor of the product.
    """
    first = np.float32(alpha * operands.first.scales[0])
    fused = _fused_bounds(group.core)
    if group.ending is None:
        bias = None if operands.bias is None else np.asarray(operands.bias, np.float32)
        return Rescale(np.asarray(first * scales, np.float32), bias, fused)
    code = group.ending.code
    lowest, highest = code.lowest, code.highest
    for bounds in (fused, group.bounds):
        if bounds is not None:
            edges = quantise_values(np.array(bounds, np.float32), group.ending.scale, code)
            lowest, highest = max(lowest, int(edges[0])), min(highest, int(edges[1]))
    if lowest > highest:
        raise NotOnTheMachineError("a clip that leaves nothing")
    return Requantise(output_scale(first, scales, group.ending.scale), code, lowest, highest)


def _activation(core: NodeProto) -> str:
    name: bytes = attributes(core).get("activation", b"")
    return name.decode()


def _fused_bounds(core: NodeProto) -> Bounds | None:
    """Return the clip that onnxruntime fused into a float operator, where nothing comes in between."""
    if len(core.input) > 3 and core.input[3]:
        return None
    if _activation(core) == "Relu":
        return 0.0, float("inf")
    if _activation(core) == "Clip":
        low, high = attributes(core)["activation_params"]
        return float(low), float(high)
    return None


def finish(
    context: Context,
    group: Group,
    operator: Contraction,
    names: list[str],
    first: QuantisedTensor,
    remark: str,
    added: Added | None = None,
    second: QuantisedTensor | None = None,
) -> GroupImport:
    """Attach parameters known at run time, and what follows a float result as layers of its own.

    Args:
        context: the normalised graph.
        group: the group.
        operator: the product.
        names: what it reads.
        first: its first operand.
        remark: what is multiplied, in words.
        added: a tensor that is added to the product.
        second: its second operand, where that is computed.
    """
    added = added or Added()
    if added.name and isinstance(operator.epilogue, Rescale):  # what clips does so behind the sum
        operator = replace(operator, epilogue=replace(operator.epilogue, bounds=None))
    late = {"zero_point": first.late_zero_point, "scale": first.late_scale}
    if second is not None:
        late |= {"second_zero_point": second.late_zero_point, "second_scale": second.late_scale}
    imported = with_runtime(operator, names, **late)
    product = imported.operator
    if group.ending is not None:
        if added.name or _activation(group.core) not in ("", "Relu", "Clip"):
            raise NotOnTheMachineError("something fused between the product and its quantiser")
        return GroupImport(product, imported.inputs, True, remark=f"{remark}, requantised")
    steps, result = _steps(context, group, added.name)
    return GroupImport(product, imported.inputs, True, result, (*added.before, *steps), f"{remark}, float32 result")


def _steps(context: Context, group: Group, extra: str) -> tuple[tuple[Prelude, ...], str]:
    """Return the layers behind a float result, and the name of what the product itself writes."""
    core = group.core
    target = core.output[0]
    kind = context.types[target]
    wanted: list[tuple[str, Callable[[str, str], Imported]]] = []
    if extra:
        wanted.append(("Add", lambda before, after: Imported(FloatArithmetic("Add"), (before, extra))))
    activation = _activation(core)
    if activation and (extra or _fused_bounds(core) is None):
        wanted.append((activation, lambda before, after: _alone(context, core, activation, before, after)))
    if kind.dtype == np.float16:
        cast = helper.make_node
        wanted.append(("Cast", lambda before, after: import_host(context, cast("Cast", [before], [after], to=10))))
    elif kind.dtype != np.float32:
        raise NotOnTheMachineError("a result that is neither float32 nor float16")
    steps: list[Prelude] = []
    names = [context.fresh(f"{target}/{step}") for step, _ in wanted]
    for name in names:
        context.add_type(name, TensorType.of(np.float32, kind.shape))
    for (step, build), before, after in zip(wanted, names, [*names[1:], target][: len(names)], strict=True):
        imported = build(before, after)
        steps.append(Prelude(step, imported.operator, imported.inputs, (after,), (context.types[after],)))
    return tuple(steps), names[0] if names else ""


def _alone(context: Context, core: NodeProto, activation: str, before: str, after: str) -> Imported:
    """Return a fused activation as an operator of its own."""
    attribute = attributes(core)
    given = list(attribute.get("activation_params", ()))
    given = given or [
        attribute[f"activation_{name}"] for name in ("alpha", "beta", "gamma") if f"activation_{name}" in attribute
    ]
    if activation == "Clip":
        raise NotOnTheMachineError("a fused Clip behind a sum")
    if activation not in _ACTIVATIONS:
        raise NotOnTheMachineError(f"a fused {activation}")
    parameters = dict(zip(_ACTIVATIONS[activation], given, strict=False))
    return import_host(context, helper.make_node(activation, [before], [after], **parameters))
