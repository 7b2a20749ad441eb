"""Weight-only quantisation: onnxruntime's values, and the price of float products with packed weights."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import accelsim
from accelsim.energy import load_table
from accelsim.explain import explain_model
from tests.strategies import MICROSOFT, Builder, Case, Draw

SEED = 70_201


def blocked(draw: Draw, depth: int, columns: int, block: int, bits: int, kind: str) -> Case:
    """Build x -> MatMul or Gemm <- DequantizeLinear of constant codes of some bits."""
    build = Builder(draw)
    types = {4: TensorProto.INT4, 8: TensorProto.INT8}
    limit = 1 << (bits - 1)
    codes = draw.rng.integers(-limit, limit, (depth, columns))
    build.constants.append(helper.make_tensor("weights", types[bits], codes.shape, codes.reshape(-1).tolist()))
    shape = (-(-depth // block), columns) if block else (columns,)
    scales = build.constant(draw.rng.uniform(0.01, 0.1, shape), np.float32)
    attributes = {"axis": 0, "block_size": block} if block else {"axis": 1}
    real = build.node("DequantizeLinear", ["weights", scales], **attributes)
    inputs = [build.input(draw.rng.normal(size=(5, depth)).astype(np.float32)), real]
    inputs += [build.constant(draw.rng.normal(size=columns), np.float32)] if kind == "Gemm" else []
    build.output(build.node(kind, inputs), np.float32)
    return build.case()


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
@pytest.mark.parametrize(("bits", "block"), [(4, 0), (4, 16), (4, 8), (8, 0), (8, 32), (4, 24)])
def test_weight_only_products_are_priced_on_the_array(kind: str, bits: int, block: int) -> None:
    """One layer, packed weights in memory with their scales, float multiplications."""
    case = blocked(Draw((SEED, bits, block), ties=False), 96, 24, block, bits, kind)
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    assert result.check.verdict == "exact"
    (layer,) = result.layers
    assert (layer.placement, layer.arithmetic) == ("array", "float32")
    assert (layer.m, layer.k, layer.n) == (5, 96, 24)
    table = load_table()
    multiply, add = (table.operation(f"fp32_{name}").value_pj for name in ("multiply", "add"))
    assert layer.energy_pj["mac"] > layer.macs * (multiply + add)
    weights, scales = 96 * 24 * bits // 8, 4 * 24 * (-(-96 // block) if block else 1)
    read = layer.dram_bytes - 5 * 24 * 4
    assert read >= weights + scales + 5 * 96 * 4
    assert read <= 1.25 * (weights + scales + 4 * 24 + 5 * 96 * 4)


@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("level", [0, 4])
def test_matmul_n_bits(zero_points: bool, level: int) -> None:
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
    assert [(layer.placement, layer.arithmetic) for layer in result.layers] == [("array", "float32")]


def test_float_operands_are_said_in_the_explanation() -> None:
    """A reader of explain learns that the integer array could not do it."""
    case = blocked(Draw((SEED, 2), ties=False), 64, 16, 32, 4, "MatMul")
    text = "\n".join(explain_model(accelsim.load(case.model), accelsim.Arch()))
    assert "float32 activations, 4-bit weights dequantised" in text
