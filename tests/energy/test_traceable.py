"""Every picojoule of a result leads to rows with sources: recomputed from the JSON alone, on every quantised model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim import Arch
from accelsim.energy import COMPONENTS, EnergyTable, load_table, price_layer
from accelsim.timing.recurrence import time_program
from tests.cli.harness import mixed_case
from tests.planning import planned
from tests.strategies import Builder, Draw, Quantisation
from tests.tiers import few

MODELS = (
    "resnet8_cifar10_int8", "resnet8_cifar10_qdq_u8s8", "resnet8_cifar10_qoperator_u8s8", "resnet8_cifar10_w4a8_qdq",
    "dscnn_kws_int8", "mobilenetv1_025_vww_int8", "mobilenetv1_025_128_uint8", "mobilenetv2_100_224_int8",
    "mobilenetv2_100_224_int8_nchw", "autoencoder_ad_int8", "autoencoder_ad_w4blk32_qdq", "hello_world_int8",
    "micro_speech_int8", "yamnet256_int8", "steel_cnn_qdq_u8s8", "deeplabv3_mnv2_dm05_uint8",
    "posenet_mobilenetv1_075_353x481_int8", "textgen_transformer_int8", "tfc_1w1a_qonnx", "tfc_2w2a_qonnx",
)  # fmt: skip

LIGHT = ("dscnn_kws_int8", "autoencoder_ad_int8", "autoencoder_ad_w4blk32_qdq", "hello_world_int8", "tfc_1w1a_qonnx")

# Events that say how many bytes are useful or how many tiles there are; what they stand for is priced by other events.
DESCRIBED = {"tiles", "useful_read_bytes", "useful_write_bytes"}


def recomputed(data: dict[str, Any]) -> float:
    """Return the energy of a result from its JSON alone, and check every step on the way."""
    energy = data["energy"]
    units = {unit["name"]: unit for unit in energy["sources"]}
    rows = {row["name"]: row for row in energy["rows"]}
    assert len(units) == len(energy["sources"])
    totals: dict[str, float] = {}
    for layer in data["layers"]:
        parts: dict[str, float] = {}
        for charge in layer["charges"]:
            assert charge["count"] > 0
            pj = charge["count"] * units[charge["unit"]]["value_pj"]
            parts[charge["component"]] = parts.get(charge["component"], 0.0) + pj
        for name, value in parts.items():
            assert layer["energy_pj"].get(name, 0.0) == pytest.approx(value, rel=1e-9, abs=1e-12), (layer["name"], name)
            totals[name] = totals.get(name, 0.0) + value
        assert set(layer["energy_pj"]) <= set(parts)
    for name, value in totals.items():
        assert energy["components"].get(name, 0.0) == pytest.approx(value, rel=1e-9, abs=1e-12), name
    assert set(totals) <= set(COMPONENTS)
    for unit in units.values():
        assert unit["rows"], unit["name"]
        for name in unit["rows"]:
            assert rows[name]["source"]
            assert rows[name]["basis"] in ("measured", "interpolated")
        if unit["basis"] == "measured":
            (row,) = (rows[name] for name in unit["rows"])
            assert unit["value_pj"] == row["value"]
            assert row["unit"] == "pJ"
        else:
            assert unit["basis"] in ("interpolated", "extrapolated", "assumed")
            assert unit["law"], unit["name"]
    return math.fsum(totals.values())


def test_digits_from_json_alone(digits: Path) -> None:
    """Counts times units, summed by hand, are the total of the run."""
    with np.load(digits.with_name("digits_sample.npz")) as archive:
        result = accelsim.run(digits, None, dict(archive))
    data = json.loads(result.to_json())
    assert recomputed(data) == pytest.approx(data["totals"]["energy_pj"], rel=1e-12)
    assert any(note.startswith("no static energy") for note in data["energy"]["notes"])
    assert any("caches, tags included" in note for note in data["energy"]["notes"])


@pytest.mark.parametrize("name", few(MODELS, LIGHT))
def test_every_model_from_json_alone(shared_models: Path, name: str) -> None:
    """The same on real networks: charges make components, components layers, layers the total."""
    result = accelsim.run(shared_models / f"{name}.onnx", values=False)
    data = json.loads(result.to_json())
    assert recomputed(data) == pytest.approx(data["totals"]["energy_pj"], rel=1e-9)


@pytest.fixture
def table() -> EnergyTable:
    """The packaged table."""
    return load_table()


@pytest.mark.parametrize("name", few(MODELS, LIGHT))
def test_every_event_of_every_model_has_a_price(shared_models: Path, table: EnergyTable, name: str) -> None:
    """Doubling any count of any layer raises its bill: nothing is free. Layers that compute nothing move no byte."""
    arch = Arch()
    program = planned(accelsim.load(shared_models / f"{name}.onnx").bind(None).graph, arch)
    for layer, timing in zip(program.layers, time_program(program, arch), strict=True):
        total = price_layer(layer, timing, arch, table).total_pj
        assert (total > 0) == any(count for event, count in timing.events if event != "tiles"), layer.name
        for index, (event, count) in enumerate(timing.events):
            if event not in DESCRIBED and count:
                events = (*timing.events[:index], (event, 2 * count), *timing.events[index + 1 :])
                dearer = price_layer(layer, replace(timing, events=events), arch, table).total_pj
                assert dearer > total, (layer.name, event)


# Counts per output of the vector unit's operators, and their price in pJ (vector_unit.toml, requantiser.toml): elements
# counted, bytes moved, energy of one element, energy of all else.
VECTOR = {
    "image_QuantizeLinear": (256, 1024 + 256, 3.7 + 0.1, 0.0),
    "residual_add": (4096, 3 * 4096, 2 * 3.7 + 2 * 0.9, 0.0),
    "pool": (4096, 4096 + 1024, 0.03, 0.0),
    "global_pool": (1536, 1536 + 96, 0.1, 96 * (3.7 + 2 * 0.9 + 0.1)),
    "flatten": (0, 0, 0.0, 0.0),
    "logits_DequantizeLinear": (10, 10 + 40, 3.7 + 0.1, 0.0),
}


def test_the_energy_of_the_digits_network_is_the_sum_worked_out_by_hand(digits: Path) -> None:
    """The energy of the digits network from shapes, the contract's counts and Horowitz' numbers, all written out.

    One image on 16x16 WS with 512 accumulator rows of 32 bits, every activation through DRAM. For products (M, K, N,
    groups) section 6 gives the words read and written; DRAM and the bytes that it fills are taken from the run.
    """
    result = accelsim.run(digits, Arch(keep_activations=False), values=False)
    a = (3.1 - 4 * 0.2) / (32 * 32 - 4 * 8 * 8)  # E = a w1 w2 + b (w1 + w2) / 2 through 0.2 pJ and 3.1 pJ
    b = (0.2 - a * 8 * 8) / 8
    multiply, add, output = a * 9 * 8 + b * (9 + 8) / 2, 0.1, 3.7 + 2 * 0.9 + 0.1
    x_byte = 10 * math.sqrt(192 * 1024 / 16 / 8192) * 8 / 64
    w_byte = 20 * (65536 / 32768) ** (math.log(100 / 20) / math.log(1048576 / 32768)) * 8 / 64
    accumulator = 10 * math.sqrt(512 * 4 / 8192) * 32 / 64
    register_8, register_32 = 10 * math.sqrt(1 / 8192) * 8 / 64, 10 * math.sqrt(4 / 8192) * 32 / 64
    dram_byte = (1300 + 2600) / 2 / 8
    total = 0.0
    for layer in result.layers:
        counted = {(line.component, line.action, line.unit): line.count for line in layer.charges}
        energy = layer.dram_bytes * dram_byte
        if layer.m is None:
            elements, moved, each, more = VECTOR[layer.name]
            energy += 2 * moved * x_byte + elements * each + more
        else:
            m, k, n, groups = layer.m, layer.k, layer.n, layer.groups
            folds, blocks, outputs = -(-k // 16), -(-n // 16), m * n * groups
            times = layer.tiles // (folds * blocks * groups)  # blocks of rows that load the weights again
            assert layer.tiles == folds * blocks * groups * times
            x_reads, w_reads = m * k * blocks * groups, k * n * groups * times
            x_fill = counted["activation_sram", "write", "activation_sram_8_bit"] - outputs
            w_fill = counted["weight_sram", "write", "weight_sram_8_bit"]
            assert layer.dram_bytes >= x_fill + w_fill + outputs
            assert w_fill >= (k + 8) * n * groups
            energy += m * k * n * groups * (multiply + add)
            energy += (x_reads + x_fill + 2 * outputs) * x_byte + (w_reads + 4 * outputs + w_fill) * w_byte
            energy += (m * n * groups * (2 * folds - 1) + outputs) * accumulator + outputs * output
            tiles = [(min(16, k - at), min(16, n - to)) for at in range(0, k, 16) for to in range(0, n, 16)]
            pushed = groups * times * sum(nt * kt * (kt + 1) // 2 for kt, nt in tiles)
            energy += (m * k * n * groups + pushed) * register_8 + m * folds * 16 * n * groups * register_32
        assert sum(layer.energy_pj.values()) == pytest.approx(energy, rel=1e-12), layer.name
        total += energy
    assert result.energy_pj == pytest.approx(total, rel=1e-12)


def test_host_operators_are_not_free() -> None:
    """A float product off the array costs its multiply-accumulates in float32, beside its bytes."""
    case = mixed_case()
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    (layer,) = (layer for layer in result.layers if layer.placement == "host")
    assert layer.off_array_macs == 6 * 48 * 4
    assert layer.energy_pj["host"] == pytest.approx(6 * 48 * 4 * (3.7 + 0.9))
    assert layer.energy_pj["dram"] == pytest.approx(layer.dram_bytes * 243.75)
    assert recomputed(json.loads(result.to_json())) == pytest.approx(result.energy_pj, rel=1e-12)


def test_host_operators_of_unknown_arithmetic_cost_something() -> None:
    """Where nothing says how much is computed, each element that is produced costs one assumed float addition."""
    build = Builder(Draw((91_002,), ties=False))
    source = Quantisation(np.dtype(np.uint8), np.float32(0.02), 7)
    real = build.activation((3, 10), source)
    (values, _indices) = build.nodes_of("TopK", [real, build.constant(np.array([4]), np.int64)], 2)
    case = build.finish(values, source)
    result = accelsim.run(accelsim.load(case.model), None, case.inputs, values=False)
    hosts = [layer for layer in result.layers if layer.placement == "host"]
    assert hosts
    units = {unit["name"]: unit for unit in result.energy.units}
    assert (units["host_element"]["basis"], units["host_element"]["value_pj"]) == ("assumed", 0.9)
    for layer in hosts:
        (line,) = (line for line in layer.charges if line.component == "host")
        assert line.count == 3 * 4 * 2
        assert layer.energy_pj["host"] == pytest.approx(line.count * 0.9)
