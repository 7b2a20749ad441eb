"""The bar over the layers of a model: on terminals, and only once there is a count."""

from __future__ import annotations

import io
import sys

import pytest

from accelsim.progress import layer_progress


class Terminal(io.StringIO):
    """A stderr that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_no_bar_before_the_count_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn before the first layer is done; then numbers."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with layer_progress("model.onnx") as report:
        assert report is not None
        assert terminal.getvalue() == ""
        report("first", 1, 3)
        assert "1/3" in terminal.getvalue()
    assert "None" not in terminal.getvalue()


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_work_that_ends_before_its_first_layer(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """An error in between leaves nothing on the terminal either."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", kind)
    with pytest.raises(ValueError, match="no layers"), layer_progress("model.onnx"):
        raise ValueError("no layers")
    assert terminal.getvalue() == ""
