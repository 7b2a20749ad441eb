"""A model that is run on several samples is planned once for each machine."""

from __future__ import annotations

from pathlib import Path

import accelsim
from accelsim import Arch
from accelsim.energy.options import EnergyOptions


def test_samples_run_one_after_the_other_are_planned_once(digits: Path) -> None:
    """The same machine and prices give the program that is there; any other machine or prices a new one."""
    model = accelsim.load(digits)
    first = model.bind().planned(Arch())
    assert model.bind().planned(Arch(array=(16, 16))) is first
    assert model.bind().planned(Arch(), EnergyOptions().load()) is first
    other = model.bind().planned(Arch(array=(8, 8)))
    assert other is not first
    assert model.bind().planned(Arch()) is not other
    scaled = EnergyOptions(node_nm=7).load()
    assert model.bind().planned(Arch(), scaled) is not model.bind().planned(Arch())


def test_another_shape_is_planned_anew(digits: Path) -> None:
    """Plans belong to the shapes that they were made for."""
    model = accelsim.load(digits)
    (name,) = model.inputs()
    one, two = (model.bind({name: model.inputs(batch)[name].shape}).planned(Arch()) for batch in (1, 2))
    assert one.layers[0].input_types != two.layers[0].input_types
