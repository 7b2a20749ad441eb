"""What operators cost the vector unit: the packaged table, read once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

Events = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class VectorCost:
    """One row of data/vector_unit.toml; finish: charged once per output, or per row of a float operator."""

    per: str
    lane_operations: int
    events: Events
    finish: Events = ()


@cache
def vector_costs() -> tuple[Mapping[str, VectorCost], Mapping[str, VectorCost]]:
    """Read the packaged table: costs by operator class, and costs of float operators by ONNX name."""
    text = (resources.files("accelsim") / "data" / "vector_unit.toml").read_text("utf-8")
    table = tomllib.loads(text)
    host = table.pop("host")
    machine = {name: _cost(row) for name, row in table.items()}
    simple = {"per": host["per"], "lane_operations": host["lane_operations"]}
    floats = {name: _cost(simple | {"events": events}) for name, events in host["events"].items()}
    return machine, floats | {name: _cost(row) for name, row in host["costs"].items()}


def _cost(row: Mapping[str, object]) -> VectorCost:
    """Read one row."""
    events, finish = row["events"], row.get("finish", {})
    assert isinstance(events, dict) and isinstance(finish, dict)  # noqa: S101, PT018 - narrows the packaged table
    return VectorCost(str(row["per"]), int(str(row["lane_operations"])), tuple(events.items()), tuple(finish.items()))
