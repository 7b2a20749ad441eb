"""Weight-only quantisation: onnxruntime's values, and the price of float products with packed weights."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import accelsim
from accelsim.energy import load_table
from accelsim.explain.layers import explain_model
from accelsim.graph.normalise.constant_casts import fold_constant_casts
from accelsim.reference.session import open_session
from tests.check.word_models import judged_word
from tests.strategies import MICROSOFT, Builder, Case, Draw

SEED = 70_201


def dequantised(build: Builder, depth: int, columns: int, block: int, bits: int, scale: type) -> str:
    """Add constant codes of some bits with scales of a float type, per block of rows or per column."""
    rng, types, limit = build.draw.rng, {4: TensorProto.INT4, 8: TensorProto.INT8}, 1 << (bits - 1)
    codes = rng.integers(-limit, limit, (depth, columns))
    build.constants.append(helper.make_tensor("weights", types[bits], codes.shape, codes.reshape(-1).tolist()))
    shape = (-(-depth // block), columns) if block else (columns,)
    attributes = {"axis": 0, "block_size": block} if block else {"axis": 1}
    scales = build.constant(rng.uniform(0.01, 0.1, shape), scale)
    return build.node("DequantizeLinear", ["weights", scales], **attributes)


def blocked(draw: Draw, depth: int, columns: int, block: int, bits: int, kind: str) -> Case:
    """Build x -> MatMul or Gemm <- DequantizeLinear of constant codes of some bits."""
    build = Builder(draw)
    real = dequantised(build, depth, columns, block, bits, np.float32)
    inputs = [build.input(draw.rng.normal(size=(5, depth)).astype(np.float32)), real]
    inputs += [build.constant(draw.rng.normal(size=columns), np.float32)] if kind == "Gemm" else []
    build.output(build.node(kind, inputs), np.float32)
    return build.case()


# Blocks for which onnxruntime has no MatMulNBits, so that the product stays as the file has it.
UNFUSED = (8, 24)


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
@pytest.mark.parametrize(("bits", "block"), [(4, 0), (4, 16), (4, 8), (8, 0), (8, 32), (4, 24)])
def test_weight_only_products_are_priced_on_the_array(kind: str, bits: int, block: int) -> None:
    """One product, packed weights in memory with their scales: floats, or what onnxruntime makes of it."""
    case = blocked(Draw((SEED, bits, block), ties=False), 96, 24, block, bits, kind)
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    assert result.check.verdict == "exact"
    *before, layer = result.layers
    fused = block not in UNFUSED
    assert [part.op for part in before] == ["quantise"] * fused
    assert (layer.placement, layer.arithmetic) == ("array", "int8 per block" if fused else "float32")
    assert (layer.m, layer.k, layer.n) == (5, 96, 24)
    table = load_table()
    multiply, add = (table.operation(f"fp32_{name}").value_pj for name in ("multiply", "add"))
    blocks = -(-96 // (block or (32 if fused else 96)))
    if fused:
        counts = {line.unit: line.count for line in layer.charges if line.component == "requantiser"}
        biased = 5 * 24 if kind == "Gemm" else 0
        assert counts == {"fp32_multiply": 2 * 5 * 24 * blocks, "fp32_add": 5 * 24 * blocks + biased}
        assert layer.energy_pj["mac"] < layer.macs * (multiply + add)
    else:
        assert layer.energy_pj["mac"] > layer.macs * (multiply + add)
    weights, scales = 96 * 24 * bits // 8, 4 * 24 * blocks
    read = result.dram_bytes - 5 * 24 * 4
    assert read >= weights + scales + 5 * 96 * 4
    assert read <= 1.25 * (weights + scales + 4 * 24 + 5 * 96 * 4)


@pytest.mark.parametrize("kind", ["float16", "float32"])
@pytest.mark.parametrize(("bits", "block"), [(4, 0), (4, 16), (8, 0)])
def test_float16_scales_are_constants_of_the_product(bits: int, block: int, kind: str) -> None:
    """They are converted once; as a node of the graph they would not be there when weights are packed."""
    build = Builder(Draw((SEED, 6, bits, block), ties=False))
    x = build.input(build.draw.rng.normal(size=(3, 64)).astype(kind))
    if kind == "float32":
        code = build.draw.activation()
        x = build.node("Cast", [build.dequantise(build.quantise(x, code), code)], to=TensorProto.FLOAT16)
    real = dequantised(build, 64, 24, block, bits, np.float16)
    build.output(build.node("MatMul", [x, real]), np.float16)
    case = build.case()
    theirs = open_session(case.model, optimise="all").run(None, case.inputs)[0]
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    assert result.check.verdict == judged_word(result.outputs, case.model, dict(case.inputs))
    assert result.check.verdict == "exact" or kind == "float32"  # codes, which onnxruntime may quantise once more
    assert np.abs(next(iter(result.outputs.values())) - theirs).max() < 0.02 * np.abs(theirs).max()


def test_large_constants_that_are_converted_stay_out_of_the_message() -> None:
    """What the conversion makes is large where it is, and what it reads is given to nobody any more."""
    values = {"large": np.linspace(0, 1, 1 << 18, dtype=np.float16), "small": np.ones(4, np.float16)}
    values |= {"twice": np.ones(2, np.float16), "other": np.ones(1 << 18, np.float32)}
    nodes = [helper.make_node("Cast", [name], [f"{name}_wide"], to=TensorProto.FLOAT) for name in list(values)[:3]]
    nodes += [helper.make_node("Sum", [f"{name}_wide"], [f"{name}_y"]) for name in ("large", "small", "twice", "twice")]
    nodes += [helper.make_node("Identity", ["other"], ["other_y"])]
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "casts", [], [], tensors)
    folded, apart = fold_constant_casts(helper.make_model(graph), {"other": values["other"]})
    assert [node.op_type for node in folded.graph.node] == ["Cast", *["Sum"] * 4, "Identity"]
    assert {tensor.name for tensor in folded.graph.initializer} == {"large_wide", "small_wide", "twice", "other"}
    assert set(apart) == {"large_wide", "other"}
    assert np.array_equal(apart["large_wide"], values["large"].astype(np.float32))


def test_activations_that_onnxruntime_quantises_are_noted() -> None:
    """The file has float activations: the verdict says that they are not; nothing is said where they stay floats."""
    for block, expected in ((32, 1), (24, 0)):
        case = blocked(Draw((SEED, 4), ties=False), 96, 24, block, 4, "MatMul")
        notes = accelsim.run(accelsim.load(case.model), None, case.inputs).check.notes
        told = [note for note in notes if "activations of 1 product to int8 per block" in note]
        assert len(told) == expected, notes


@pytest.mark.parametrize(("bits", "block"), [(4, 16), (4, 32), (4, 128), (8, 32), (8, 256)])
def test_activations_per_block_are_what_onnxruntime_computes(bits: int, block: int) -> None:
    """The formula that is priced: codes from the largest magnitude of a block, integer sums, scaled and added."""
    rng, depth, columns = np.random.default_rng([SEED, bits, block]), 256, 8
    blocks, half = depth // block, 1 << (bits - 1)
    codes = rng.integers(0, 2 * half, (columns, blocks, block))
    packed = codes if bits == 8 else codes[..., ::2] | codes[..., 1::2] << 4
    scales = rng.uniform(0.01, 0.1, (columns, blocks)).astype(np.float32)
    build = Builder(Draw((SEED, 5), ties=False))
    reals = rng.normal(size=(3, depth)).astype(np.float32)
    inputs = [build.input(reals), build.constant(packed.astype(np.uint8)), build.constant(scales.reshape(-1))]
    sizes = {"K": depth, "N": columns, "bits": bits, "block_size": block, "accuracy_level": 4}
    build.output(build.node("MatMulNBits", inputs, MICROSOFT, **sizes), np.float32, 2)
    case = build.case()
    given = accelsim.run(accelsim.load(case.model), None, case.inputs)
    parts = reals.reshape(3, blocks, block)
    largest = np.abs(parts).max(axis=-1)
    whole = np.rint(parts * (np.float32(127) / largest)[..., None])
    sums = np.einsum("rbk,nbk->rnb", whole.astype(np.int64), codes - half)
    mine = (sums * (largest / 127)[:, None, :] * scales[None]).sum(axis=-1)
    exact = np.einsum("rbk,nbk,nb->rn", parts, codes - half, scales)
    (theirs,) = given.outputs.values()
    assert np.abs(mine - theirs).max() < 0.1 * np.abs(exact - theirs).max()
    assert [layer.arithmetic for layer in given.layers] == [None, "int8 per block"]


@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("level", [0, 4])
def test_matmul_n_bits_is_exact_at_both_accuracy_levels(zero_points: bool, level: int) -> None:
    """The operator of the file itself, at both accuracy levels."""
    draw = Draw((SEED, 1), ties=False)
    build, depth, columns, block = Builder(draw), 64, 16, 32
    packed = draw.rng.integers(0, 256, (columns, depth // block, block // 2)).astype(np.uint8)
    inputs = [
        build.input(draw.rng.normal(size=(3, depth)).astype(np.float32)),
        build.constant(packed),
        build.constant(draw.rng.uniform(0.01, 0.1, columns * depth // block), np.float32),
    ]
    inputs += [build.constant(draw.rng.integers(0, 256, columns).astype(np.uint8))] if zero_points else []
    sizes = {"K": depth, "N": columns, "bits": 4, "block_size": block, "accuracy_level": level}
    build.output(build.node("MatMulNBits", inputs, MICROSOFT, **sizes), np.float32, 2)
    case = build.case()
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    assert result.check.verdict == "exact"
    product = ("array", "float32") if level == 0 else ("array", "int8 per block")
    assert [(layer.placement, layer.arithmetic) for layer in result.layers][-1] == product
    assert [layer.op for layer in result.layers[:-1]] == ([] if level == 0 else ["quantise"])
    unit = "int9x8_multiply" if level else "fp32_multiply"
    assert any(line.component == "mac" and line.unit == unit for line in result.layers[-1].charges)


def test_float_operands_are_said_in_the_explanation() -> None:
    """A reader of explain learns that the integer array could not do it."""
    case = blocked(Draw((SEED, 2), ties=False), 64, 16, 24, 4, "MatMul")
    text = "\n".join(explain_model(accelsim.load(case.model), accelsim.Arch()))
    assert "float32 activations, 4-bit weights dequantised" in text
    case = blocked(Draw((SEED, 2), ties=False), 64, 16, 32, 4, "MatMul")
    text = "\n".join(explain_model(accelsim.load(case.model), accelsim.Arch()))
    assert "int8 activations, quantised at run time; a scale per 32 of k on both sides: 160 sums" in text
