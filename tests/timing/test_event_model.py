"""The SimPy model against the recurrence: cycles, classes and counts of random layers and of whole networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

import accelsim
from accelsim.kernels.cycles.recurrence import image_span
from accelsim.program.plan import ContractionPlan
from accelsim.program.work import ContractionWork, ImageLayout
from accelsim.timing.event.run import time_program_by_events, trace_layer
from accelsim.timing.event.traffic import needed_span
from accelsim.timing.layer_timing import LayerTiming
from accelsim.timing.recurrence import loop_spec, time_layer, time_program
from tests.planning import planned
from tests.tiers import drawn, examples, few
from tests.timing.strategies import (
    DATAFLOWS,
    Case,
    Surrounded,
    checked,
    contractions,
    images,
    run,
    surrounded_contractions,
    surrounded_streams,
)

CHANNELS = ("shared", "private")


def assert_equal(found: LayerTiming, expected: LayerTiming) -> None:
    """Compare cycles, classes and counts."""
    assert found.cycles == expected.cycles
    assert dict(found.classes) == dict(expected.classes)
    assert dict(found.events) == dict(expected.events)
    assert found.left == expected.left
    assert sum(dict(found.classes).values()) == found.cycles


@examples(60, 500)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_random_contractions_take_equal_cycles(dataflow: str, count: int) -> None:
    """Two executions of the contract, neither of which calls the other, agree to the cycle."""

    @checked(count)
    @given(surrounded_contractions(dataflow))
    def compare(case: Surrounded) -> None:
        assert_equal(run(case).timing, by_recurrence(case))

    compare()


def by_recurrence(case: Surrounded) -> LayerTiming:
    """Time a layer by the recurrence."""
    arch, work, plan, *place = case
    return time_layer(work, plan, arch, *place)


@drawn(40, 300, st.sampled_from(DATAFLOWS).flatmap(contractions))
def test_a_shared_channel_never_gains(case: Case) -> None:
    """With one channel for both directions the bytes are the same and nothing is gained."""
    arch, work, plan = case
    arch = arch.evolve(dram_row_bytes=0)
    private, shared = (trace_layer(work, plan, arch.evolve(dram_channel=name)) for name in ("private", "shared"))
    assert dict(shared.timing.events) == dict(private.timing.events)
    assert shared.timing.cycles >= private.timing.cycles
    beats = sum(part.end - part.start for part in shared.intervals if part.engine in ("load", "store"))
    assert private.timing.cycles + beats >= shared.timing.cycles


@drawn(60, 400, surrounded_streams())
def test_random_streams_take_equal_cycles(case: Surrounded) -> None:
    """Layers without the array as well."""
    assert_equal(run(case).timing, by_recurrence(case))


@drawn(
    40,
    300,
    st.one_of(surrounded_streams(), st.sampled_from(DATAFLOWS).flatmap(surrounded_contractions)),
    st.integers(2, 4),
    st.sampled_from((1, 64, 1 << 10)),
)
def test_what_is_repeated_takes_equal_cycles(case: Surrounded, repeats: int, kibibytes: int) -> None:
    """Layers that are done several times, whose weights stay or are loaded again, keys column by column."""
    arch, work, plan, *place = case
    work = replace(work, repeats=repeats)
    if isinstance(work, ContractionWork):
        work = replace(work, second_by_column=work.dynamic_second)
    case = (arch.evolve(spm_weight=kibibytes << 10), work, plan, *place)
    assert_equal(run(case).timing, by_recurrence(case))


@checked(500)
@given(images(), st.data())
def test_spans_are_those_of_the_recurrence(case: tuple[ImageLayout, int], data: st.DataObject) -> None:
    """What a range of output pixels loads of a plane, worked out twice."""
    image, _ = case
    pixels = image.out_height * image.out_width
    first = data.draw(st.integers(0, pixels - 1))
    last = data.draw(st.integers(first + 1, pixels))
    work = ContractionWork(pixels, 9, 1, 1, image, False, 1, 8)
    loop = loop_spec(work, ContractionPlan(pixels, 1, 9, 1, False))
    assert needed_span(image, first, last) == tuple(int(edge) for edge in image_span(loop, first, last))


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("side", [8, 16, 32])
def test_the_digits_network_takes_equal_cycles(digits: Path, dataflow: str, side: int, channel: str) -> None:
    """Every layer of our own network, finite buffers."""
    compare_network(digits, accelsim.Arch(array=(side, side), dataflow=dataflow, dram_channel=channel))


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_boundaries_and_rows_of_the_digits_network(digits: Path, dataflow: str, channel: str) -> None:
    """The same with what layers have to do with each other."""
    arch = accelsim.Arch(dataflow=dataflow, dram_channel=channel, prefetch_weights=True, dram_row_bytes=1024)
    compare_network(digits, arch)


def compare_network(path: Path, arch: accelsim.Arch) -> None:
    """Compare every layer of a network."""
    program = planned(accelsim.load(path).bind().graph, arch)
    for found, expected in zip(time_program_by_events(program, arch), time_program(program, arch), strict=True):
        assert_equal(found, expected)


NETWORKS = (
    "resnet8_cifar10_qdq_u8s8", "dscnn_kws_int8", "mobilenetv1_025_vww_int8", "mobilenetv1_025_128_uint8",
    "micro_speech_int8", "steel_cnn_qdq_u8s8", "yamnet256_int8", "resnet8_cifar10_w4a8_qdq", "textgen_transformer_int8",
)  # fmt: skip


NEAREST = ("dscnn_kws_int8", "micro_speech_int8")  # the default tier

LARGE = (
    "mobilenetv2_100_224_int8", "mobilenetv2_100_224_int8_nchw", "posenet_mobilenetv1_075_353x481_int8",
    "deeplabv3_mnv2_dm05_uint8", "resnet8_cifar10_int8", "resnet8_cifar10_qoperator_u8s8",
)  # fmt: skip


@pytest.mark.parametrize("dataflow", [*DATAFLOWS, "best"])
@pytest.mark.parametrize("name", few(NETWORKS, NEAREST))
def test_real_networks_take_equal_cycles(shared_models: Path, name: str, dataflow: str) -> None:
    """Every layer of the real networks at 16x16."""
    compare_network(shared_models / f"{name}.onnx", accelsim.Arch(dataflow=dataflow))


@pytest.mark.parametrize("side", [8, 32])
@pytest.mark.parametrize("name", few([*NETWORKS, *LARGE], NEAREST[:1]))
def test_real_networks_take_equal_cycles_at_every_size(shared_models: Path, name: str, side: int) -> None:
    """Every layer of every convolutional network, with finite buffers and one channel."""
    compare_network(shared_models / f"{name}.onnx", accelsim.Arch(array=(side, side)))


MEMORIES = {
    "prefetch": {"prefetch_weights": True},
    "rows": {"dram_row_bytes": 2048},
    "apart": {"keep_activations": False, "dram_channel": "private"},
    "all": {"prefetch_weights": True, "dram_row_bytes": 512, "dram_banks": 4, "dataflow": "best"},
}


@pytest.mark.parametrize("options", MEMORIES.values(), ids=MEMORIES)
@pytest.mark.parametrize(
    "name",
    few(["resnet8_cifar10_int8", "mobilenetv1_025_vww_int8", "textgen_transformer_int8"], ["resnet8_cifar10_int8"]),
)
def test_real_networks_take_equal_cycles_with_every_memory(
    shared_models: Path, name: str, options: dict[str, Any]
) -> None:
    """Prefetching over the layer boundary, open rows, and everything through DRAM."""
    compare_network(shared_models / f"{name}.onnx", accelsim.Arch(**options))
