"""Measures speed and memory: `python tests/bench/benchmark.py [MODEL_FOLDER]`. Prints figures, asserts nothing.

Ratios are medians of interleaved pairs in one process with one thread; whole processes are timed from outside, first
with an empty kernel cache, then with a warm one.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import accelsim
from accelsim.reference.session import open_session
from accelsim.timing.event.run import time_program_by_events
from accelsim.timing.recurrence import time_program
from accelsim.traces.write import write_trace
from tests.planning import planned

MODELS = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ACCEL_SIM_MODELS", "models"))
BIG, SMALL = "mobilenetv2_100_224_int8", "resnet8_cifar10_int8"
REPEATS = 9


def seconds(action: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def sample(name: str) -> dict[str, np.ndarray]:
    """Return the inputs beside a model."""
    with np.load(MODELS / f"{name}.in0.npz") as archive:
        return dict(archive)


def process(arguments: list[str], cache: str) -> tuple[float, float]:
    """Run the command in a process of its own; returns seconds and peak megabytes."""
    environment = os.environ | {"ACCEL_SIM_CACHE_DIR": cache}
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "accelsim", *arguments], env=environment, stdout=subprocess.DEVNULL)
    _, _, usage = os.wait4(child.pid, 0)
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def whole_processes() -> None:
    """Print the time of whole processes: first use, then warm."""
    with tempfile.TemporaryDirectory() as cache:
        for name in (BIG, SMALL):
            arguments = ["run", str(MODELS / f"{name}.onnx"), "--input", str(MODELS / f"{name}.in0.npz")]
            first, first_memory = process(arguments, cache)
            warm = [process(arguments, cache) for _ in range(5)]
            elapsed = statistics.median(item[0] for item in warm)
            print(
                f"run {name}: first {first:.2f} s ({first_memory:.0f} MB), then {elapsed:.2f} s "
                f"({max(item[1] for item in warm):.0f} MB)"
            )
        help_time = statistics.median(process(["--help"], cache)[0] for _ in range(REPEATS))
        print(f"--help: {help_time * 1e3:.0f} ms")


def in_process(name: str) -> None:
    """Print values and timing in process, and the ratio to onnxruntime on the same inputs."""
    path, inputs = MODELS / f"{name}.onnx", sample(name)
    model = accelsim.load(path)
    session = open_session(path.read_bytes(), optimise="all", entries=(("session.qdqisint8allowed", "1"),))
    accelsim.run(model, inputs=inputs, check=False)
    ours, dry, theirs = [], [], []
    for _ in range(REPEATS):
        ours.append(seconds(lambda: accelsim.run(model, inputs=inputs, check=False)))
        theirs.append(seconds(lambda: session.run(None, inputs)))
        dry.append(seconds(lambda: accelsim.run(model, inputs=inputs, values=False)))
    values = statistics.median(a - b for a, b in zip(ours, dry, strict=True))
    ratio = statistics.median((a - b) / c for a, b, c in zip(ours, dry, theirs, strict=True))
    macs = accelsim.run(model, inputs=inputs, values=False).model.macs
    print(
        f"{name}: values {values * 1e3:.1f} ms ({macs / values / 1e9:.2f} GMAC/s, {ratio:.1f} x onnxruntime's time), "
        f"timing and energy {statistics.median(dry) * 1e3:.1f} ms"
    )


def timing_engines(name: str) -> None:
    """Print what the recurrence and the event model take for all layers on 16x16, and the writing of traces."""
    model, arch = accelsim.load(MODELS / f"{name}.onnx"), accelsim.Arch()
    program = planned(model.bind().graph, arch)
    assert time_program_by_events(program, arch) == time_program(program, arch)
    pairs = [
        (seconds(lambda: time_program(program, arch)), seconds(lambda: time_program_by_events(program, arch)))
        for _ in range(3)
    ]
    recurrence, events = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"{name}: recurrence {recurrence * 1e3:.1f} ms, event model {events:.2f} s ({ratio:.0f} x)")
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("perfetto", "vcd", "dram"):
            path = Path(folder) / "trace"
            taken = seconds(lambda path=path, kind=kind: write_trace(model, arch, path, kind))
            print(f"{name}: {kind} trace {taken:.1f} s, {path.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Print all figures."""
    if not MODELS.is_dir():
        sys.exit(f"no models in {MODELS}: give their folder as argument")
    whole_processes()
    for name in (SMALL, BIG):
        in_process(name)
        timing_engines(name)


if __name__ == "__main__":
    main()
