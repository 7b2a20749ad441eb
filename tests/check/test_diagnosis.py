"""Diagnoses of faults that are planted: the right node, element, accumulators and cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper

import accelsim
from accelsim import operators as ops
from accelsim.check.checker import Checker
from accelsim.check.diagnose import Case, diagnose, inherited
from accelsim.check.hints import Hints
from accelsim.kernels.values.elementwise import add_codes, requantise_rows
from accelsim.operators.tensors import TensorType
from accelsim.program.layers import Layer
from accelsim.program.plan import StreamPlan
from accelsim.program.work import StreamWork
from accelsim.results.check import FirstMismatch
from accelsim.results.result import Result
from accelsim.simulation.model import Model
from accelsim.values.accumulators import AccumulatorFormat
from tests.hostile.builders import WIDTH, constant, floats, model_of, parameters, quantised, replace_constant

Array = NDArray[np.generic]
UINT8 = ops.CodeFormat(np.dtype(np.uint8), 0)
WEIGHTS = np.arange(-32, 32).reshape(WIDTH, WIDTH)


def tie_rich(proto: ModelProto) -> None:
    """Give the matrix product scales whose multiplier is exactly one half, so that every odd sum is a tie."""
    for name, value in (("scale", 0.0625), ("weights_scale", 0.0625), ("out_scale", 0.0078125)):
        replace_constant(name, np.float32(value))(proto)
    replace_constant("weights", np.arange(-32, 32, dtype=np.int8).reshape(WIDTH, WIDTH))(proto)


def with_operator(model: Model, kind: type, change: Callable[[Any], Any]) -> Model:
    """Change the constants of the operators of one type in the imported graph."""
    nodes = model.bind().graph.nodes
    for node in nodes:
        if isinstance(node.operator, kind):
            object.__setattr__(node, "operator", change(node.operator))
    return model


def first_of(result: Result) -> FirstMismatch:
    """Return the first mismatch, which must be there and be explained."""
    assert result.check.verdict == "mismatch"
    first = result.check.first_mismatch
    assert first is not None
    assert first.diagnosis is not None
    return first


def codes_of(x: NDArray[np.float32], scale: float = 0.05, zero_point: int = 3) -> NDArray[np.int64]:
    """Quantise as the first node of the model does."""
    return np.clip(np.rint(x / np.float32(scale)) + zero_point, 0, 255).astype(np.int64)


def draw(seed: int = 5) -> NDArray[np.float32]:
    """Draw one row of inputs."""
    return np.random.default_rng(seed).uniform(0, 8, (1, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_narrow_accumulators_are_named_as_the_cause(overflow: str) -> None:
    """The product's 12-bit sums: our value, the exact sum, where it happened, and that narrowing is the cause."""
    x = draw()
    machine = accelsim.Arch(acc_bits=12, overflow=overflow, zp_mode="subtract")
    first = first_of(accelsim.run(accelsim.load(quantised().SerializeToString()), machine, {"x": x}))
    seen = first.diagnosis.accumulator
    assert (first.layer, first.operator, first.tensor) == ("product", "QLinearMatMul", "out_codes")
    assert first.diagnosis.cause == "accumulator-overflow"
    sums = (codes_of(x) - 3) @ WEIGHTS
    exact = int(sums[first.index])
    assert (seen.exact, seen.reference, seen.bits, seen.terms) == (exact, exact, 12, WIDTH)
    ours = 0
    for code, weight in zip(codes_of(x)[0] - 3, WEIGHTS[:, first.index[1]], strict=True):
        ours += int(code * weight)
        ours = max(-2048, min(2047, ours)) if overflow == "saturate" else (ours + 2048) % 4096 - 2048
    assert seen.ours == ours
    assert seen.lowest <= exact <= seen.highest
    assert not seen.lowest <= ours <= seen.highest
    assert seen.overflows > 0


def test_sums_under_an_integer_requantiser() -> None:
    """With q31 codes may differ by design; a wrong sum is told by its float twin, and is diagnosed as any other."""
    x = draw()
    machine = accelsim.Arch(acc_bits=12, requant_mode="q31")
    first = first_of(accelsim.run(quantised_model(), machine, {"x": x}))
    assert first.diagnosis.cause == "accumulator-overflow"
    assert first.diagnosis.accumulator.exact == int(((codes_of(x) - 3) @ WEIGHTS)[first.index])
    assert first.diagnosis.accumulator.ours_before_rounding is not None


def test_row_sums_in_narrow_accumulators() -> None:
    """Asymmetric weights on a machine with row sums: the narrow accumulator of the codes is replayed."""
    codes = np.random.default_rng(2).integers(0, 256, (WIDTH, WIDTH)).astype(np.uint8)
    proto = quantised(replace_constant("weights", codes), replace_constant("weights_zero", np.uint8(9)))
    x = draw()
    machine = accelsim.Arch(acc_bits=15, weight_zero_point="row-sum")
    first = first_of(accelsim.run(accelsim.load(proto.SerializeToString()), machine, {"x": x}))
    assert first.diagnosis.cause == "accumulator-overflow"
    exact = int(((codes_of(x) - 3) @ (codes.astype(np.int64) - 9))[first.index])
    assert first.diagnosis.accumulator.exact == exact
    ours = first.diagnosis.accumulator.ours
    assert -(2**14) <= ours < 2**14
    assert (ours - exact) % 2**15 == 0


def test_a_multiplier_one_ulp_off_is_a_rounding_tie() -> None:
    """With a multiplier of one half, one ulp more decides every tie otherwise; the first odd one is named."""
    x = draw(3) / 4
    model = accelsim.load(quantised(tie_rich).SerializeToString())
    exact = (codes_of(x, 0.0625) - 3) @ WEIGHTS

    def nudge(op: ops.MatrixMultiply) -> ops.MatrixMultiply:
        assert isinstance(op.epilogue, ops.Requantise)
        assert op.epilogue.multiplier.tolist() == [0.5]
        more = np.nextafter(op.epilogue.multiplier, np.float32(1))
        return replace(op, epilogue=replace(op.epilogue, multiplier=more))

    first = first_of(accelsim.run(with_operator(model, ops.MatrixMultiply, nudge), inputs={"x": x}))
    seen = first.diagnosis.accumulator
    assert first.layer == "product"
    assert first.diagnosis.cause == "rounding-tie", first.diagnosis
    assert seen.ours == seen.reference == int(exact[first.index])
    assert seen.ours % 2 == 1
    assert abs(first.got - first.expected) == 1


def test_an_input_zero_point_off_by_one() -> None:
    """Each sum is off by the sum of its weights: no cause fits, and the distance to the right sums is told."""
    x = draw() / 8
    model = accelsim.load(quantised(replace_constant("out_scale", np.float32(0.02))).SerializeToString())

    def shift(op: ops.MatrixMultiply) -> ops.MatrixMultiply:
        return replace(op, input=replace(op.input, zero_point=op.input.zero_point + 1))

    first = first_of(accelsim.run(with_operator(model, ops.MatrixMultiply, shift), inputs={"x": x}))
    seen = first.diagnosis.accumulator
    exact = int(((codes_of(x) - 3) @ WEIGHTS)[first.index])
    assert seen.ours == exact - int(WEIGHTS[:, first.index[1]].sum())
    assert seen.lowest <= exact <= seen.highest
    assert first.diagnosis.cause == "unknown"
    assert "outside of those that give the reference's value" in first.diagnosis.explanation


def test_an_output_zero_point_off_by_one() -> None:
    """All codes are off by one step, which points at the zero point."""
    x = draw() / 8
    model = accelsim.load(quantised().SerializeToString())

    def shift(op: ops.MatrixMultiply) -> ops.MatrixMultiply:
        code = replace(op.epilogue.output, zero_point=op.epilogue.output.zero_point + 1)
        return replace(op, epilogue=replace(op.epilogue, output=code))

    first = first_of(accelsim.run(with_operator(model, ops.MatrixMultiply, shift), inputs={"x": x}))
    assert first.diagnosis.cause == "constant-offset"
    assert "all 8 differing elements of 8 are off by +1" in first.diagnosis.explanation
    assert first.got == first.expected + 1


def test_a_wrong_kernel_is_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does not compute what its constants say is told from constants that are wrong."""

    def broken(acc: Array, multiplier: Array, zero: int, lowest: int, highest: int, out: Array) -> None:
        requantise_rows(acc, multiplier, zero, lowest, highest, out)
        out[-1] += 2

    monkeypatch.setattr("accelsim.values.epilogue.requantise_rows", broken)
    first = first_of(accelsim.run(quantised_model(), inputs={"x": draw()}))
    assert (first.layer, first.index, first.got - first.expected) == ("product", (0, WIDTH - 1), 2)
    assert first.diagnosis.cause == "kernel"


def quantised_model() -> Model:
    """Return the quantised matrix product, loaded."""
    return accelsim.load(quantised().SerializeToString())


def test_an_addition_without_fma(monkeypatch: pytest.MonkeyPatch) -> None:
    """QLinearAdd rounds once per fused multiply-add; products rounded first differ at ties, and the first is named."""

    def rounded(a: Array, b: Array, zero_a: int, zero_b: int, ratio_a: Any, ratio_b: Any, *rest: Any) -> None:
        zero, lowest, highest, out = rest
        f32 = np.float32
        offset = f32(zero) - (ratio_a * f32(zero_a) + ratio_b * f32(zero_b))
        value = a.astype(f32) * ratio_a + (b.astype(f32) * ratio_b + offset)
        out[:] = np.clip(np.rint(value), lowest, highest).astype(out.dtype)

    pairs = np.stack(np.meshgrid(np.arange(256), np.arange(256))).reshape(2, 1, -1).astype(np.uint8)
    scales = [np.float32(0.1), np.nextafter(np.float32(0.3), np.float32(1)), np.float32(0.2)]
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "scale_a", "zero_a"], ["fa"], "first"),
        helper.make_node("DequantizeLinear", ["b", "scale_b", "zero_b"], ["fb"], "second"),
        helper.make_node("Add", ["fa", "fb"], ["sum"], "the sum"),
        helper.make_node("QuantizeLinear", ["sum", "scale_c", "zero_c"], ["c"], "third"),
    ]
    constants = [
        constant(f"{kind}_{letter}", value)
        for letter, scale, zero in zip("abc", scales, (3, 250, 7), strict=True)
        for kind, value in (("scale", scale), ("zero", np.uint8(zero)))
    ]
    codes = [helper.make_tensor_value_info(name, 2, [1, 65536]) for name in "abc"]
    model = accelsim.load(model_of(nodes, constants, codes[:2], codes[2:]).SerializeToString())
    inputs = {"a": pairs[0], "b": pairs[1]}
    assert accelsim.run(model, inputs=inputs).check.verdict == "exact"
    reference = accelsim.run(model, inputs=inputs).outputs["c"]
    monkeypatch.setattr("accelsim.kernels.values.elementwise.add_codes", rounded)
    result = accelsim.run(model, inputs=inputs)
    first = first_of(result)
    assert (first.layer, first.operator, first.tensor) == ("the sum", "QLinearAdd", "c")
    assert first.index == tuple(np.argwhere(result.outputs["c"] != reference)[0])
    assert (first.got, first.expected) == (result.outputs["c"][first.index], reference[first.index])
    assert first.diagnosis.cause == "rounding-tie", first.diagnosis
    assert first.diagnosis.accumulator is None
    assert add_codes is not rounded


def test_the_first_of_several_faults_is_named(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults in two layers of a network: the earlier one in topological order is named."""
    model = accelsim.load(digits)
    names = [node.name for node in model.bind().graph.nodes if isinstance(node.operator, ops.Convolution)]
    for node in model.bind().graph.nodes:
        if node.name in (names[2], names[4]):
            op = node.operator
            shifted = replace(op, weights=replace(op.weights, bias=op.weights.bias + 5000))
            object.__setattr__(node, "operator", shifted)
    first = first_of(accelsim.run(model))
    seen = first.diagnosis.accumulator
    assert first.layer == names[2]
    assert not seen.lowest <= seen.ours <= seen.highest
    assert seen.lowest <= seen.ours - 5000 <= seen.highest


def case_of(op: ops.Operator, inputs: list[Array], got: Array, expected: Array, tensor: str = "t") -> Case:
    """Return a case at the first differing element."""
    index = tuple(int(i) for i in np.argwhere(got != expected)[0])
    types = tuple(TensorType.of(array.dtype, array.shape) for array in inputs)
    layer = Layer("l", "k", op, ("i",), (tensor,), types, (), StreamWork, StreamPlan)  # type: ignore[arg-type]
    return Case(layer, tensor, tuple(inputs), got, expected, index, AccumulatorFormat())


def product_of(weights: list[int], bias: int = 0) -> ops.MatrixMultiply:
    """Return a product of uint8 codes with one column of weights and a multiplier of 1 / 256."""
    stationary = ops.Weights(np.array([weights], np.int16), np.array([bias], np.int32))
    epilogue = ops.Requantise(np.array([1 / 256], np.float32), UINT8)
    return ops.MatrixMultiply(UINT8, stationary, None, epilogue)


def test_saturated_pairs_of_the_reference() -> None:
    """A reference that gives 128 where 253 is exact: 32767 of one pair; named only on a CPU that saturates."""
    op, codes = product_of([127, 127]), np.array([[255, 255]], np.uint8)
    case = case_of(op, [codes], np.array([[253]], np.uint8), np.array([[128]], np.uint8))
    found = diagnose(case, Hints(reference_saturates=True))
    assert found.cause == "reference-saturation"
    assert "32,767 instead of 64,770" in found.explanation
    assert diagnose(case, Hints()).cause == "unknown"


def test_a_bias_with_its_own_scale() -> None:
    """A reference that takes the bias with its own scale, half as large."""
    op, codes = product_of([1, 1], 25600), np.array([[0, 0]], np.uint8)
    case = case_of(op, [codes], np.array([[100]], np.uint8), np.array([[50]], np.uint8))
    assert diagnose(case, Hints(bias_ratios={"t": 0.5})).cause == "bias-scale"
    assert diagnose(case, Hints(bias_ratios={"t": 0.6})).cause == "unknown"


def test_a_collapsed_pair_of_quantisers_is_named_as_the_cause() -> None:
    """A reference that quantises with the file's own scale where the merged one is used."""
    op = ops.Quantise(np.float32(0.5), UINT8)
    values = np.array([4.0], np.float32)
    case = case_of(op, [values], np.array([8], np.uint8), np.array([16], np.uint8))
    literal = ops.Quantise(np.float32(0.25), UINT8)
    assert diagnose(case, Hints(collapsed={"t": literal})).cause == "collapsed-qdq"
    assert diagnose(case, Hints()).cause == "unknown"


def test_a_wide_sum_that_onnxruntime_wraps_is_named() -> None:
    """A wide accumulator keeps a sum that onnxruntime wraps."""
    op = product_of([32767] * 300, 2**31 - 1)
    codes = np.full((1, 300), 255, np.uint8)
    case = replace(
        case_of(op, [codes], np.array([[255]], np.uint8), np.array([[0]], np.uint8)), accumulator=AccumulatorFormat(40)
    )
    assert case.theirs == 0
    assert diagnose(case, Hints()).cause in ("reference-wraps", "unknown")
    exact = 2**31 - 1 + 300 * 32767 * 255
    wrapped = (exact + 2**31) % 2**32 - 2**31
    assert (diagnose(case, Hints()).cause == "reference-wraps") == (wrapped < 128)


def test_a_quantiser_at_a_tie() -> None:
    """0.75 / 0.5 is exactly half way between two codes."""
    case = case_of(
        ops.Quantise(np.float32(0.5), UINT8),
        [np.array([0.75], np.float32)],
        np.array([1], np.uint8),
        np.array([2], np.uint8),
    )
    found = diagnose(case, Hints())
    assert (found.cause, "exactly half way" in found.explanation) == ("rounding-tie", True)


def test_inherited_differences_name_the_input() -> None:
    """The sentence for a layer that is exact by itself; names from a model are made printable."""
    assert "'bad?name'" in inherited("bad\x1bname").explanation


def test_an_onnxruntime_that_contradicts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs of the whole model that differ from its optimised graph are a mismatch with a reason."""
    real = Checker.__post_init__

    def altered(checker: Checker) -> None:
        real(checker)
        checker._final = {name: array + 1 for name, array in checker._final.items()}

    monkeypatch.setattr(Checker, "__post_init__", altered)
    first = first_of(accelsim.run(quantised_model(), inputs={"x": draw()}))
    assert (first.tensor, first.index, first.diagnosis.cause) == ("y", (0, 0), "final-output")


def double_pair() -> ModelProto:
    """Return Q, DQ, Q, DQ with two scales, which onnxruntime merges."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "one"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "two"),
        helper.make_node("QuantizeLinear", ["d", "other_scale", "other_zero"], ["q2"], "three"),
        helper.make_node("DequantizeLinear", ["q2", "other_scale", "other_zero"], ["y"], "four"),
    ]
    return model_of(nodes, [*parameters(), *parameters("other_", 0.07, 100)])


def as_nodes(model: ModelProto) -> ModelProto:
    """Return a model whose constants are Constant nodes, as exporters write them."""
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer]
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.parametrize("spelled", [lambda model: model, as_nodes])
def test_merged_pairs_are_noted(spelled: Callable[[ModelProto], ModelProto]) -> None:
    """The verdict says that onnxruntime merges two pairs, which explains the distance to the literal evaluation."""
    check = accelsim.run(accelsim.load(spelled(double_pair()).SerializeToString()), inputs={"x": draw()}).check
    assert check.verdict == "exact"
    assert len(check.notes) == 1
    assert "merges 1 double Q/DQ pair into one, at 'q' first" in check.notes[0]
    assert check.literal_qdq is not None
    assert check.literal_qdq.share > 0


@pytest.mark.parametrize("spelled", [lambda model: model, as_nodes])
def test_ignored_bias_scales_are_noted(spelled: Callable[[ModelProto], ModelProto]) -> None:
    """A Gemm whose bias has a scale 0.9 % off passes the loader; the verdict says that it is ignored."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wf"]),
        helper.make_node("DequantizeLinear", ["b", "b_scale", "b_zero"], ["bf"]),
        helper.make_node("Gemm", ["d", "wf", "bf"], ["g"], "gemm"),
        helper.make_node("QuantizeLinear", ["g", "out_scale", "out_zero"], ["out"]),
        helper.make_node("DequantizeLinear", ["out", "out_scale", "out_zero"], ["y"]),
    ]
    constants = [
        *parameters(),
        *parameters("out_", 0.25, 128),
        constant("w", WEIGHTS.astype(np.int8)),
        constant("w_scale", np.float32(0.02)),
        constant("w_zero", np.int8(0)),
        constant("b", np.arange(WIDTH, dtype=np.int32) * 900),
        constant("b_scale", np.float32(0.001 * 1.009)),
        constant("b_zero", np.int32(0)),
    ]
    model = spelled(model_of(nodes, constants, [floats("x")], [floats("y")]))
    check = accelsim.run(accelsim.load(model.SerializeToString()), inputs={"x": draw()}).check
    assert check.verdict == "exact"
    assert check.notes == ()
    (sentence,) = check.ignored
    assert "ignores the scale of the bias of Gemm 'gemm', which is 0.90% off" in sentence


def test_a_clean_model_has_no_notes(digits: Path) -> None:
    """Scales that are products up to rounding are no remark."""
    check = accelsim.run(accelsim.load(digits)).check
    assert (check.notes, check.ignored) == ((), ())
