"""The RTL tools: which one is installed, and machines built from the sources with a cache named after their hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
MISSING = "RTL equivalence not run: install verilator (apt-get install verilator)"
WARNINGS = ("-Wno-WIDTH", "-Wno-VARHIDDEN")


@dataclass(frozen=True)
class Build:
    """What is fixed when a machine is built: the array and the widths of operands and accumulator wires, in bits."""

    rows: int
    columns: int
    streamed_bits: int = 9
    stationary_bits: int = 9
    wire_bits: int = 48

    @property
    def parameters(self) -> dict[str, int]:
        """Return the parameters of module `machine`."""
        widths = {"A_W": self.streamed_bits, "W_W": self.stationary_bits, "V_W": self.wire_bits}
        return {"R": self.rows, "C": self.columns, **widths}


def require(tool: str) -> str:
    """Return the path of a tool; without it skip visibly, or fail where ACCEL_SIM_REQUIRE_RTL=1 is set."""
    found = shutil.which(tool)
    if found is None:
        if os.environ.get("ACCEL_SIM_REQUIRE_RTL") == "1":
            pytest.fail(MISSING, pytrace=False)
        pytest.skip(MISSING)
    return found


def sources() -> dict[str, str]:
    """Return the text of every RTL file by its name."""
    return {path.name: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.sv*")) if path.stem != "bench"}


def cache_folder() -> Path:
    """Return the folder below the user's cache that keeps built machines."""
    base = os.environ.get("ACCEL_SIM_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    folder = Path(base) / "accelsim" / "rtl"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@cache
def version(tool: str) -> str:
    """Return what a tool says about its version."""
    return subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout


def build(top: str, bench: str, parameters: Mapping[str, int], texts: Mapping[str, str] | None = None) -> Path:
    """Return the program of a verilated machine with its C++ bench, built now or found in the cache.

    Args:
        top: top module.
        bench: C++ file in this folder.
        parameters: values of the top module's parameters.
        texts: RTL sources by file name instead of those in this folder.
    """
    verilator = require("verilator")
    texts = sources() if texts is None else texts
    main = (FOLDER / bench).read_text("utf-8")
    digest = hashlib.sha256(repr((version(verilator), top, sorted(parameters.items()), main, sorted(texts.items()))).encode())
    program = cache_folder() / f"{top}-{digest.hexdigest()[:20]}"
    if not program.is_file():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            made = _verilate(verilator, Path(scratch), top, main, parameters, texts)
            made.replace(program)
    return program


def _verilate(
    verilator: str, scratch: Path, top: str, main: str, parameters: Mapping[str, int], texts: Mapping[str, str]
) -> Path:
    """Build in a scratch folder and return the program."""
    for name, text in {**texts, "bench.cpp": main}.items():
        (scratch / name).write_text(text, "utf-8")
    modules = [name for name in texts if name.endswith(".sv")]
    flags = " ".join(f"-D{name}={value}" for name, value in parameters.items())
    command = [
        verilator, "--cc", "--exe", "--build", "-O1", "--output-split", "5000", *WARNINGS, "--top-module", top,
        *(f"-G{name}={value}" for name, value in parameters.items()), "--Mdir", "made", "-o", "program",
        "-CFLAGS", f"-std=c++17 -O1 {flags}", "bench.cpp", *modules,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return scratch / "made" / "program"


def run(program: Path, words: bytes) -> bytes:
    """Run a built program on an input file and return its output file."""
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "in", Path(scratch) / "out"
        source.write_bytes(words)
        done = subprocess.run([program, source, target], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return target.read_bytes()
