"""Draws the documentation's pictures from real runs of the digits network: `build_pictures.py [run] [timeline]`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import accelsim
from accelsim.reports.summary import print_run
from accelsim.reports.terminal import WIDTH
from accelsim.traces.timeline import View
from accelsim.tracing import write_trace

ROOT = Path(__file__).resolve().parent.parent
MODEL, IMAGES = ROOT / "models" / "digits_int8.onnx", ROOT / "docs" / "images"
COMMAND = "accel-sim run models/digits_int8.onnx --array 16x16 --input models/digits_sample.npz"


def draw_run() -> Path:
    """Run the README's command in process and save what it prints."""
    with np.load(ROOT / "models" / "digits_sample.npz") as archive:
        inputs = dict(archive)
    result = accelsim.run(MODEL, accelsim.Arch(array=(16, 16)), inputs)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False, markup=False)
    console.print(f"$ {COMMAND}", style="bold")
    print_run(result, console)
    target = IMAGES / "run.svg"
    console.save_svg(str(target), title="accel-sim", unique_id="accel-sim")
    return target


def draw_timeline() -> Path:
    """Draw the engines during three layers, as `accel-sim trace --from 280 --until 3900` does."""
    target = IMAGES / "timeline.svg"
    write_trace(accelsim.load(MODEL), accelsim.Arch(), target, view=View(None, 280, 3900))
    return target


def main() -> None:
    """Draw the pictures that are named, or all."""
    pictures = {"run": draw_run, "timeline": draw_timeline}
    for name in sys.argv[1:] or pictures:
        print(f"wrote {pictures[name]().relative_to(ROOT)}")


if __name__ == "__main__":
    main()
