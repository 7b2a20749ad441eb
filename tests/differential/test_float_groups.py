"""Groups that onnxruntime computes in float, on the machine: exact where float32 is, else at most a step away."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

import accelsim
from tests.check.word_models import judged_word
from tests.strategies import Builder, Case, Draw, Quantisation

SEED = 50_001
WIDE = ("uint8", "int8", "uint16", "int16")


def run(case: Case, machine: accelsim.Arch | None = None) -> accelsim.Result:
    """Run a drawn model on its inputs."""
    return accelsim.run(accelsim.load(case.model), machine, case.inputs)


def placements(result: accelsim.Result) -> set[str]:
    """Return the units that execute something."""
    return {layer.placement for layer in result.layers} - {"none"}


TABLES = (
    "Sigmoid",
    "Tanh",
    "Erf",
    "Exp",
    "Sqrt",
    "Relu",
    "Abs",
    "HardSigmoid",
    "HardSwish",
    "Neg",
    "Floor",
    "Ceil",
    "Round",
)


@pytest.mark.parametrize("kind", TABLES)
def test_unary_functions_become_tables(kind: str) -> None:
    """A unary float function between quantisers is a table of all codes, exact for 8 and 16 bits."""
    for index in range(6):
        draw = Draw((SEED, index, zlib.crc32(kind.encode())), ties=index % 2 == 1)
        build, source = Builder(draw), draw.activation(draw.dtype(*WIDE))
        real = build.node(kind, [build.activation(draw.shape(3, 8), source)])
        result = run(build.finish(real, draw.activation(source.dtype)))
        assert result.check.verdict == "exact"
        assert "host" not in placements(result)
        assert not result.check.float_reference


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
def test_binary_functions_are_one_float32_operation(kind: str) -> None:
    """Two quantised operands, or one and a float constant, give onnxruntime's bits."""
    for index in range(8):
        draw = Draw((SEED, 1, index, zlib.crc32(kind.encode())), ties=index % 2 == 1)
        build, source = Builder(draw), draw.activation(draw.dtype("uint16", "int16"))
        shape = draw.shape(3, 6)
        second = (
            build.activation(shape, source) if index % 4 else build.constant(draw.rng.normal(size=shape), np.float32)
        )
        real = build.node(kind, [build.activation(shape, source), second])
        result = run(build.finish(real, draw.activation(source.dtype)))
        assert result.check.verdict == "exact"
        assert "host" not in placements(result)


def contraction(draw: Draw, kind: str, activation: str, weight: str, clip: tuple[float, float] | None) -> Case:
    """Build a contraction that onnxruntime leaves in float."""
    build, source = Builder(draw), draw.activation(np.dtype(activation))
    weights = Quantisation(np.dtype(weight), draw.scale(), np.zeros((), weight))
    if kind == "Conv":
        inputs = [build.activation((1, 4, 6, 6), source), build.weight((6, 4, 3, 3), weights, 0)]
        depth, attributes = 36, {"pads": [1, 1, 1, 1]}
    else:
        inputs = [build.activation((5, 24), source), build.weight((24, 6), weights, 1)]
        depth, attributes = 24, {}
    real = build.node(kind, inputs, **attributes)
    if clip is not None:
        real = build.node("Clip", [real, build.constant(clip[0], np.float32), build.constant(clip[1], np.float32)])
    spread = float(np.sqrt(depth)) * 40 * (1 << (8 * (source.dtype.itemsize - 1)))
    unit = float(source.scale) * weights.mean_scale
    return build.finish(real, draw.result(source.dtype, unit, spread * 40))


@pytest.mark.parametrize("kind", ["Conv", "MatMul"])
@pytest.mark.parametrize("activation", ["uint16", "int16"])
def test_sixteen_bit_contractions_are_near_their_float_reference(kind: str, activation: str) -> None:
    """16-bit activations run on the array in 64-bit accumulators; float32 sums are at most two steps away."""
    for index in range(6):
        draw = Draw((SEED, 2, index, zlib.crc32(kind.encode())), ties=index % 2 == 1)
        case = contraction(draw, kind, activation, "int8", None)
        result = run(case, accelsim.Arch(acc_bits=64))
        assert result.check.verdict == judged_word(result.outputs, case.model, dict(case.inputs))
        assert "array" in placements(result)
        assert "host" not in placements(result)
        assert max(distance.max_lsb for distance in result.check.float_reference) <= 2


@pytest.mark.parametrize("activation", ["uint8", "int8"])
def test_a_loose_clip_bounds_the_code(activation: str) -> None:
    """Conv + Clip inside the output's range: integer accumulators, the clip as bounds of the requantiser."""
    bounded = 0
    for index in range(8):
        draw = Draw((SEED, 3, index), ties=index % 2 == 1)
        build, source = Builder(draw), draw.activation(np.dtype(activation))
        weights = Quantisation(np.dtype(np.int8), draw.scale(), np.zeros((), np.int8))
        unit = float(source.scale) * weights.mean_scale
        target = draw.result(source.dtype, unit, 3000)
        low, high = np.float32(-20 * target.mean_scale), np.float32(30 * target.mean_scale)
        inputs = [build.activation((1, 4, 6, 6), source), build.weight((6, 4, 3, 3), weights, 0)]
        real = build.node("Conv", inputs)
        real = build.node("Clip", [real, build.constant(low, np.float32), build.constant(high, np.float32)])
        result = run(build.finish(real, target))
        assert result.check.verdict == "exact"
        assert "host" not in placements(result)
        assert all(distance.max_lsb <= 1 for distance in result.check.float_reference)
        bounded += bool(result.check.float_reference)
    assert bounded >= 4


def test_pads_between_equal_scales_move_codes() -> None:
    """A float Pad between equal quantisers pads codes with the quantised constant, exactly."""
    for index in range(6):
        draw = Draw((SEED, 4, index), ties=False)
        build, source = Builder(draw), draw.activation(draw.dtype(*WIDE))
        inputs = [build.activation((1, 2, 3, 3), source), build.constant([0, 0, 1, 2, 0, 0, 3, 1], np.int64)]
        if index % 2:
            inputs.append(build.constant(np.float32(draw.rng.normal()), np.float32))
        result = run(build.finish(build.node("Pad", inputs), source))
        assert result.check.verdict == "exact"
        assert "host" not in placements(result)


def test_what_lies_behind_a_float_reference_is_still_checked(shared_models: Any) -> None:
    """A network with 35 float-reference layers: each exact layer behind them equals onnxruntime when teacher-forced."""
    path = shared_models / "mobilenetv2_100_224_int8_nchw.onnx"
    with np.load(path.with_name(f"{path.stem}.in0.npz")) as archive:
        result = accelsim.run(path, inputs=dict(archive))
    check = result.check
    assert (check.verdict, check.mismatched_elements, len(check.float_reference)) == ("near", 0, 35)
    assert (check.output_lsb or 0) > 0
    assert max(distance.max_lsb for distance in check.float_reference) == 1
    on_array = sum(layer.macs for layer in result.layers if layer.placement == "array")
    assert on_array == result.model.macs
    assert "host" not in placements(result)


def test_overflow_in_a_float_layer_is_a_mismatch() -> None:
    """The distance from onnxruntime's float result would hide it: the sums of a wide accumulator are the reference."""
    draw = Draw((SEED, 9), ties=False)
    case = contraction(draw, "MatMul", "uint16", "int8", None)
    wide = run(case, accelsim.Arch(acc_bits=40))
    assert wide.check.verdict == judged_word(wide.outputs, case.model, dict(case.inputs))
    narrow = run(case, accelsim.Arch(acc_bits=20, overflow="saturate"))
    assert narrow.check.verdict == "mismatch"
    assert narrow.check.first_mismatch is not None
    assert narrow.check.first_mismatch.diagnosis is not None
    assert narrow.check.first_mismatch.diagnosis.cause == "accumulator-overflow"
