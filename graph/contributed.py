"""Operators that onnxruntime adds to ONNX, some of them in the standard domain, where onnx does not know them."""

from __future__ import annotations

from functools import cache
from typing import Any

from onnx import ModelProto, defs, helper

# Where onnx looks for no schema, so that it leaves these operators to onnxruntime.
_CONTRIBUTED = "com.microsoft"
# The other name of the standard domain, which is "".
_SPELLED = "ai.onnx"

_NARROW = {f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (2, 4, 8)}
_CODES = _NARROW | {"tensor(int16)", "tensor(uint16)", "tensor(int32)"}


@cache
def contributed_operators() -> frozenset[tuple[str, str]] | None:
    """Return (domain, name) of the operators that onnxruntime knows; None when it does not tell."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    if not hasattr(runtime, "get_all_operator_schema"):
        return None
    return frozenset((schema.domain, schema.name) for schema in runtime.get_all_operator_schema())


def unify_standard_domain(proto: ModelProto) -> None:
    """Write the standard domain as "" where the main graph spells it "ai.onnx", as onnxruntime reads it there.

    Branches and local functions are left as they are: onnxruntime refuses it in them.

    Args:
        proto: a model whose texts were checked, changed in place.
    """
    if any(function.domain == _SPELLED for function in proto.functions):  # then it names these functions
        return
    for node in proto.graph.node:
        if node.domain == _SPELLED:
            node.domain = ""
    if all(entry.domain for entry in proto.opset_import):
        for entry in proto.opset_import:
            if entry.domain == _SPELLED:
                entry.domain = ""


@cache
def operators_on_codes() -> frozenset[str]:
    """Return the names of onnxruntime's own operators that have an input which takes codes and nothing else."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    if not hasattr(runtime, "get_all_operator_schema"):
        return frozenset()
    return frozenset(
        schema.name
        for schema in runtime.get_all_operator_schema()
        if schema.domain == _CONTRIBUTED and _takes_codes(schema)
    )


def _takes_codes(schema: Any) -> bool:
    """Tell whether a schema has an input of nothing but codes."""
    allowed = {part.type_param_str: {*part.allowed_type_strs} for part in schema.type_constraints}
    kinds = [allowed.get(value.typeStr, {value.typeStr}) for value in schema.inputs]
    return any(kind <= _CODES and not kind.isdisjoint(_NARROW) for kind in kinds)


def has_contributed(proto: ModelProto) -> bool:
    """Tell whether a model holds operators of onnxruntime's own in the standard domain."""
    return any(not node.domain and not defs.has(node.op_type, "") for node in proto.graph.node)


def move_contributed(proto: ModelProto) -> None:
    """Put operators that onnx does not know into onnxruntime's own domain, so that onnx can check all others.

    Args:
        proto: a copy of a model, changed in place.
    """
    if not has_contributed(proto):
        return
    for node in proto.graph.node:
        if not node.domain and not defs.has(node.op_type, ""):
            node.domain = _CONTRIBUTED
    if all(entry.domain != _CONTRIBUTED for entry in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid(_CONTRIBUTED, 1))
