"""Without Verilator the RTL tests skip with a sentence, and fail where they are required."""

from __future__ import annotations

import pytest

from tests.rtl import tools


def test_a_missing_tool_is_a_visible_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the tool and how to install it."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("ACCEL_SIM_REQUIRE_RTL", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"install verilator \(apt-get install verilator\)"):
        tools.require("verilator")


def test_a_missing_tool_is_a_failure_where_rtl_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """ACCEL_SIM_REQUIRE_RTL=1 turns the skip into a failure."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("ACCEL_SIM_REQUIRE_RTL", "1")
    with pytest.raises(pytest.fail.Exception, match="RTL equivalence not run"):
        tools.require("verilator")
