"""Symmetric and asymmetric weights of one network, on a machine of each kind: cycles, energy, width of the sums.

Two convolutions with the same float weights are quantised twice, with weights symmetric around 0 (int8, z_w = 0) and
over their own range (uint8, z_w != 0). Run it as `python docs/examples/zero_points.py`; with a folder as argument it
also writes both models there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import accelsim
from accelsim.energy import load_table

CHANNELS = ((3, 16, 3), (16, 32, 1))  # input channels, output channels, kernel


def quantise(weights: NDArray[Any], *, symmetric: bool) -> tuple[NDArray[Any], float, NDArray[Any]]:
    """Return codes, scale and zero point of float weights, per tensor."""
    if symmetric:
        scale = float(np.abs(weights).max()) / 127
        return np.rint(weights / scale).astype(np.int8), scale, np.zeros((), np.int8)
    scale = float(weights.max() - weights.min()) / 255
    zero_point = round(float(-weights.min()) / scale)
    return np.clip(np.rint(weights / scale) + zero_point, 0, 255).astype(np.uint8), scale, np.uint8(zero_point)[()]


def build(*, symmetric: bool) -> bytes:
    """Build the network as Q/DQ, the same float weights for both kinds."""
    rng = np.random.default_rng(2021)
    constants: list[Any] = []
    nodes: list[Any] = []

    def constant(name: str, value: Any, dtype: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    nodes.append(helper.make_node("DequantizeLinear", ["x", *_parameters(constant, "x", 0.02, 128)], ["x_real"]))
    last = "x_real"
    for number, (source, target, side) in enumerate(CHANNELS):
        reals = rng.normal(0.4, 1.0, (target, source, side, side)).clip(-1.0, 3.0)  # more above 0 than below
        codes, scale, zero_point = quantise(reals, symmetric=symmetric)
        name = f"conv{number}"
        weights = [constant(f"{name}_w", codes, codes.dtype), constant(f"{name}_ws", scale, np.float32)]
        weights.append(constant(f"{name}_wz", zero_point, codes.dtype))
        nodes += [
            helper.make_node("DequantizeLinear", weights, [f"{name}_real"]),
            helper.make_node("Conv", [last, f"{name}_real"], [f"{name}_sum"], name=name, pads=[side // 2] * 4),
            helper.make_node("QuantizeLinear", [f"{name}_sum", *_parameters(constant, name, 0.25, 90)], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_out"]),
        ]
        last = f"{name}_out"
    graph = helper.make_graph(
        nodes,
        "zero_points",
        [helper.make_tensor_value_info("x", 2, (1, 3, 16, 16))],
        [helper.make_tensor_value_info(last, 1, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _parameters(constant: Any, name: str, scale: float, zero_point: int) -> list[str]:
    return [constant(f"{name}_s", scale, np.float32), constant(f"{name}_z", zero_point, np.uint8)]


def row(kind: str, content: bytes, handling: str) -> str:
    """Run one model on one machine and return its row of the table."""
    arch = accelsim.Arch(array=(16, 16), weight_zero_point=handling)
    model = accelsim.load(content)
    result = accelsim.run(model, arch)
    layers = [layer for layer in model.bind(None).planned(arch).layers if hasattr(layer.operator, "weights")]
    costs = [accelsim.zero_point_costs(layer, arch, load_table())[0] for layer in layers]
    bits = max(cost.sums.bits for cost in costs if cost.sums)
    (operands,) = {name for name in (unit["name"] for unit in result.energy.units) if name.startswith("int9x")}
    chip = result.energy_pj - result.energy_components_pj["dram"]
    shown = operands.removeprefix("int").removesuffix("_multiply")
    cells = (kind, handling, shown, f"{result.cycles:,}", f"{chip / 1e3:,.1f} nJ", f"{result.dram_bytes:,}")
    return f"| {' | '.join(cells)} | {bits} bits | {result.check.verdict} |"


def main() -> None:
    """Print the table."""
    print("| weights | machine | operands | cycles | energy on chip | DRAM bytes | sums always safe in | onnxruntime |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in ("symmetric", "asymmetric"):
        content = build(symmetric=kind == "symmetric")
        for folder in sys.argv[1:]:
            Path(folder, f"{kind}.onnx").write_bytes(content)
        for handling in ("wide-operand", "row-sum"):
            print(row(kind, content, handling))


if __name__ == "__main__":
    main()
