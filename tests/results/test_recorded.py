"""What a result keeps for reports: edges, traffic in both directions, its lower bound, the timeline of a layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import accelsim
from accelsim import Arch
from accelsim.program.compulsory import compulsory_bytes
from accelsim.program.work import ContractionWork
from accelsim.simulation.timeline import LARGEST_BARS, TimelineRequest
from accelsim.timing.event.run import trace_layer
from accelsim.timing.recurrence import time_program
from tests.cli.command import assert_refused, command
from tests.planning import planned
from tests.reports.results import DIGITS, digits_result
from tests.tiers import few
from tests.timing import networks

MODELS = ("resnet8_cifar10_int8", "dscnn_kws_int8", "micro_speech_int8", "mobilenetv1_025_vww_int8", "yamnet256_int8")


def test_the_bound_of_our_network() -> None:
    """By hand: 3x3 stem on 16x16 with stride 1, a product, an addition."""
    result = accelsim.run(DIGITS, Arch(keep_activations=False), values=False)
    layers = {layer.name: layer for layer in result.layers}
    assert layers["reduce"].compulsory_dram_bytes == 16 * 16 * 16 + 144 * 32 + 8 * 32 + 64 * 32
    assert layers["dense"].compulsory_dram_bytes == 96 + 960 + 8 * 10 + 10
    assert layers["residual_add"].compulsory_dram_bytes == 3 * 64 * 64
    assert layers["flatten"].compulsory_dram_bytes == 0
    kept = {layer.name: layer for layer in digits_result().layers}
    assert kept["reduce"].compulsory_dram_bytes == 144 * 32 + 8 * 32
    assert kept["residual_add"].compulsory_dram_bytes == 0


@pytest.mark.parametrize(
    "name", few([None, *MODELS, "textgen_transformer_int8", "tfc_2w2a_qonnx", "autoencoder_ad_w4blk32_qdq"], 3)
)
def test_the_bound_is_one(request: pytest.FixtureRequest, name: str | None) -> None:
    """What the machine asks for is never less, on no dataflow; and it is what the tests' own count of it says."""
    path = DIGITS if name is None else request.getfixturevalue("shared_models") / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{name} is not among the real models here")
    graph = accelsim.load(path).bind(None).graph
    for dataflow in ("ws", "os", "is"):
        arch = Arch(dataflow=dataflow)
        program = planned(graph, arch)
        for layer, timing in zip(program.layers, time_program(program, arch), strict=True):
            read, written = compulsory_bytes(layer)
            assert timing.event("useful_read_bytes") >= read, layer.name
            assert timing.event("useful_write_bytes") >= written, layer.name
            work = layer.work
            whole_bytes = (
                isinstance(work, ContractionWork) and work.weight_bits == work.first_bits == work.output_bits == 8
            )
            if whole_bytes and not work.dynamic_second and layer.input_types[0].elements >= work.groups * work.k:
                assert (read, written) <= networks.compulsory_bytes(work, layer.plan)
                if work.image is not None:
                    assert (read, written) == networks.compulsory_bytes(work, layer.plan)


def test_tensors_are_written_before_they_are_read_and_add_up_to_the_traffic() -> None:
    """Each layer's tensors are written before they are read; both directions add up to the traffic."""
    result = digits_result()
    written: set[str] = set()
    for layer in result.layers:
        assert layer.inputs is not None
        assert layer.outputs is not None
        assert set(layer.inputs) <= written or layer is result.layers[0]
        written |= set(layer.outputs)
        assert (layer.dram_read_bytes or 0) + (layer.dram_write_bytes or 0) == layer.dram_bytes
        assert bool(layer.lane_operations) == (layer.placement == "vector")


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_the_timeline_is_the_event_models(dataflow: str) -> None:
    """All intervals of the slowest layer, and phases that partition its cycles, up to the cycle that it names."""
    result, arch = digits_result(dataflow), Arch(dataflow=dataflow)
    timeline = result.timeline
    assert timeline is not None
    layer = max(result.layers, key=lambda layer: layer.cycles)
    assert (timeline.layer, timeline.cycles) == (layer.name, layer.cycles)
    until = timeline.until
    assert (until == layer.cycles) == (timeline.note == "") == (dataflow != "is")
    spent: dict[str, int] = {}
    for bar in timeline.bars:
        if bar.engine == "issue":
            spent[bar.what] = spent.get(bar.what, 0) + bar.end - bar.start
    assert sum(spent.values()) == until
    assert until < layer.cycles or spent == dict(layer.cycle_classes)
    program = planned(accelsim.load(DIGITS).bind(None).graph, arch)
    traced = trace_layer(program.layers[timeline.number].work, program.layers[timeline.number].plan, arch)
    expected = sorted(
        (part.engine, part.what, part.start, min(part.end, until)) for part in traced.intervals if part.start < until
    )
    assert expected == sorted(
        (bar.engine, bar.what, bar.start, bar.end) for bar in timeline.bars if bar.engine != "issue"
    )


def test_a_long_timeline_is_cut_with_a_word(digits: Path, tmp_path: Path) -> None:
    """On a small array there are too many tiles: the first bars stay, complete up to a cycle that is named."""
    outcome = command("run", digits, "--array", "2x2", "-o", tmp_path, "-q", "--no-check", "--timeline", "reduce")
    assert outcome.code == 0, outcome
    timeline = json.loads((tmp_path / "result.json").read_text())["timeline"]
    assert timeline["layer"] == "reduce"
    assert 0.9 * LARGEST_BARS < len(timeline["intervals"]) <= LARGEST_BARS
    assert timeline["note"].startswith(f"the first {timeline['until']:,} of {timeline['cycles']:,} cycles")
    issue = [bar for bar in timeline["intervals"] if bar[0] == "issue"]
    assert sum(end - start for _, _, start, end in issue) == timeline["until"]
    assert all(end <= timeline["until"] for *_, end in timeline["intervals"])


def test_too_many_tiles_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers beyond the limit are passed over, which is said; when there is no other, the timeline is empty."""
    monkeypatch.setattr("accelsim.simulation.timeline.LARGEST_TILES", 20)
    passed = accelsim.run(DIGITS, values=False, timeline=TimelineRequest()).timeline
    assert passed is not None
    assert passed.layer != "depthwise2"
    assert passed.note == "layers with more cycles have more than 20 tiles"
    named = accelsim.run(DIGITS, values=False, timeline=TimelineRequest("depthwise2")).timeline
    assert named is not None
    assert (named.bars, named.until) == ((), 0)
    assert "are more than the 20 that are run for a timeline" in named.note


def test_results_have_a_timeline_when_it_is_asked_for(digits: Path) -> None:
    """--json alone has none, --timeline adds one, a layer that does not exist is refused."""
    assert json.loads(command("run", digits, "--json", "--no-check").stdout)["timeline"] is None
    named = json.loads(command("run", digits, "--json", "--no-check", "--timeline", "pool").stdout)["timeline"]
    assert named["layer"] == "pool"
    assert_refused(command("run", digits, "--timeline", "nothing"), 2, "no layer of digits_int8.onnx has 'nothing'")
