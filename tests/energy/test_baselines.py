"""Other number formats: by hand on one product, equal to the run where the format is the run's, rising with width."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim import Arch, operators as ops
from accelsim.energy import EnergyTable, components, load_table
from accelsim.energy.baselines import FORMATS, NumberFormat, price_formats
from accelsim.mapping.search import choose_plan
from accelsim.operators.tensors import TensorType
from accelsim.program.layers import Layer
from accelsim.program.work import describe_work
from accelsim.results.result import Result
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import time_layer
from tests.cli.command import command
from tests.energy.harness import planned
from tests.tiers import few

UINT8 = np.dtype(np.uint8)
M, K, N = 20, 24, 12


@pytest.fixture
def table() -> EnergyTable:
    """The packaged table."""
    return load_table()


@pytest.fixture
def result(digits: Path) -> Result:
    """Our own network on the default machine, priced without values."""
    return accelsim.run(digits, values=False)


def product_layer(arch: Arch) -> tuple[Layer, LayerTiming]:
    """Plan an int8 product of M x K x N that gives codes, and its timing."""
    weights = ops.Weights(np.full((N, K), 3, np.int16), np.zeros(N, np.int32))
    code = ops.CodeFormat(UINT8, 0)
    operator = ops.MatrixMultiply(code, weights, None, ops.Requantise(np.ones(1, np.float32), code))
    layer = planned(operator, [np.zeros((M, K), np.uint8)], (M, N), arch)
    target = TensorType.of("uint8", (M, N))
    work = describe_work(operator, layer.input_types, (target,))
    layer = replace(layer, output_types=(target,), work=work, plan=choose_plan("layer", work, arch).plan)
    return layer, time_layer(layer.work, layer.plan, arch)


def priced(table: EnergyTable, arch: Arch) -> dict[str, tuple[NumberFormat, dict[str, float]]]:
    """Return the components of the product in every format."""
    layer, timing = product_layer(arch)
    formats = price_formats([layer], [timing], arch, table)
    return {form.name: (form, components(bills)) for form, bills in formats}


# (format, bits, pJ of a multiplication, pJ of an addition, accumulator bits, pJ of an output): Horowitz and the laws.
BY_HAND = [
    ("fp32", 32, 3.7, 0.9, 32, 0.9),
    ("fp16", 16, 1.1, 0.9, 32, 0.4),
    ("bf16", 16, 1.1 - 2.6 / 455 * 57, 0.9, 32, 0.4 * 8 / 11),
    ("int16", 16, 2.3 / 768 * 17 * 16 + 0.8 / 768 * 16.5, 0.15, 48, 3.7 + 1.8 + 0.1),
    ("int8", 8, 2.3 / 768 * 9 * 8 + 0.8 / 768 * 8.5, 0.1, 32, 3.7 + 1.8 + 0.1),
    ("int4", 4, 2.3 / 768 * 5 * 4 + 0.8 / 768 * 4.5, 0.075, 24, 3.7 + 1.8 + 0.1),
]


@pytest.mark.parametrize(("name", "bits", "multiply", "add", "acc_bits", "output"), BY_HAND)
def test_a_product_by_hand(
    table: EnergyTable, name: str, bits: int, multiply: float, add: float, acc_bits: int, output: float
) -> None:
    """Every component of one product in every format, with the counts of section 6 and numbers written out."""
    arch = Arch(array=(8, 4), spm_act=65536, spm_weight=32768)
    _, timing = product_layer(arch)
    form, parts = priced(table, arch)[name]
    assert (form.bits, form.accumulator_bits(arch)) == (bits, acc_bits)
    assert parts["mac"] == pytest.approx(M * K * N * (multiply + add))
    assert parts["requantiser"] == pytest.approx(M * N * output)
    assert parts["dram"] == pytest.approx(timing.dram_bytes * bits / 8 * 243.75, rel=1e-3)
    # 8 KiB per bank of activations at 8 bits; as many elements of other widths take as much more room.
    bank = 65536 / 8 * bits / 8
    per_bit = 10 / 64 * math.sqrt(bank / 8192) if bank <= 32768 else math.nan
    words = timing.event("activation_reads") * bits
    moved = 8 * (timing.event("activation_fill_bytes") * bits / 8 + 2 * M * N * bits / 8)
    assert parts["activation_sram"] == pytest.approx((words + moved) * per_bit, rel=1e-3)
    accumulators = 512 * acc_bits / 8
    access = 10 * acc_bits / 64 * math.sqrt(accumulators / 8192)
    assert parts["accumulator_sram"] == pytest.approx(
        (timing.event("acc_reads") + timing.event("acc_writes") + M * N) * access
    )
    assert set(parts) >= {"weight_sram", "registers"}


def test_the_format_of_the_run_costs_what_the_run_costs(result: Result) -> None:
    """An int8 network in int8 is the run itself, to the last bit: the other formats go the same way."""
    (int8,) = (baseline for baseline in result.energy.detail.baselines if baseline.format == "int8")
    assert int8.energy_pj == pytest.approx(result.energy_pj, rel=1e-12)
    for name, value in result.energy_components_pj.items():
        assert int8.components[name] == pytest.approx(value, rel=1e-12), name


def test_narrower_formats_cost_less(result: Result) -> None:
    """fp32 > fp16 > bf16, int16 > int8 > int4, and fp32 more than twice fp16 in arithmetic."""
    by_name = {baseline.format: baseline for baseline in result.energy.detail.baselines}
    assert list(by_name) == [form.name for form in FORMATS] == ["fp32", "fp16", "bf16", "int16", "int8", "int4"]
    for series in (("fp32", "fp16", "bf16"), ("int16", "int8", "int4")):
        costs = [by_name[name].energy_pj for name in series]
        assert all(wide > narrow for wide, narrow in pairwise(costs))
    assert by_name["fp32"].components["mac"] > 2 * by_name["fp16"].components["mac"]


def test_baselines_can_be_traced(result: Result) -> None:
    """Charges times the units beside them are the energy of the format, by component and in total."""
    for baseline in result.energy.detail.baselines:
        units = {unit["name"]: unit["value_pj"] for unit in baseline.units}
        assert len(units) == len(baseline.units)
        total = math.fsum(line.count * units[line.unit] for line in baseline.charges)
        assert total == pytest.approx(baseline.energy_pj, rel=1e-12)
        assert math.fsum(baseline.components.values()) == pytest.approx(total, rel=1e-12)
        assert baseline.ratio == pytest.approx(total / result.energy_pj)


def test_bf16_says_that_it_was_never_measured(result: Result) -> None:
    """Horowitz has no bf16: its line says extrapolated, in the data and in `run -v`."""
    by_name = {baseline.format: baseline for baseline in result.energy.detail.baselines}
    assert by_name["fp32"].bases == ("measured",)
    assert "extrapolated" in by_name["bf16"].bases
    bf16 = {unit["name"]: unit for unit in by_name["bf16"].units}["bf16_multiply"]
    assert (bf16["basis"], bf16["rows"]) == ("extrapolated", ["fp16_multiply", "fp32_multiply"])


def test_run_v_has_one_line_per_format(digits: Path) -> None:
    """Formats, ratios, and what is assumed."""
    outcome = command("run", digits, "--no-check", "-v")
    assert outcome.code == 0
    lines = outcome.stdout.splitlines()
    for form in FORMATS:
        (line,) = (line for line in lines if line.startswith(f"  {form.name} "))
        assert "x  mac" in line
    assert "assumed: same mapping, cycles and counts" in outcome.stdout
    assert all(len(line) <= 100 for line in lines)


NETWORKS = ("mobilenetv1_025_128_uint8", "autoencoder_ad_w4blk32_qdq", "textgen_transformer_int8", "tfc_2w2a_qonnx")


@pytest.mark.parametrize("zero_points", few(["wide-operand", "row-sum"], 1))
@pytest.mark.parametrize("dataflow", few(["ws", "os", "is"], 1))
def test_formats_on_real_networks(shared_models: Path, dataflow: str, zero_points: str) -> None:
    """Formats that are floats leave quantisers out, price everything, and keep the order of their widths."""
    arch = Arch(dataflow=dataflow, weight_zero_point=zero_points)
    for name in (
        "mobilenetv1_025_128_uint8",
        "autoencoder_ad_w4blk32_qdq",
        "textgen_transformer_int8",
        "tfc_2w2a_qonnx",
    ):
        result = accelsim.run(shared_models / f"{name}.onnx", arch, values=False)
        costs = {baseline.format: baseline.energy_pj for baseline in result.energy.detail.baselines}
        assert costs["fp32"] > costs["fp16"] > costs["bf16"] > 0, name
        assert costs["int16"] > costs["int8"] > costs["int4"] > 0, name


@pytest.mark.parametrize("memory", ["activation", "weight"])
def test_the_largest_memories_that_a_machine_may_have(digits: Path, memory: str) -> None:
    """Four times as wide for fp32, they are above the limit of a machine description, which is for descriptions."""
    assert command("run", digits, "-q", "--no-check", "--set", f"buffers.{memory}=16GiB").code == 0
