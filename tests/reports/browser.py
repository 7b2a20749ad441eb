"""Headless Chromium over the pipe of its DevTools protocol: no port, no driver; what it says is kept."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-dev-shm-usage",
    "--disable-default-apps", "--mute-audio", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE_SECONDS = 60
# The protocol's pipe is read on descriptor 3 and written on descriptor 4.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


def chromium() -> str:
    """Return the browser, or skip; where ACCEL_SIM_REQUIRE_BROWSER=1, its absence is a failure."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("ACCEL_SIM_REQUIRE_BROWSER") == "1":
            pytest.fail("ACCEL_SIM_REQUIRE_BROWSER=1, and there is no Chromium: apt-get install chromium")
        pytest.skip("no Chromium: apt-get install chromium")
    return found


@dataclass
class Seen:
    """What a page did: URLs asked for, console messages, exceptions and policy violations."""

    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


class Browser:
    """One Chromium with one page."""

    def __init__(self, folder: Path) -> None:
        program = chromium()
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        environment = os.environ | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), program, *OPTIONS,
             f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in = ours_out, ours_in
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.seen = Seen()
        self._events: list[str] = []

    def __enter__(self) -> Browser:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "Security"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])
            self._note(answer)

    def open(self, path: Path, *, width: int = 1200, height: int = 900) -> None:
        """Load a file and wait until everything it asks for is there."""
        self.seen, self._events = Seen(), []
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._note(self._receive())
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page; what the page throws, this throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """Return the window as PNG."""
        import base64

        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def _receive(self) -> dict[str, Any]:
        """Wait for one message."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "Chromium does not answer"
            data = os.read(self._in, 1 << 16)
            assert data, "Chromium has gone"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what a page does and says."""
        method, details = event.get("method", ""), event.get("params", {})
        self._events.append(method)
        if method == "Network.requestWillBeSent":
            self.seen.requests.append(details["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.seen.messages.append(f"console.{details['type']}: {details['args']}")
        elif method == "Runtime.exceptionThrown":
            self.seen.messages.append(f"exception: {details['exceptionDetails']}")
        elif method == "Log.entryAdded":
            self.seen.messages.append(f"{details['entry']['level']}: {details['entry']['text']}")


def overlaps(browser: Browser) -> list[list[str]]:
    """Return the pairs of texts of one chart that lie on each other."""
    return list(
        browser.evaluate(
            """Array.from(document.querySelectorAll('.chart svg'), (chart) => {
              const boxes = Array.from(chart.querySelectorAll('text'), (text) => [text.getBoundingClientRect(), text]);
              const found = [];
              boxes.forEach(([a, one], i) => boxes.slice(i + 1).forEach(([b, other]) => {
                const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (wide > 1 && high > 4) found.push([one.textContent, other.textContent]);
              }));
              return found;
            }).flat()"""
        )
    )


def cut(browser: Browser) -> list[str]:
    """Return the texts that reach out of their chart."""
    return list(
        browser.evaluate(
            """Array.from(document.querySelectorAll('.chart svg'), (chart) => {
              const frame = chart.getBoundingClientRect();
              return Array.from(chart.querySelectorAll('text')).filter((text) => {
                const box = text.getBoundingClientRect();
                return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
              }).map((text) => text.textContent);
            }).flat()"""
        )
    )
