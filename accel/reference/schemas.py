"""What onnxruntime itself says about the operators that it knows, and about its version."""

from __future__ import annotations

from functools import cache
from typing import Any

# The domain of onnxruntime's own operators, in which onnx looks for no schema.
CONTRIBUTED = "com.microsoft"

_NARROW = {f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (2, 4, 8)}
_CODES = _NARROW | {"tensor(int16)", "tensor(uint16)", "tensor(int32)"}


def version() -> str:
    """Return the version of onnxruntime."""
    import onnxruntime

    return str(onnxruntime.__version__)


@cache
def contributed_operators() -> frozenset[tuple[str, str]] | None:
    """Return (domain, name) of the operators that onnxruntime knows; None when it does not tell."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    if not hasattr(runtime, "get_all_operator_schema"):
        return None
    return frozenset((schema.domain, schema.name) for schema in runtime.get_all_operator_schema())


@cache
def operators_on_codes() -> frozenset[str]:
    """Return the names of onnxruntime's own operators that have an input which takes codes and nothing else."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    if not hasattr(runtime, "get_all_operator_schema"):
        return frozenset()
    return frozenset(
        schema.name
        for schema in runtime.get_all_operator_schema()
        if schema.domain == CONTRIBUTED and _takes_codes(schema)
    )


def _takes_codes(schema: Any) -> bool:
    """Tell whether a schema has an input of nothing but codes."""
    allowed = {part.type_param_str: {*part.allowed_type_strs} for part in schema.type_constraints}
    kinds = [allowed.get(value.typeStr, {value.typeStr}) for value in schema.inputs]
    return any(kind <= _CODES and not kind.isdisjoint(_NARROW) for kind in kinds)
