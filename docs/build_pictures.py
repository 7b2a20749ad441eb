"""Draws the documentation's pictures from real runs of the digits network.

`build_pictures.py [run] [timeline] [report] [grids]` draws those that are named, or all. The picture of
the report needs Chromium, with which it is opened.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

import accelsim
from accelsim.reports.page.page import report_html
from accelsim.reports.terminal.run_table import WIDTH
from accelsim.reports.terminal.summary import print_run
from accelsim.simulation.timeline import TimelineRequest
from accelsim.timing.scene import View
from accelsim.traces.write import write_trace

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


def draw_report() -> Path:
    """Open the report of the README's run and photograph its upper part."""
    from PIL import Image

    browser = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit("the picture of the report needs Chromium: apt-get install chromium")
    with np.load(ROOT / "models" / "digits_sample.npz") as archive:
        inputs = dict(archive)
    result = accelsim.run(MODEL, accelsim.Arch(array=(16, 16)), inputs, timeline=TimelineRequest())
    target = IMAGES / "report.png"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(report_html([result]), "utf-8")
        subprocess.run(  # noqa: S603 - a browser that was looked for by name
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1240,1560",
             f"--user-data-dir={folder}/profile", f"--screenshot={folder}/page.png", page.as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
        with Image.open(f"{folder}/page.png") as shot:
            shot.convert("RGB").quantize(256).save(target, optimize=True)
    return target


GRIDS = {
    "int8, one scale: rounding only": "int8-affine",
    "4 bits, the whole range": "w4a8+granularity=tensor+weight_range=min-max",
    "4 bits, least squared error: the ends are clipped": "w4a8+granularity=tensor",
    "2 bits, least squared error": "w2a8+granularity=tensor",
}
GRIDS_OF, PANEL_PX, TITLE_PX, SCALE = "pointwise1_weight", 400, 24, 2


def draw_grids() -> Path:
    """Draw the weights of one layer with the grids of four schemes, as `accel-sim quantize --report` does."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    from accelsim.quantise.measure.analysis import tensor_error
    from accelsim.quantise.pipeline import quantize
    from accelsim.reports.charts.histograms import HEIGHT_PX, draw_histogram
    from accelsim.reports.charts.style import figure_bytes
    from accelsim.reports.ratios import decibels

    with np.load(ROOT / "models" / "digits_calibration.npz") as archive:
        samples = dict(archive)
    width, height = PANEL_PX * SCALE, (int(HEIGHT_PX) + TITLE_PX) * SCALE
    canvas = Image.new("RGB", (2 * width, 2 * height), "white")
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 12 * SCALE)
    for place, (title, scheme) in enumerate(GRIDS.items()):
        weights = quantize(ROOT / "models" / "digits_float.onnx", scheme, samples).weights
        chosen = next(one for one in weights.values() if one.layer.weight == GRIDS_OF)
        error = tensor_error(chosen.values, chosen.grid, GRIDS_OF)
        left, top = place % 2 * width, place // 2 * height
        with Image.open(io.BytesIO(figure_bytes(lambda e=error: draw_histogram(e, PANEL_PX), "png"))) as panel:
            canvas.paste(panel.convert("RGB"), (left, top + TITLE_PX * SCALE))
        text = f"{title} ({decibels(error.sqnr_db)})"
        ImageDraw.Draw(canvas).text((left + 44 * SCALE, top + 6 * SCALE), text, font=font, fill="#222222")
    target = IMAGES / "grids.png"
    canvas.quantize(64).save(target, optimize=True)
    return target


def main() -> None:
    """Draw the pictures that are named, or all."""
    pictures = {"run": draw_run, "timeline": draw_timeline, "report": draw_report, "grids": draw_grids}
    for name in sys.argv[1:] or pictures:
        print(f"wrote {pictures[name]().relative_to(ROOT)}")


if __name__ == "__main__":
    main()
