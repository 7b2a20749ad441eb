"""Classes of cycles: one table for the kernels' classes, and colours that tell them apart."""

from __future__ import annotations

from accelsim.kernels.cycles.specs import CLASSES
from accelsim.reports.classes import CAUSES
from accelsim.results.cycle_classes import CYCLE_CLASSES, cycle_class


def test_every_class_of_the_kernels_is_described_once() -> None:
    """Names and colours differ, and every class has one cause."""
    assert sorted(CYCLE_CLASSES) == sorted(CLASSES)
    assert len({kind.colour for kind in CYCLE_CLASSES.values()}) == len(CLASSES)
    assert len({kind.name for kind in CYCLE_CLASSES.values()}) == len(CLASSES)
    assert sorted(kind.key for cause in CAUSES for kind in cause.classes) == sorted(CLASSES)


def test_classes_of_later_versions_keep_their_names() -> None:
    """They are grey and have no operand."""
    assert cycle_class("wait_for_godot", "ws").name == "wait for godot"
    assert cycle_class("wait_w", "is").name == "waits for activations"
