"""All generators of models of one operator, by name: importing a module of them registers them."""

from __future__ import annotations

from tests.differential import single_contractions, single_elementwise, single_movement, single_pools
from tests.differential.registry import REGISTRY

MODULES = (single_contractions, single_elementwise, single_movement, single_pools)

__all__ = ["MODULES", "REGISTRY"]
