"""Whole networks with the integer requantiser: replayed in Python integers, their distance from onnxruntime told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import accelsim
from accelsim import operators
from accelsim.energy import load_table
from accelsim.operators import fixed_point
from accelsim.operators.tensors import TensorType
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.execute import LayerValues, execute, run_program
from tests.check.word_models import judged_word
from tests.cli.command import command
from tests.generator.graphs import draw_graph
from tests.oracles import fixed_point as exact
from tests.planning import planned
from tests.tiers import few

GRAPHS = 24
SEED = 71_003
OPERATORS = (
    "Conv", "MatMul", "Gemm", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Softmax",
    "Reshape", "a function of one variable",
)  # fmt: skip
SCALING_PJ = 3.1 + 0.2 + 5 * 0.1  # multiply, 64-bit rounding addition, two shifts and three additions


def expected_codes(step: LayerValues) -> list[int]:
    """Replay what the layer's integer requantiser must give, from what the layer read."""
    op = step.layer.operator
    if isinstance(op, fixed_point.FixedAdd | fixed_point.FixedMultiply):
        shape = step.outputs[0].shape
        pairs = zip(*(np.broadcast_to(array, shape).reshape(-1).tolist() for array in step.inputs), strict=True)
        zeros, limits = (
            [code.zero_point for code in (op.first, op.second, op.output)],
            (op.output.lowest, op.output.highest),
        )
        if isinstance(op, fixed_point.FixedAdd):
            ratios = [float(op.ratio_first), float(op.ratio_second)]
            return [exact.add(pair, zeros, ratios, limits) for pair in pairs]
        return [exact.multiply(pair, zeros, float(op.ratio), limits) for pair in pairs]
    if isinstance(op, fixed_point.FixedGlobalAveragePool):
        codes = step.inputs[0].astype(int) - op.input.zero_point
        sums = codes.reshape(*codes.shape[:2], -1).sum(axis=2).reshape(-1)
        limits = (op.output.lowest, op.output.highest)
        return [exact.requantise(int(s), float(op.multiplier), op.output.zero_point, limits) for s in sums]
    return contraction_codes(step, op)


def contraction_codes(step: LayerValues, op: Any) -> list[int]:
    """Replay a contraction: its own int32 sums, then the requantiser, channel by channel."""
    raw = replace(op, epilogue=operators.Raw())
    shape = step.outputs[0].shape
    (sums,), _ = execute(raw, step.inputs, [TensorType.of("int32", shape)], AccumulatorFormat())
    epilogue = op.epilogue
    axis = 1 if isinstance(op, operators.Convolution) else len(shape) - 1
    rows = [1] * len(shape)
    rows[axis] = shape[axis]
    factors = np.broadcast_to(epilogue.multiplier.reshape(-1), (shape[axis],)).reshape(rows)
    each = zip(sums.reshape(-1).tolist(), np.broadcast_to(factors, shape).reshape(-1).tolist(), strict=True)
    return [exact.requantise(total, factor, epilogue.output.zero_point, epilogue.bounds) for total, factor in each]


@pytest.mark.parametrize("index", few(range(GRAPHS), 6))
def test_random_graphs_are_replayed_exactly(index: int) -> None:
    """Each layer that requantises equals the big-int replay; its sums are onnxruntime's; it is never called exact."""
    drawn = draw_graph(SEED, index, OPERATORS)
    case, model = drawn.case, accelsim.load(drawn.case.model)
    arch = drawn.setup.machine.evolve(requant_mode="q31")
    program = planned(model.bind({name: array.shape for name, array in case.inputs.items()}).graph, arch)
    fixed = 0
    for step in run_program(program, case.inputs, AccumulatorFormat(arch.acc_bits, arch.overflow, arch.zp_mode)):
        if fixed_point.is_fixed(step.layer.operator):
            fixed += 1
            assert step.outputs[0].reshape(-1).tolist() == expected_codes(step), step.layer.name
    result = accelsim.run(model, arch, case.inputs)
    check = result.check
    rows = [layer for layer in result.layers if layer.requantiser == "q31"]
    assert len(rows) == fixed
    rows = [row for row in rows if row.check is not None and row.check.exactness != "float-reference"]
    word = "q31" if rows else judged_word(result.outputs, case.model, dict(case.inputs))
    assert check.verdict == word, check.first_mismatch
    assert check.mismatched_elements == check.drifted_elements == 0
    assert len(rows) == len(check.q31)
    for row in rows:
        assert row.check is not None
        assert (row.check.verdict, row.check.sums_mismatched) == ("q31", 0)
        assert (row.check.max_lsb == 0) == (row.check.mismatched == 0)


@pytest.fixture
def sample(digits: Path) -> dict[str, NDArray[Any]]:
    """Four digits."""
    with np.load(digits.parent / "digits_sample.npz") as arrays:
        return {"image": arrays["image"]}


def test_the_digits_network_tells_its_distance(digits: Path, sample: dict[str, NDArray[Any]]) -> None:
    """Ten layers of class q31, each at most one step from onnxruntime; bill and parameters follow the mode."""
    model = accelsim.load(digits)
    plain, fixed = (accelsim.run(model, accelsim.Arch(requant_mode=mode), sample) for mode in ("f32", "q31"))
    assert (plain.check.verdict, fixed.check.verdict) == ("exact", "q31")
    assert plain.check.q31 == ()
    assert plain.check.output_distance is None
    assert len(fixed.check.q31) == 10
    assert max(distance.max_lsb for distance in fixed.check.q31) == 1
    assert fixed.check.output_distance is not None
    assert fixed.check.output_mismatched == round(fixed.check.output_distance.share * 40)
    assert plain.energy.scaling_pj == pytest.approx(dict(fixed.energy.scaling_pj))
    for result, unit in ((plain, 3.7 + 2 * 0.9 + 0.1), (fixed, SCALING_PJ)):
        arrays = [layer for layer in result.layers if layer.m is not None]
        for layer in arrays:
            count = layer.m * layer.n * layer.groups
            assert layer.energy_pj["requantiser"] == pytest.approx(count * unit)
    assert fixed.dram_bytes > plain.dram_bytes  # nine bytes of parameters per channel instead of eight
    difference = fixed.energy.scaling_pj["q31"] - fixed.energy.scaling_pj["f32"]
    changed = [sum(r.energy_components_pj[name] for name in ("requantiser", "vector")) for r in (plain, fixed)]
    assert changed[1] - changed[0] == pytest.approx(difference)


def test_overflowing_sums_are_not_hidden_behind_the_requantiser(digits: Path, sample: dict[str, NDArray[Any]]) -> None:
    """Sums that wrap in 16 bits are a mismatch in q31 mode too: through float32 they differ from onnxruntime."""
    result = accelsim.run(digits, accelsim.Arch(requant_mode="q31", acc_bits=16), sample)
    assert result.check.verdict == "mismatch"
    assert result.check.first_mismatch is not None
    assert any(layer.check is not None and layer.check.verdict == "mismatch" for layer in result.layers)


def test_a_layer_that_is_float_in_onnxruntime_stays_so(shared_models: Path) -> None:
    """Four-bit convolutions are float-reference in either mode; what is exact becomes q31."""
    path = shared_models / "resnet8_cifar10_w4a8_qdq.onnx"
    with np.load(path.with_suffix(".in0.npz")) as arrays:
        inputs = dict(arrays)
    result = accelsim.run(path, accelsim.Arch(requant_mode="q31"), inputs)
    assert (result.check.verdict, len(result.check.float_reference), len(result.check.q31)) == ("q31", 10, 4)


def test_real_networks_stay_within_one_step_per_layer(shared_models: Path) -> None:
    """Networks that come from TFLite: one step per layer at most, on onnxruntime's own inputs."""
    for name in ("resnet8_cifar10_int8", "dscnn_kws_int8", "mobilenetv1_025_128_uint8"):
        path = shared_models / f"{name}.onnx"
        with np.load(path.with_suffix(".in0.npz")) as arrays:
            inputs = dict(arrays)
        check = accelsim.run(path, accelsim.Arch(requant_mode="q31"), inputs).check
        assert (check.verdict, check.mismatched_elements) == ("q31", 0)
        assert max(distance.max_lsb for distance in check.q31) <= 1


def test_the_command_line_says_it(digits: Path) -> None:
    """The table, -v and the JSON name the class, the distances and both energies; the exit code is 0."""
    inputs = digits.parent / "digits_sample.npz"
    outcome = command("run", digits, "--input", inputs, "--set", "requant.mode=q31", "-v")
    assert outcome.code == 0
    flat = " ".join(outcome.stdout.split())
    for words in (
        "check q31, 0 mismatched elements before requantisation",
        "10 tensors on onnxruntime's own inputs: at most 1 LSB",
        "output elements differ, by at most",
        "still float32, and priced so: DequantizeLinear, QuantizeLinear",
        "requantisation, Add and Mul: f32",
        "layer (q31)",
    ):
        assert words in flat, words
    assert "check exact" not in flat
    data = json.loads(command("run", digits, "--input", inputs, "--set", "requant.mode=q31", "--json").stdout)
    assert data["check"]["verdict"] == "q31"
    assert len(data["check"]["q31"]) == 10
    assert set(data["check"]["output_distance"]) == {"max_lsb", "max_abs", "share"}
    assert set(data["energy"]["scaling_pj"]) == {"f32", "q31"}
    stem = next(layer for layer in data["layers"] if layer["name"] == "stem")
    assert stem["requantiser"] == "q31"
    assert {"max_lsb", "share", "sums_mismatched"} <= set(stem["check"])


def test_without_a_check_nothing_is_claimed(digits: Path) -> None:
    """--no-check skips the comparison; the table still says which layers scale in integers."""
    outcome = command("run", digits, "--set", "requant.mode=q31", "--no-check")
    assert outcome.code == 0
    assert "q31: 10 layers scale" in outcome.stdout
    assert "skipped" in outcome.stdout


def test_shifts_are_priced_as_what_they_are_taken_for() -> None:
    """The table has no shifter: the unit says that it is assumed, and as what."""
    from accelsim.energy import Units

    unit = Units(load_table(), accelsim.Arch()).arithmetic("int32_shift")
    assert (unit.value_pj, unit.basis) == (0.1, "assumed")
    assert "int32_add" in unit.source
