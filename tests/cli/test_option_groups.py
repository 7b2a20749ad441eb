"""Groups of options: typer sees every option alone, a command gets whole groups."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from accelsim.cli.groups import Without, in_order, takes_groups
from accelsim.cli.options import MachineOptions
from tests.cli.command import assert_refused, command

Size = Annotated[int, typer.Option("--size")]


@dataclass(frozen=True)
class Box:
    """A group of two options."""

    size: Size = 3
    colour: Annotated[str, typer.Option("--colour")] = "red"


def test_options_of_a_group_stand_where_the_group_stands() -> None:
    """Names, defaults and annotations are those of the fields."""

    @takes_groups
    def walk(first: int, *, box: Box, last: bool = False) -> None:
        """Do nothing."""

    parameters = inspect.signature(walk).parameters
    assert list(parameters) == ["first", "size", "colour", "last"]
    assert [parameters[name].default for name in ("size", "colour", "last")] == [3, "red", False]
    assert parameters["size"].annotation == Size
    assert (walk.__name__, walk.__doc__) == ("walk", "Do nothing.")


def test_a_command_gets_whole_groups() -> None:
    """Two groups and an option of its own."""
    got: list[object] = []

    @takes_groups
    def walk(*, box: Box, machine: MachineOptions, last: bool = False) -> None:
        got.extend((box, machine, last))

    none = dict.fromkeys(("dataflow", "acc_bits", "overflow", "arch", "settings"))
    walk(size=4, colour="blue", array="8", last=True, **none)
    assert got == [Box(4, "blue"), MachineOptions(array="8"), True]


def test_options_that_a_command_leaves_out_keep_their_defaults() -> None:
    """They are no options of the command."""
    got: list[object] = []

    @takes_groups
    def walk(*, box: Annotated[Box, Without("colour")]) -> None:
        got.append(box)

    assert list(inspect.signature(walk).parameters) == ["size"]
    walk(size=5)
    assert got == [Box(5, "red")]


def test_options_in_another_order_share_out_the_places_that_they_take() -> None:
    """Those that are not named stay where they are, and groups arrive as before."""
    got: list[object] = []

    @in_order("colour", "last", "size")
    @takes_groups
    def walk(first: int, *, box: Box, middle: bool = False, last: bool = False) -> None:
        got.extend((first, box, middle, last))

    assert list(inspect.signature(walk).parameters) == ["first", "colour", "last", "middle", "size"]
    assert list(walk.__annotations__) == ["first", "colour", "last", "middle", "size"]
    walk(first=1, size=4, colour="blue", middle=True, last=False)
    assert got == [1, Box(4, "blue"), True, False]


@pytest.mark.parametrize("option", ["--acc-bits", "--overflow"])
def test_a_product_on_the_array_alone_has_no_options_of_accumulators(option: str) -> None:
    """Neither changes its cycles."""
    assert_refused(command("gemm", "1", "2", "3", option, "8"), 2, "No such option")
