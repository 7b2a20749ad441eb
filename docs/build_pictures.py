"""Draws the README's picture: the real output of `accel-sim run` on the digits network, as SVG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich.console import Console

import accelsim
from accelsim.reports.terminal import WIDTH, print_run

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "accel-sim run models/digits_int8.onnx --array 16x16 --input models/digits_sample.npz"


def main() -> None:
    """Run the README's command in process and save what it prints."""
    with np.load(ROOT / "models" / "digits_sample.npz") as archive:
        inputs = dict(archive)
    result = accelsim.run(ROOT / "models" / "digits_int8.onnx", accelsim.Arch(array=(16, 16)), inputs)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False, markup=False)
    console.print(f"$ {COMMAND}", style="bold")
    print_run(result, console)
    target = ROOT / "docs" / "images" / "run.svg"
    console.save_svg(str(target), title="accel-sim", unique_id="accel-sim")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
