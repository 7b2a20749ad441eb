"""JSON as results and reports write it: equal data gives equal bytes."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(data: Any) -> str:
    """Return plain data as JSON: sorted keys, null for NaN and infinities, so that equal data gives equal bytes."""
    return json.dumps(_finite(data), sort_keys=True, indent=2, allow_nan=False) + "\n"


def _finite(data: Any) -> Any:
    """Replace NaN and infinities by null, which JSON lacks."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
