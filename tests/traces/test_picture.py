"""Pictures of the engines over time."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import accelsim
from accelsim.results.cycle_classes import CYCLE_CLASSES
from accelsim.timing.scene import Activity, Scene, View, run_scene, set_scene, visible
from accelsim.traces import picture
from accelsim.traces.write import write_trace
from tests.planning import planned
from tests.tiers import deep, few


def staged(digits: Path, arch: accelsim.Arch, view: View) -> tuple[list[Activity], Scene]:
    """Return what a view shows."""
    program = planned(accelsim.load(digits).bind().graph, arch)
    scene = set_scene("digits", program, arch, view)
    return [visible(scene, arch, placed, trace) for placed, trace in run_scene(scene, arch)], scene


@pytest.mark.parametrize("dataflow", few(["ws", "os", "is"], 1))
def test_pictures_are_well_formed_and_of_the_whole_run(digits: Path, tmp_path: Path, dataflow: str) -> None:
    """SVG is well-formed, PNG has its size in front; both are of the whole run."""
    arch = accelsim.Arch(dataflow=dataflow)
    for name in ("run.svg", "run.png"):
        write_trace(accelsim.load(digits), arch, tmp_path / name)
    assert ElementTree.parse(tmp_path / "run.svg").getroot().tag.endswith("svg")
    data = (tmp_path / "run.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert 1500 < width < 2000
    assert 500 < height < 1200


@deep
def test_labels_do_not_overlap(digits: Path) -> None:
    """Heading, legend, names of layers and engines, axis: no two texts share a place."""
    for view in (View(), View(None, 280, 3900), View("pointwise"), View("dense")):
        arch = accelsim.Arch()
        figure = picture._figure(*staged(digits, arch, view), arch, "heading")
        FigureCanvasAgg(figure).draw()
        texts = [
            (text.get_text(), text.get_window_extent())
            for axis in figure.axes
            for text in (
                axis.title, axis._left_title, axis.xaxis.label, *axis.texts, *axis.get_yticklabels(),
                *([] if axis.get_legend() is None else axis.get_legend().get_texts()),
            )
            if text.get_text() and text.get_visible()
        ]  # fmt: skip
        assert len(texts) > 15
        for place, (name, box) in enumerate(texts):
            for other, behind in texts[place + 1 :]:
                assert not box.overlaps(behind), (name, other)


def test_bars_show_every_engine_and_class(digits: Path) -> None:
    """Every class and every engine that occurs has a colour and, in the chart, a name."""
    arch = accelsim.Arch(array=(8, 8))
    activities, scene = staged(digits, arch, View())
    figure = picture._figure(activities, scene, arch, "heading")
    classes = {phase.what for activity in activities for phase in activity.phases}
    assert classes <= set(CYCLE_CLASSES)
    engines = {part.engine.upper() for activity in activities for part in activity.intervals}
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert set(rows) == {"layer", "issue port", *engines}
    for activity in activities:
        for part in activity.intervals:
            assert part.what in picture._ENGINE_COLOURS[part.engine]


def test_names_of_layers_are_text(digits: Path) -> None:
    """A name with dollar signs is no formula."""
    arch = accelsim.Arch()
    activities, scene = staged(digits, arch, View("stem"))
    object.__setattr__(activities[0].placed.layer, "name", "$\\frac{$")
    assert picture.draw(activities, scene, arch, "$\\frac{$ title", "svg").startswith(b"<?xml")
