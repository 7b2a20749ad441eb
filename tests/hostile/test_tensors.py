"""Constants that lie: about their size, their type, or where their data is."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

import accelsim
from accelsim.errors import ResourceLimitError
from accelsim.graph.load.limits import Limits
from tests.cli.command import assert_refused, run_model
from tests.hostile.builders import Edit, around, constant, floats, initialiser, quantised


class Listener:
    """Remembers the names of the files that Python opens while it listens."""

    def __init__(self) -> None:
        self.listening = False
        self.opened: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Receive an audit event."""
        if event == "open" and self.listening:
            self.opened.append(str(arguments[0]))


@cache
def installed_listener() -> Listener:
    """Return the listener of this process; an audit hook cannot be removed again."""
    listener = Listener()
    sys.addaudithook(listener)
    return listener


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A listener that is deaf until it is told to listen, and after the test."""
    listener = installed_listener()
    listener.opened.clear()
    yield listener
    listener.listening = False


def _external(tensor: TensorProto, location: str) -> TensorProto:
    """Move a tensor's data into another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


@pytest.mark.parametrize("kind", ["relative", "parent", "absolute", "symbolic link", "empty"])
def test_external_data_is_refused(tmp_path: Path, listener: Listener, kind: str) -> None:
    """Data outside of the model's folder is refused, inside of it where that is ruled out, and no file is opened."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(64))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.bin").symlink_to(secret)
    (folder / "data.bin").write_bytes(bytes(64))
    locations = {
        "relative": "data.bin",
        "parent": "../secret.bin",
        "absolute": str(secret),
        "symbolic link": "link.bin",
        "empty": "",
    }
    model = quantised(lambda model: _external(initialiser(model, "weights"), locations[kind]))
    listener.listening = True
    ruled_out = ["--no-external-data"] if kind == "relative" else []
    outcome = run_model(folder, model, *ruled_out)
    known = {"relative": "keeps its data in another file", "symbolic link": "reaches its data through a link"}
    said = known.get(kind, "keeps its data outside of the model's folder")
    assert_refused(outcome, 5, f"tensor 'weights' {said}")
    assert [name for name in listener.opened if name.endswith(".onnx")]
    assert not [name for name in listener.opened if name.endswith(".bin")]


def test_external_data_in_an_attribute(tmp_path: Path) -> None:
    """The tensor inside a Constant node is looked at as well; it is named by its node."""
    value = _external(constant("", np.float32(1)), "/etc/passwd")
    model = around(
        helper.make_node("Constant", [], ["k"], "k", value=value), helper.make_node("Add", ["a", "k"], ["b"])
    )
    assert_refused(run_model(tmp_path, model), 5, "'value of Constant k' keeps its data outside of the model's folder")


def test_external_location_beside_own_data(tmp_path: Path) -> None:
    """A location is refused even when the tensor claims to hold its own data."""

    def edit(model: ModelProto) -> None:
        entry = initialiser(model, "weights").external_data.add()
        entry.key, entry.value = "location", "data.bin"

    assert_refused(run_model(tmp_path, quantised(edit)), 5, "keeps its data in another file")


def _dims(name: str, *dims: int) -> Edit:
    def edit(model: ModelProto) -> None:
        initialiser(model, name).dims[:] = dims

    return edit


def _add(**fields: Any) -> Edit:
    return lambda model: model.graph.initializer.append(TensorProto(name="spare", **fields))


def _float_data(model: ModelProto) -> None:
    tensor = initialiser(model, "scale")
    tensor.ClearField("raw_data")
    tensor.float_data.append(0.1)
    tensor.dims.append(1000)


def _three_values(model: ModelProto) -> None:
    tensor = initialiser(model, "zero")
    tensor.ClearField("raw_data")
    tensor.int32_data.extend([1, 2, 3])


def _both_fields(model: ModelProto) -> None:
    initialiser(model, "zero").int32_data.append(3)


LIES = {
    "more dimensions than bytes": (_dims("weights", 1000, 8), 5, "needs 8000 bytes of data but holds 64"),
    "fewer dimensions than bytes": (_dims("weights", 4, 8), 5, "needs 32 bytes of data but holds 64"),
    "typed field too short": (_float_data, 5, "needs 1000 values of data but holds 1"),
    "typed field too long": (_three_values, 5, "needs 1 values of data but holds 3"),
    "two kinds of data": (_both_fields, 5, "one and only one value field"),
    "unused and lying": (_add(data_type=1, dims=[1000], raw_data=b"1234"), 5, "tensor 'spare'"),
    "negative": (_dims("weights", -8, 8), 5, "negative dimension [-8, 8]"),
    "two negatives make the right product": (_dims("weights", -8, -8), 5, "negative dimension"),
    "huge": (_add(data_type=1, dims=[2**40]), 6, "1,099,511,627,776 elements, the limit is"),
    "product beyond 64 bits": (_add(data_type=1, dims=[2**40, 2**40]), 6, "elements, the limit is"),
    "rank 20": (_add(data_type=1, dims=[1] * 20, raw_data=b"1234"), 6, "20 dimensions, the limit is 8"),
    "no type": (_add(dims=[1], raw_data=b"1234"), 5, "tensor 'spare' has no valid element type"),
    "unknown type": (_add(data_type=99, dims=[1], raw_data=b"1"), 5, "no valid element type"),
    "foreign type": (_add(data_type=14, dims=[1], raw_data=bytes(8)), 4, "constant 'spare': element type complex64"),
}


@pytest.mark.parametrize(("edit", "code", "words"), LIES.values(), ids=LIES)
def test_a_constant_that_contradicts_itself_is_refused(tmp_path: Path, edit: Edit, code: int, words: str) -> None:
    """A constant whose dimensions, type and data disagree is refused by name, used or not."""
    assert_refused(run_model(tmp_path, quantised(edit)), code, words)


def test_empty_constant_of_huge_dimensions_is_harmless(tmp_path: Path) -> None:
    """Dimensions of 2**40 by 0 hold nothing, so they are legal."""
    assert run_model(tmp_path, quantised(_add(data_type=1, dims=[2**40, 0]))).code == 0


@pytest.mark.parametrize("size", [2**28, 2**40, 2**62])
def test_a_huge_input_is_refused_before_it_is_made(tmp_path: Path, size: int) -> None:
    """An input larger than the limit is refused before any array of that size is made."""
    model = quantised(lambda model: model.graph.input[0].CopyFrom(floats("x", [size, 8])))
    assert_refused(run_model(tmp_path, model), 6, "tensor 'x'", f"{size * 8:,} elements", "reduce the dimension")


def test_a_negative_input_dimension_is_refused(tmp_path: Path) -> None:
    """An input cannot have a negative size."""
    model = quantised(lambda model: model.graph.input[0].CopyFrom(floats("x", [-5, 8])))
    assert_refused(run_model(tmp_path, model), 5, "input 'x' has a negative dimension")


def test_input_of_rank_20(tmp_path: Path) -> None:
    """An input with too many dimensions is refused."""
    model = quantised(lambda model: model.graph.input[0].CopyFrom(floats("x", [1] * 20)))
    assert_refused(run_model(tmp_path, model), 6, "20 dimensions, the limit is 8")


def _sized(*nodes: Any, **constants: list[int] | list[float]) -> ModelProto:
    """Return a quantised model whose nodes blow something up to 2**36 elements and reduce it to a scalar again."""
    tensors = [constant(name, np.array(values)) for name, values in constants.items()]
    reduce = [
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["a", "sum"], ["b"]),
    ]
    return around(*nodes, *reduce, initialisers=tensors)


BOMBS = {
    "ConstantOfShape": _sized(helper.make_node("ConstantOfShape", ["shape"], ["big"], "bomb"), shape=[2**18, 2**18]),
    "computed shape": _sized(
        helper.make_node("Mul", ["side", "side"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["big"], "bomb"),
        side=[2**9, 2**9],
    ),
    "Expand": _sized(helper.make_node("Expand", ["a", "shape"], ["big"], "bomb"), shape=[2**33, 8]),
    "Tile": _sized(helper.make_node("Tile", ["a", "times"], ["big"], "bomb"), times=[2**33, 1]),
    "Pad": _sized(helper.make_node("Pad", ["a", "pads"], ["big"], "bomb"), pads=[2**33, 0, 0, 0]),
}


@pytest.mark.parametrize("model", BOMBS.values(), ids=BOMBS)
def test_small_file_that_asks_for_a_huge_tensor(tmp_path: Path, model: ModelProto) -> None:
    """Some bytes of file that stand for 2**36 elements are refused, and nothing like that is allocated."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(run_model(tmp_path, model), 6, "tensor 'big'", "elements, the limit is")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # kilobytes


def test_shape_of_rank_20(tmp_path: Path) -> None:
    """A Reshape to too many dimensions is refused."""
    reshape = helper.make_node("Reshape", ["a", "shape"], ["b"])
    model = around(reshape, initialisers=[constant("shape", np.array([1] * 19 + [8], np.int64))])
    assert_refused(run_model(tmp_path, model), 6, "tensor 'b' has 20 dimensions, the limit is 8")


def test_many_large_tensors_at_once() -> None:
    """Tensors that are each within the limit, but alive together, are refused; one after another they are not."""
    limits = Limits(tensor_elements=1000, total_elements=2500)
    names = [f"t{i}" for i in range(5)]
    tiles = [helper.make_node("Tile", ["a", "times"], [name], f"tile {name}") for name in names]
    times = constant("times", np.array([100, 1], np.int64))
    rows = constant("rows", np.array([0], np.int64))
    reduced = helper.make_node("Sum", [f"r{i}" for i in range(5)], ["b"])
    gathers = [helper.make_node("Gather", [name, "rows"], [f"r{i}"], f"row {i}") for i, name in enumerate(names)]
    with pytest.raises(ResourceLimitError, match=r"at Tile 'tile t3' the model holds .* elements at once"):
        accelsim.load(around(*tiles, *gathers, reduced, initialisers=[times, rows]).SerializeToString(), limits)
    pairs = [node for pair in zip(tiles, gathers, strict=True) for node in pair]
    accelsim.load(around(*pairs, reduced, initialisers=[times, rows]).SerializeToString(), limits)
