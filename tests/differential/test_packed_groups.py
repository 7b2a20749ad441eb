"""MatMulNBits between 16-bit codes, as some versions of onnxruntime write it for MatMul, as integers again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import accelsim
from accelsim.operators import HostOperator, MatrixMultiply

Array = NDArray[Any]
ROWS, COLUMNS, BLOCK = 3, 6, 32


@dataclass(frozen=True, eq=False)
class Product:
    """A packed product: its file, codes to feed, and the real numbers that its output codes round."""

    data: bytes
    codes: Array
    ideal: Array


def pack(codes: Array, bits: int) -> Array:
    """Put codes below 2^bits into bytes, the first one in the lowest bits, along the last axis."""
    per_byte = 8 // bits
    padding = [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % per_byte)]
    parts = np.pad(codes, padding).reshape(*codes.shape[:-1], -1, per_byte).astype(np.int64)
    return (parts << (bits * np.arange(per_byte))).sum(-1).astype(np.uint8)


def product(
    bits: int, *, depth: int = 40, level: int = 1, zero_points: bool = True, even: bool = True, kind: str = "uint16"
) -> Product:
    """Draw a product with a bias; even: all blocks of a column have one scale and one zero point."""
    rng = np.random.default_rng((bits, depth, level, zero_points))
    blocks, limits = -(-depth // BLOCK), np.iinfo(kind)
    codes = rng.integers(limits.min, limits.max, (ROWS, depth), kind, endpoint=True)
    weights = rng.integers(0, 2**bits, (COLUMNS, blocks * BLOCK))
    scales = rng.uniform(0.01, 0.1, (COLUMNS, 1 if even else blocks)).astype(np.float32)
    shift = rng.integers(0, 2**bits, (COLUMNS, 1)) if zero_points else np.full((COLUMNS, 1), 2 ** (bits - 1))
    bias = rng.uniform(-3, 3, COLUMNS).astype(np.float32)
    scales, shifts = np.broadcast_to(scales, (COLUMNS, blocks)), np.broadcast_to(shift, (COLUMNS, blocks))
    constants = {
        "s": np.array(0.001, np.float32), "z": np.array(limits.max // 3, kind), "t": np.array(0.002, np.float32),
        "w": pack(weights.reshape(COLUMNS, blocks, BLOCK), bits), "ws": scales.reshape(-1), "b": bias,
    }  # fmt: skip
    if zero_points:
        constants["wz"] = pack(shifts, bits).reshape(-1)
    sizes = {"K": depth, "N": COLUMNS, "bits": bits, "block_size": BLOCK, "accuracy_level": level}
    inputs = ["a", "w", "ws", "wz" if zero_points else "", "", "b"]
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("MatMulNBits", inputs, ["c"], "product", domain="com.microsoft", **sizes),
        helper.make_node("QuantizeLinear", ["c", "t", "z"], ["y"]),
    ]
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    ends = [
        helper.make_tensor_value_info(name, element_type, (ROWS, size)) for name, size in (("x", depth), ("y", COLUMNS))
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    zero = int(constants["z"])
    real = (weights - np.repeat(shifts, BLOCK, 1))[:, :depth] * np.repeat(scales, BLOCK, 1)[:, :depth].astype(float)
    ideal = ((codes.astype(float) - zero) * 0.001 @ real.T + bias) / 0.002 + zero
    return Product(data, codes, np.clip(ideal, limits.min, limits.max))


def operator(data: bytes) -> object:
    """Return what the product is imported to."""
    return next(node.operator for node in accelsim.load(data).bind().graph.nodes if node.kind == "MatMulNBits")


@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("depth", [32, 40, 70])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_weights_are_integers_again(bits: int, depth: int, zero_points: bool) -> None:
    """Weights of every width, blocks filled up or not: integers on the array, a step at most from onnxruntime."""
    for kind in ("uint16", "int16"):
        case = product(bits, depth=depth, zero_points=zero_points, kind=kind)
        result = accelsim.run(case.data, accelsim.Arch(acc_bits=48), {"x": case.codes})
        assert result.check.passed()  # a step at most, which makes outputs that differ near
        assert [part.max_lsb <= 1 for part in result.check.float_reference] == [True]
        assert np.abs(result.outputs["y"] - case.ideal).max() < 0.75
        imported = operator(case.data)
        assert isinstance(imported, MatrixMultiply)
        assert imported.weights is not None
        assert imported.weights.bits == bits


@pytest.mark.parametrize("changed", [{"level": 4}, {"even": False}])
def test_what_is_no_product_of_integers_stays_with_onnxruntime(changed: dict[str, Any]) -> None:
    """Activations that onnxruntime quantises to 8 bits, scales that differ within a column."""
    case = product(8, **changed)
    assert isinstance(operator(case.data), HostOperator)
    assert accelsim.run(case.data, inputs={"x": case.codes}).check.verdict == "exact"
