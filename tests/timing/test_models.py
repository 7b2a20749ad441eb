"""Cycles, counts and energy of whole networks on many machines: nothing lost, nothing free, nothing too fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import accelsim
from accelsim import Arch
from accelsim.energy import load_table, price_layer
from accelsim.graph.ir import Graph
from accelsim.program.layers import Layer
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import time_program
from tests.oracles import contract
from tests.planning import planned
from tests.tiers import deep, few, few_rows
from tests.timing.networks import compulsory_bytes

ARRAYS = ((1, 1), (5, 3), (16, 16), (128, 128))
DATAFLOWS = ("ws", "os", "is")
SMALL = ("resnet8_cifar10_int8", "dscnn_kws_int8", "autoencoder_ad_int8", "micro_speech_int8", "hello_world_int8")
LARGE = (
    "mobilenetv1_025_vww_int8",
    "mobilenetv1_025_128_uint8",
    "mobilenetv2_100_224_int8",
    "yamnet256_int8",
    "steel_cnn_qdq_u8s8",
    "posenet_mobilenetv1_075_353x481_int8",
    "deeplabv3_mnv2_dm05_uint8",
    "textgen_transformer_int8",
)
# Large networks have more tiles: their uneven array is a larger one.
LARGE_ARRAYS = ((13, 11), (16, 16), (128, 128))


def _machines(arrays: Sequence[tuple[int, int]]) -> list[Any]:
    return [pytest.param(array, flow, id=f"{array[0]}x{array[1]}-{flow}") for array in arrays for flow in DATAFLOWS]


MACHINES, LARGE_MACHINES = _machines(ARRAYS), _machines(LARGE_ARRAYS)


@dataclass(frozen=True)
class Timed:
    """One layer of a network on a machine."""

    arch: Arch
    layer: Layer
    timing: LayerTiming


@cache
def graph_of(path: Path) -> Graph:
    """Load and import a network once."""
    return accelsim.load(path).bind(None).graph


@cache
def timed_layers(path: Path, arch: Arch) -> list[Timed]:
    """Lower and time a network, once per machine."""
    program = planned(graph_of(path), arch)
    pairs = zip(program.layers, time_program(program, arch), strict=True)
    return [Timed(arch, layer, timing) for layer, timing in pairs]


def contractions(layers: list[Timed]) -> list[tuple[Timed, ContractionWork, ContractionPlan]]:
    """Select the layers on the array."""
    return [
        (part, part.layer.work, part.layer.plan)
        for part in layers
        if isinstance(part.layer.work, ContractionWork) and isinstance(part.layer.plan, ContractionPlan)
    ]


# ------------------------------------------------------------------------------------------------- what must be moved


# ------------------------------------------------------------------------------------------------------------- checks


def assert_conserved(part: Timed) -> None:
    """Classes add up to the cycles, none is negative, and the MACs are the layer's."""
    assert sum(count for _, count in part.timing.classes) == part.timing.cycles
    assert all(count > 0 for _, count in part.timing.classes)
    work = part.layer.work
    issued = work.macs + work.inserted_zero_macs if isinstance(work, ContractionWork) else 0
    assert part.timing.event("macs") == issued


def assert_moves_enough(part: Timed) -> None:
    """DRAM traffic is at least compulsory and at least what was asked for, in whole bursts."""
    read, written = compulsory_bytes(part.layer.work, part.layer.plan)
    event, burst = part.timing.event, part.arch.dram_burst
    assert event("dram_read_bytes") >= event("useful_read_bytes") >= read
    assert event("dram_write_bytes") >= event("useful_write_bytes") >= written
    assert event("useful_write_bytes") == written
    assert event("dram_read_bytes") % burst == event("dram_write_bytes") % burst == 0


def assert_not_too_fast(part: Timed) -> None:
    """No layer beats its array, its vector lanes or its DMA channel, which both directions share."""
    arch, timing, work = part.arch, part.timing, part.layer.work
    busiest = timing.event("dram_read_bytes") + timing.event("dram_write_bytes")
    assert timing.cycles * arch.dram_bytes_per_cycle >= busiest
    if isinstance(work, ContractionWork):
        assert timing.cycles > timing.cycle_class("stream")
        assert timing.cycle_class("stream") * arch.rows * arch.cols >= work.macs
    else:
        assert timing.cycles * arch.vector_lanes >= work.lane_operations


def assert_sound(path: Path, arch: Arch) -> None:
    """Check every layer of a network."""
    for part in timed_layers(path, arch):
        assert_conserved(part)
        assert_moves_enough(part)
        assert_not_too_fast(part)


@pytest.mark.parametrize(("array", "dataflow"), few_rows(MACHINES, 2))
def test_our_network_is_sound(digits: Path, array: tuple[int, int], dataflow: str) -> None:
    """Conservation, compulsory traffic and lower bounds, in every layer of our own network."""
    assert_sound(digits, Arch(array=array, dataflow=dataflow))


@pytest.mark.parametrize(("array", "dataflow"), few_rows(MACHINES, 2))
@pytest.mark.parametrize("name", few(SMALL, SMALL[1:3]))
def test_small_networks_are_sound(shared_models: Path, name: str, array: tuple[int, int], dataflow: str) -> None:
    """The same for small real networks, on a single PE too."""
    assert_sound(shared_models / f"{name}.onnx", Arch(array=array, dataflow=dataflow))


@pytest.mark.parametrize(("array", "dataflow"), few_rows(LARGE_MACHINES, 3))
@pytest.mark.parametrize("name", few(LARGE, ("mobilenetv1_025_vww_int8",)))
def test_large_networks_are_sound(shared_models: Path, name: str, array: tuple[int, int], dataflow: str) -> None:
    """The same for large real networks."""
    assert_sound(shared_models / f"{name}.onnx", Arch(array=array, dataflow=dataflow))


# ----------------------------------------------------------------------------------------------- counts of section 6


def expected_counts(arch: Arch, work: ContractionWork, block_rows: int) -> dict[str, int]:
    """Rows 1 to 6 of the table, for dense layers; block_rows: rows of the accumulators that a block uses."""
    m, k, n = work.m, work.k, work.n
    if arch.dataflow == "os":
        # Blocks of less than R rows are tiles of their own (contract 4.4), otherwise this is ceil(M / R).
        row_tiles = sum(contract.ceiling(high - low, arch.rows) for low, high in contract.cut(m, block_rows))
        return {
            "macs": m * k * n,
            "activation_reads": m * k * contract.ceiling(n, arch.cols),
            "weight_reads": k * n * row_tiles,
            "bias_reads": n * row_tiles,
            "acc_reads": 0,
            "acc_writes": m * n,
            "tiles": row_tiles * contract.ceiling(n, arch.cols),
        }
    swap = arch.dataflow == "is"
    streamed, width = (n, m) if swap else (m, n)
    stream_blocks, folds = contract.ceiling(streamed, block_rows), contract.ceiling(k, arch.rows)
    moving, held = streamed * k * contract.ceiling(width, arch.cols), stream_blocks * k * width
    return {
        "macs": m * k * n,
        "activation_reads": held if swap else moving,
        "weight_reads": moving if swap else held,
        "bias_reads": m * n,
        "acc_reads": m * n * (folds - 1),
        "acc_writes": m * n * folds,
        "tiles": stream_blocks * folds * contract.ceiling(width, arch.cols),
    }


def assert_counted(path: Path, arch: Arch) -> int:
    """Compare the counts of every dense layer with the closed forms; returns how many layers there were."""
    dense = [part for part in contractions(timed_layers(path, arch)) if part[1].groups == 1]
    for part, work, plan in dense:
        block_rows = plan.block_n if arch.dataflow == "is" else plan.block_m
        expected = expected_counts(arch, work, block_rows)
        assert {name: part.timing.event(name) for name in expected} == expected, part.layer.name
    return len(dense)


@pytest.mark.parametrize(("array", "dataflow"), few_rows(MACHINES, 2))
def test_counts_of_our_network(digits: Path, array: tuple[int, int], dataflow: str) -> None:
    """Events of every dense layer are the closed forms of section 6."""
    assert assert_counted(digits, Arch(array=array, dataflow=dataflow)) > 4


@pytest.mark.parametrize(("array", "dataflow"), MACHINES[len(DATAFLOWS) :])
@pytest.mark.parametrize("name", few(SMALL, SMALL[1:3]))
def test_counts_of_small_networks(shared_models: Path, name: str, array: tuple[int, int], dataflow: str) -> None:
    """The same for small real networks."""
    assert assert_counted(shared_models / f"{name}.onnx", Arch(array=array, dataflow=dataflow)) > 0


@deep
@pytest.mark.parametrize(("array", "dataflow"), LARGE_MACHINES)
@pytest.mark.parametrize("name", LARGE)
def test_counts_of_large_networks(shared_models: Path, name: str, array: tuple[int, int], dataflow: str) -> None:
    """The same for large real networks."""
    assert assert_counted(shared_models / f"{name}.onnx", Arch(array=array, dataflow=dataflow)) > 0


# ------------------------------------------------------------------------------------------------------------- results


def assert_adds_up(path: Path, arch: Arch) -> None:
    """A run's totals are the sums of its layers, and its layers are what the stages before it said."""
    result, table = accelsim.run(path, arch, values=False), load_table()
    parts = timed_layers(path, arch)
    assert [layer.name for layer in result.layers] == [part.layer.name for part in parts]
    for row, part in zip(result.layers, parts, strict=True):
        bill = price_layer(part.layer, part.timing, arch, table)
        assert row.cycles == part.timing.cycles == sum(row.cycle_classes.values())
        assert math.fsum(row.energy_pj.values()) == pytest.approx(bill.total_pj, rel=1e-12)
        assert row.dram_bytes == part.timing.dram_bytes
        if row.placement == "array":
            assert row.utilisation == row.macs / (arch.rows * arch.cols * row.cycles)
            assert 0 < row.utilisation < 1
    assert result.cycles == sum(row.cycles for row in result.layers)
    assert result.model.macs == sum(row.macs for row in result.layers)
    layers = math.fsum(value for row in result.layers for value in row.energy_pj.values())
    assert result.energy_pj == pytest.approx(layers, rel=1e-12)
    assert math.fsum(result.energy_components_pj.values()) == pytest.approx(layers, rel=1e-12)


@pytest.mark.parametrize(("array", "dataflow"), few_rows(MACHINES, 1))
def test_results_of_our_network_add_up(digits: Path, array: tuple[int, int], dataflow: str) -> None:
    """Cycles, MACs, bytes and energy of layers add up to the totals of the result."""
    assert_adds_up(digits, Arch(array=array, dataflow=dataflow))


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize(
    "name", few(["resnet8_cifar10_int8", "dscnn_kws_int8", "mobilenetv1_025_vww_int8"], ["dscnn_kws_int8"])
)
def test_results_of_real_networks_add_up(shared_models: Path, name: str, dataflow: str) -> None:
    """The same for real networks."""
    assert_adds_up(shared_models / f"{name}.onnx", Arch(dataflow=dataflow))
