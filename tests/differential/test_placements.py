"""Quantisers where other tools put them: no false statement, and every product of codes an integer product.

The judge is a session on the file's own bytes that shares no code with the project's reference. More of the same:
python -m tests.generator.placements FIRST COUNT.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.generator.placements import draw_placed, judge_placed
from tests.tiers import few

CHUNKS, EACH = 6, 25


@pytest.mark.parametrize("chunk", few(range(CHUNKS), 1))
def test_what_is_said_of_networks_with_other_quantisers_is_true(chunk: int) -> None:
    """Verdicts equal what a session on the bytes says, and all multiply-accumulates are integer ones."""
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        assert judge_placed(draw_placed(seed)) == [], seed


def test_the_judge_finds_products_that_are_missing() -> None:
    """A network with one product more than was run."""
    case = draw_placed(3)
    assert "MACs are integer" in judge_placed(replace(case, macs=case.macs + 1))[0]
