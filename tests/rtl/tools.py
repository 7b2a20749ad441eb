"""The RTL tools: which one is installed, and machines built from the sources with a cache named after their hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
MISSING = "RTL equivalence not run: install verilator (apt-get install verilator)"
_RUNTIME_LOCK = threading.Lock()
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
    base = (
        os.environ.get("ACCEL_SIM_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    )
    folder = Path(base) / "accelsim" / "rtl"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@cache
def version(tool: str) -> str:
    """Return what a tool says about its version."""
    return subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout


def build(
    top: str, bench: str, parameters: Mapping[str, int], texts: Mapping[str, str] | None = None, fast: bool = True
) -> Path:
    """Return the program of a verilated machine with its C++ bench, built now or found in the cache.

    Args:
        top: top module.
        bench: C++ file in this folder.
        parameters: values of the top module's parameters; the bench sees them as macros ARRAY_<name>.
        texts: RTL sources by file name instead of those in this folder.
        fast: optimise the program, for many cases; else it is built in half the time.
    """
    verilator = require("verilator")
    texts = sources() if texts is None else texts
    main = (FOLDER / bench).read_text("utf-8")
    inputs = (
        version(verilator),
        version(require("g++")),
        top,
        sorted(parameters.items()),
        main,
        sorted(texts.items()),
        fast,
    )
    program = cache_folder() / f"{top}-{_digest(inputs)}"
    if not program.is_file():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            _verilate(Path(scratch), top, parameters, texts)
            _compile(Path(scratch), main, parameters, "-O1" if fast else "-O0").replace(program)
    return program


def _digest(inputs: object) -> str:
    """Return a short name for everything that a built file depends on."""
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:20]


def _execute(command: Sequence[object], folder: Path) -> str:
    """Run a build command and return what it prints; its messages are the failure."""
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def _verilate(scratch: Path, top: str, parameters: Mapping[str, int], texts: Mapping[str, str]) -> None:
    """Write the RTL to a scratch folder and let Verilator make C++ of it."""
    for name, text in texts.items():
        (scratch / name).write_text(text, "utf-8")
    modules = sorted(name for name in texts if name.endswith(".sv"))
    values = [f"-G{name}={value}" for name, value in parameters.items()]
    _execute(["verilator", "--cc", "-O3", *WARNINGS, "--top-module", top, *values, "--Mdir", ".", *modules], scratch)


def _compile(scratch: Path, main: str, parameters: Mapping[str, int], optimise: str) -> Path:
    """Compile bench and machine as one unit, which takes a third of the time of Verilator's many files."""
    defines = [f"#define ARRAY_{name} {value}" for name, value in parameters.items()]
    parts = [f'#include "{path.name}"' for path in sorted(scratch.glob("V*.cpp"))]
    (scratch / "unit.cpp").write_text("\n".join([*parts, *defines, main]), "utf-8")
    _execute([*_compiler(), optimise, "-I.", "unit.cpp", _runtime(), "-pthread", "-o", "program"], scratch)
    return scratch / "program"


@cache
def _compiler() -> list[str]:
    """Return the C++ compiler with the include folders of Verilator."""
    include = Path(_execute(["verilator", "--getenv", "VERILATOR_ROOT"], FOLDER).strip()) / "include"
    return [require("g++"), "-std=c++17", f"-I{include}", f"-I{include / 'vltstd'}"]


def _runtime() -> Path:
    """Return Verilator's runtime library as one object file, built once."""
    with _RUNTIME_LOCK:
        compiler = _compiler()
        target = cache_folder() / f"runtime-{_digest((compiler, version('verilator'), version('g++')))}.o"
        if not target.is_file():
            with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
                text = '#include "verilated.cpp"\n#include "verilated_threads.cpp"\n'
                (Path(scratch) / "runtime.cpp").write_text(text, "utf-8")
                _execute([*compiler, "-O1", "-c", "runtime.cpp", "-o", "runtime.o"], Path(scratch))
                (Path(scratch) / "runtime.o").replace(target)
    return target


def run(program: Path, words: bytes) -> bytes:
    """Run a built program on an input file and return its output file."""
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "in", Path(scratch) / "out"
        source.write_bytes(words)
        done = subprocess.run([program, source, target], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return target.read_bytes()
