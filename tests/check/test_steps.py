"""Floats that were dequantised are told apart in steps of their codes, whoever dequantises and moves them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import accelsim
from accelsim.check.verdict import largest_units, measure_outputs
from accelsim.reference.session import open_session
from tests.planning import planned
from tests.strategies import Builder, Draw

Array = NDArray[np.generic]

SEED = 71_011
SHAPE = (2, 4, 6)
SCALES = {
    "one": (np.array(0.2), {}),
    "channel": (np.array([0.1, 0.2, 0.3, 0.7]), {"axis": 1}),
    "last": (np.linspace(0.1, 0.7, 6), {"axis": -1}),
    "block": (np.linspace(0.1, 0.7, 16).reshape(2, 4, 2), {"axis": 2, "block_size": 4}),
}
MOVES: dict[str, Callable[[Builder, str], str]] = {
    "none": lambda build, x: x,
    "transpose": lambda build, x: build.node("Transpose", [x], perm=[2, 0, 1]),
    "view": lambda build, x: build.node("Reshape", [x, build.constant(np.array([8, 6]))]),
    "slice": lambda build, x: build.node("Slice", [x, *(build.constant(np.array([n])) for n in (1, 4, 1))]),
    "gather": lambda build, x: build.node("Gather", [x, build.constant(np.array([3, 1]))], axis=1),
    "cast": lambda build, x: build.node("Cast", [x], to=TensorProto.FLOAT),
}


def dequantised(scale: str, real: type, codes: int, move: str) -> tuple[Builder, str]:
    """Build a quantiser, its dequantiser and a move; in codes of 4 bits where a type says so."""
    build = Builder(Draw((SEED, 1), ties=False))
    values, attributes = SCALES[scale]
    scales, zeros = build.constant(values, real), "zeros"
    build.constants.append(helper.make_tensor(zeros, codes, values.shape, [0] * values.size))
    x = build.input(build.draw.rng.uniform(-1, 1, SHAPE).astype(real))
    quantised = build.node("QuantizeLinear", [x, scales, zeros], **attributes)
    name = MOVES[move](build, build.node("DequantizeLinear", [quantised, scales, zeros], **attributes))
    build.output(name, np.float32 if move == "cast" else real)
    return build, name


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("real", "codes"),
    [(np.float32, TensorProto.INT8), (np.float32, TensorProto.INT4), (np.float16, TensorProto.INT8)],
)
@pytest.mark.parametrize("move", MOVES)
def test_one_code_apart_is_one_step(scale: str, real: type, codes: int, move: str) -> None:
    """Each element in turn is a code higher than in the reference: 1 LSB, and no units in the last place."""
    build, name = dequantised(scale, real, codes, move)
    case = build.case()
    model = accelsim.load(case.model)
    program = planned(model.bind({key: array.shape for key, array in case.inputs.items()}).graph, accelsim.Arch())
    theirs = accelsim.run(model, None, case.inputs).outputs[name]
    values, attributes = SCALES[scale]
    widths = values.repeat(attributes.get("block_size", 1), 2)[..., :6] if scale == "block" else values
    widths = widths.reshape(4, 1) if scale == "channel" else widths
    steps = one_per_element(np.broadcast_to(widths, SHAPE).astype(np.float32), move)
    for where in [(0,) * theirs.ndim, tuple(size - 1 for size in theirs.shape)]:
        mine = theirs.copy()
        mine[where] += steps[where].astype(theirs.dtype)
        found = largest_units(measure_outputs(program, {name: mine}, {name: theirs}))
        assert found == (1.0, None)


def one_per_element(steps: Array, move: str) -> Array:
    """Move steps as onnxruntime moves values."""
    build = Builder(Draw((SEED, 2), ties=False))
    name = MOVES[move](build, build.input(steps))
    if move == "none":
        return steps
    build.output(name)
    case = build.case()
    return open_session(case.model).run([name], case.inputs)[0]
