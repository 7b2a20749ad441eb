"""The smallest case of each bug that was found by hand, so that it stays found."""

from __future__ import annotations

import json

import pytest

import accelsim
from accelsim.arch import load_arch, parse_array
from accelsim.contraction import AccumulatorUse
from accelsim.graph.windows import window_geometry
from accelsim.result import _finite


def test_a_window_larger_than_its_input_is_invalid() -> None:
    """A kernel of 4 over 2 pixels is refused, not floored to an empty output."""
    with pytest.raises(accelsim.InvalidModelError, match="larger than its padded input"):
        window_geometry({}, (4,), (2,))


def test_sums_that_are_never_positive_need_no_extra_bit() -> None:
    """Partial sums from -128 to -128 fit 8 bits."""
    assert AccumulatorUse(8, -128, -128, 0).min_safe_bits == 8


def test_json_has_no_infinities() -> None:
    """NaN and infinities become null."""
    assert json.dumps(_finite({"a": [float("inf"), 1.5], "b": float("nan")})) == '{"a": [null, 1.5], "b": null}'


@pytest.mark.parametrize("text", ["1_6x16", "\uff11\uff16x16", "16x16x16", "", "16x", "True"])
def test_only_plain_numbers_are_array_shapes(text: str) -> None:
    """Spellings that Python's int() would take are not shapes."""
    with pytest.raises(accelsim.UsageError, match="not an array shape"):
        parse_array(text)


@pytest.mark.parametrize(
    "setting", ["clock.ghz=5e-324", "array.rows=" + "9" * 5000, "array.rows=" + "[" * 5000, "array.rows=8\ncols=2"]
)
def test_absurd_settings_are_usage_errors(setting: str) -> None:
    """Settings that make a TOML parser stumble end in one sentence."""
    with pytest.raises(accelsim.UsageError):
        load_arch(settings=(setting,))
