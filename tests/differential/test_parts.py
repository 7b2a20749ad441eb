"""Nodes that are several layers here: values from onnxruntime, products on the array, every part with its price."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

import accelsim
from accelsim.graph.context import Context
from accelsim.graph.importers.host_macs import host_macs
from accelsim.graph.importers.parts import IN_PARTS
from accelsim.program.layers import Program
from accelsim.program.work import ContractionWork
from accelsim.reports.terminal.summary import detail_lines
from accelsim.results.reader import result_from_dict
from accelsim.timing.event.run import time_program_by_events
from accelsim.timing.recurrence import time_layer, time_program
from tests.planning import planned
from tests.strategies import MICROSOFT, Builder, Case, Draw, Quantisation

SEED = 90_300
CODE = Quantisation(np.dtype(np.int8), np.float32(0.02), 0)
Arrays = dict[str, Any]


def reals(build: Builder, *shape: int) -> str:
    """Add an input of floats."""
    return build.input(build.draw.rng.normal(size=shape).astype(np.float32))


def weights(build: Builder, *shape: int) -> str:
    """Add constant floats."""
    return build.constant(build.draw.rng.normal(0, 0.3, shape), np.float32)


def codes(build: Builder, *shape: int) -> str:
    """Add floats that are codes times a scale."""
    code = Quantisation(np.dtype(np.int8), np.float32(0.03), 0)
    return build.dequantise(build.quantise(reals(build, *shape), code), code)


def finished(build: Builder, names: list[str], ranks: list[int]) -> Case:
    """Make tensors the outputs; the first one is quantised, so that this is a quantised model."""
    code = Quantisation(np.dtype(np.int8), np.float32(0.01), 0)
    quantised = build.dequantise(build.quantise(names[0], code), code)
    for name, rank in zip([quantised, *names[1:]], ranks, strict=True):
        build.output(name, np.float32, rank)
    return build.case()


def standard(build: Builder) -> Case:
    """Attention of the standard domain, 4-D, causal, with a past."""
    query, key, value = (reals(build, 1, 2, 3, 8) for _ in range(3))
    past = [reals(build, 1, 2, 5, 8) for _ in range(2)]
    outputs = build.nodes_of("Attention", [query, key, value, "", *past], 3, is_causal=1)
    return finished(build, outputs, [4, 4, 4])


def shared_heads(build: Builder) -> Case:
    """Attention of the standard domain, 3-D, several heads of queries per head of keys, with a mask."""
    operands = [reals(build, 2, 5, 24), reals(build, 2, 7, 8), reals(build, 2, 7, 8), reals(build, 5, 7)]
    return finished(build, [build.node("Attention", operands, q_num_heads=6, kv_num_heads=2)], [3])


def of_codes(build: Builder) -> Case:
    """Attention between quantisers."""
    return finished(build, [build.node("Attention", [codes(build, 1, 2, 8, 16) for _ in range(3)])], [4])


def projecting(build: Builder) -> Case:
    """com.microsoft Attention with its projection."""
    operands = [reals(build, 2, 5, 12), weights(build, 12, 36), weights(build, 36)]
    return finished(build, [build.node("Attention", operands, MICROSOFT, num_heads=3)], [3])


def quantised(build: Builder) -> Case:
    """com.microsoft QAttention."""
    rng = build.draw.rng
    operands = [
        build.input(rng.integers(0, 256, (2, 5, 12)).astype(np.uint8)),
        build.constant(rng.integers(-100, 100, (12, 36)).astype(np.int8)),
        weights(build, 36), build.constant(0.02, np.float32), build.constant(0.01, np.float32), "",
        build.constant(128, np.uint8), build.constant(0, np.int8),
    ]  # fmt: skip
    return finished(build, [build.node("QAttention", operands, MICROSOFT, num_heads=3)], [3])


def multi_head(build: Builder) -> Case:
    """com.microsoft MultiHeadAttention, separate, with a bias."""
    operands = [reals(build, 2, 5, 12), reals(build, 2, 7, 12), reals(build, 2, 7, 12), weights(build, 36)]
    return finished(build, [build.node("MultiHeadAttention", operands, MICROSOFT, num_heads=3)], [3])


def packed_heads(build: Builder) -> Case:
    """com.microsoft GroupQueryAttention, packed and rotating, with a cache that no one looks at."""
    angles = [build.constant(np.ones((16, 8)), np.float32) for _ in range(2)]
    operands = [
        reals(build, 1, 3, 8 * 16), "", "", reals(build, 1, 2, 5, 16), reals(build, 1, 2, 5, 16),
        build.input(np.full(1, 7, np.int32)), build.input(np.array(8, np.int32)), *angles,
    ]  # fmt: skip
    sizes = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1}
    return finished(build, build.nodes_of("GroupQueryAttention", operands, 3, MICROSOFT, **sizes), [3, 4, 4])


def encoder(build: Builder) -> Case:
    """com.microsoft MultiHeadAttention with the keys and values of an encoder."""
    operands = [reals(build, 2, 5, 12), reals(build, 2, 3, 7, 4), reals(build, 2, 3, 7, 4)]
    return finished(build, [build.node("MultiHeadAttention", operands, MICROSOFT, num_heads=3)], [3])


def past_of_heads(build: Builder) -> Case:
    """com.microsoft MultiHeadAttention with a past and a bias of the scores."""
    operands = [
        *(reals(build, 2, 3, 12) for _ in range(3)), "", "", reals(build, 1, 3, 3, 8),
        reals(build, 2, 3, 5, 4), reals(build, 2, 3, 5, 4),
    ]  # fmt: skip
    return finished(build, build.nodes_of("MultiHeadAttention", operands, 3, MICROSOFT, num_heads=3), [3, 4, 4])


def projecting_past(build: Builder) -> Case:
    """com.microsoft Attention with a past."""
    operands = [
        reals(build, 2, 3, 12), weights(build, 12, 36), weights(build, 36), "", reals(build, 2, 2, 3, 5, 4),
    ]  # fmt: skip
    outputs = build.nodes_of("Attention", operands, 2, MICROSOFT, num_heads=3, unidirectional=1)
    return finished(build, outputs, [3, 5])


def growing_cache(build: Builder, past: int = 6, steps: int = 1, batch: int = 1) -> Case:
    """com.microsoft GroupQueryAttention, rotating, with a cache."""
    angles = [
        build.constant(function(np.outer(np.arange(past + 9), np.ones(8))), np.float32) for function in (np.cos, np.sin)
    ]
    operands = [
        reals(build, batch, steps, 64), reals(build, batch, steps, 32), reals(build, batch, steps, 32),
        reals(build, batch, 2, past, 16), reals(build, batch, 2, past, 16),
        build.input(np.full(batch, past + steps - 1, np.int32)), build.input(np.array(past + steps, np.int32)), *angles,
    ]  # fmt: skip
    outputs = build.nodes_of("GroupQueryAttention", operands, 3, MICROSOFT, num_heads=4, kv_num_heads=2, do_rotary=1)
    return finished(build, outputs, [3, 4, 4])


def recurrent(kind: str, directions: int, **attributes: Any) -> Callable[[Builder], Case]:
    """Return a builder of a recurrent layer."""

    def make(build: Builder) -> Case:
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
        operands = [
            reals(build, 6, 2, 10),
            weights(build, directions, gates * 12, 10),
            weights(build, directions, gates * 12, 12),
            weights(build, directions, 2 * gates * 12),
        ]
        way = "bidirectional" if directions == 2 else "forward"
        outputs = build.nodes_of(kind, operands, 2, hidden_size=12, direction=way, **attributes)
        return finished(build, outputs, [4, 3])

    return make


def dynamic(build: Builder) -> Case:
    """com.microsoft DynamicQuantizeLSTM."""
    rng, none = build.draw.rng, ""
    scales = [build.constant(np.full(1, 0.01), np.float32), build.constant(np.zeros(1, np.int8))] * 2
    operands = [
        reals(build, 6, 2, 10), build.constant(rng.integers(-99, 99, (1, 10, 48)).astype(np.int8)),
        build.constant(rng.integers(-99, 99, (1, 12, 48)).astype(np.int8)), weights(build, 1, 96),
        none, none, none, none, *scales,
    ]  # fmt: skip
    return finished(build, build.nodes_of("DynamicQuantizeLSTM", operands, 1, MICROSOFT, hidden_size=12), [4])


FAMILIES: dict[str, Callable[[Builder], Case]] = {
    "standard": standard,
    "shared_heads": shared_heads,
    "of_codes": of_codes,
    "projecting": projecting,
    "quantised": quantised,
    "multi_head": multi_head,
    "packed_heads": packed_heads,
    "encoder": encoder,
    "past_of_heads": past_of_heads,
    "projecting_past": projecting_past,
    "growing_cache": growing_cache,
    "prompt": lambda build: growing_cache(build, 4, 5),
    "lstm": recurrent("LSTM", 1),
    "both_ways": recurrent("LSTM", 2),
    "gru": recurrent("GRU", 1),
    "gru_reset_behind": recurrent("GRU", 2, linear_before_reset=1),
    "rnn": recurrent("RNN", 2),
    "dynamic": dynamic,
}


def case_of(name: str) -> Case:
    """Build a case of a family."""
    return FAMILIES[name](Builder(Draw((SEED, len(name)), ties=False), opset=23))


def lowered(case: Case, arch: accelsim.Arch) -> Program:
    """Return the program of a case."""
    shapes = {name: array.shape for name, array in case.inputs.items()}
    return planned(accelsim.load(case.model).bind(shapes, lambda: case.inputs).graph, arch)


@pytest.mark.parametrize("name", FAMILIES)
def test_values_products_and_bills(name: str) -> None:
    """Exact; as many MACs in the parts as in the node's definition, all on the array; the result is consistent."""
    case = case_of(name)
    model = accelsim.load(case.model)
    result = accelsim.run(model, None, case.inputs)
    assert result.check.verdict == "exact"
    assert result.check.output_mismatched == 0
    bound = model.bind({name: array.shape for name, array in case.inputs.items()}, lambda: case.inputs)
    normalised = bound.normalised
    context = Context.build(normalised.proto, {**normalised.types, **normalised.inputs}, {})
    (node,) = [node for node in normalised.proto.graph.node if (node.domain, node.op_type) in IN_PARTS]
    parts = [layer for layer in result.layers if layer.part_of == node.op_type]
    assert sum(layer.macs for layer in parts) == host_macs(context, node)
    assert result.macs_on_array_share == 1
    assert {layer.computed_by for layer in parts} == {"onnxruntime"}
    assert [layer.name for layer in parts if layer.op == node.op_type] == [parts[-1].name]
    assert all(layer.check is None for layer in parts[:-1])
    assert sum(sum(layer.energy_pj.values()) for layer in result.layers) == pytest.approx(result.energy_pj)
    read = result_from_dict(json.loads(result.to_json()), name)  # bills, totals and classes agree
    assert read.cycles == result.cycles


MACHINES = (
    accelsim.Arch(),
    accelsim.Arch(array=(8, 4), dataflow="os", dram_channel="private"),
    accelsim.Arch(array=(4, 8), dataflow="is", spm_weight=4096, keep_activations=False),
    accelsim.Arch(array=(8, 8), prefetch_weights=True, dram_row_bytes=1024, weight_double_buffer=False),
)


@pytest.mark.parametrize("arch", MACHINES)
@pytest.mark.parametrize("name", ["of_codes", "growing_cache", "projecting", "both_ways", "gru", "dynamic"])
def test_the_event_model_is_the_recurrence(name: str, arch: accelsim.Arch) -> None:
    """Cycles, classes, events and what is left, layer by layer."""
    program = lowered(case_of(name), arch)
    once, again = time_program(program, arch), time_program_by_events(program, arch)
    for first, second in zip(once, again, strict=True):
        assert first.cycles == second.cycles
        assert dict(first.classes) == dict(second.classes)
        assert {key: count for key, count in first.events if count} == {
            key: count for key, count in second.events if count
        }
        assert first.left == second.left


@pytest.mark.parametrize("layout", ["keys", "values"])
def test_a_product_of_codes_takes_what_a_matmul_node_takes(layout: str) -> None:
    """The scores of codes: a MatMul of the same codes, with floats behind it, on the same machine."""
    build = Builder(Draw((SEED, 1), ties=False))
    code = Quantisation(np.dtype(np.int8), np.float32(0.03), 0)
    operands = [build.dequantise(build.codes(shape, code), code) for shape in ((1, 2, 64, 64), (1, 2, 64, 64))]
    build.output(build.node("MatMul", operands), np.float32)
    arch = accelsim.Arch(keep_activations=False)
    (product,) = [layer for layer in lowered(build.case(), arch).layers if isinstance(layer.work, ContractionWork)]
    build = Builder(Draw((SEED, 2), ties=False), opset=23)
    operands = [build.dequantise(build.codes((1, 2, 64, 64), code), code) for _ in range(3)]
    build.output(build.node("Attention", operands), np.float32, 4)
    program = lowered(build.case(), arch)
    (scores,) = [layer for layer in program.layers if layer.kind == "scores"]
    mine, theirs = scores.work, product.work
    assert isinstance(mine, ContractionWork)
    assert isinstance(theirs, ContractionWork)
    assert (mine.m, mine.k, mine.n, mine.groups, mine.macs) == (
        theirs.m,
        theirs.k,
        theirs.n,
        theirs.groups,
        theirs.macs,
    )
    assert (mine.arithmetic, mine.first_bits, mine.second_bits) == ("integer", 8, 8)
    if layout == "values":  # operands whose rows are whole bursts move the same bytes either way
        assert time_layer(mine, scores.plan, arch).cycles <= time_layer(theirs, product.plan, arch).cycles
    straight = {key: count for key, count in time_layer(mine, product.plan, arch).events if "bytes" not in key}
    assert straight == {
        key: count for key, count in time_layer(theirs, product.plan, arch).events if "bytes" not in key
    }


def test_keys_and_values_are_read_once_per_group_of_heads() -> None:
    """Four heads of queries share two of keys: the cache crosses the DRAM once for each product."""
    case = growing_cache(Builder(Draw((SEED, 3), ties=False), opset=23), past=511)
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    by_name = {layer.op: layer for layer in result.layers}
    cache = 2 * 512 * 16 * 4
    assert cache <= (by_name["scores"].dram_read_bytes or 0) <= cache + 4 * 64 * 4
    assert cache <= (by_name["GroupQueryAttention"].dram_read_bytes or 0) <= cache + 4 * 64 * 4
    assert by_name["append"].dram_write_bytes == 2 * 2 * 16 * 4


def test_a_long_cache_is_exact_and_its_products_are_counted() -> None:
    """4,000 cached tokens: values equal, every MAC on the array, DRAM traffic that of the cache."""
    case = growing_cache(Builder(Draw((SEED, 6), ties=False), opset=23), past=4000)
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    assert result.check.verdict == "exact"
    assert result.check.output_mismatched == 0
    assert result.macs_on_array_share == 1
    parts = [layer for layer in result.layers if layer.part_of]
    assert sum(layer.macs for layer in parts) == 2 * 4 * 4001 * 16
    cache = 2 * 2 * 4001 * 16 * 4
    assert cache <= sum(layer.dram_bytes for layer in parts) <= 1.02 * cache


def test_weights_of_steps_stay_or_are_loaded_again() -> None:
    """With room for them they cross the DRAM once, without in every step, and cycles are those of the steps."""
    case = case_of("lstm")
    for size, times in ((64 << 10, 1), (2 << 10, 6)):
        arch = accelsim.Arch(spm_weight=size)
        program = lowered(case, arch)
        index = next(number for number, layer in enumerate(program.layers) if layer.kind == "recurrent")
        layer, timing = program.layers[index], time_program(program, arch)[index]
        assert timing.event("weight_fill_bytes") == times * 48 * 12 * 4
        assert timing.event("macs") == layer.work.macs == 6 * 2 * 12 * 48


def test_arithmetic_follows_the_operands() -> None:
    """Codes times codes are integers; probabilities are floats, whose values are codes; caches are floats."""
    found = {}
    for name in ("of_codes", "standard", "quantised"):
        case = case_of(name)
        result = accelsim.run(accelsim.load(case.model), None, case.inputs)
        found[name] = {layer.op: layer.arithmetic for layer in result.layers if layer.placement == "array"}
    assert found["of_codes"] == {"scores": "integer", "Attention": "float32"}
    assert found["standard"] == {"scores": "float32", "Attention": "float32"}
    assert found["quantised"] == {
        "query": "integer", "key": "integer", "value": "integer", "scores": "float32", "QAttention": "float32",
    }  # fmt: skip


def test_no_memory_is_taken_by_results_without_values() -> None:
    """Scores of many positions are zeros without strides."""
    from accelsim.operators import ProductPart
    from accelsim.operators.tensors import TensorType
    from accelsim.values.accumulators import AccumulatorFormat
    from accelsim.values.execute import execute

    kind = TensorType.of(np.float32, (1 << 20, 1 << 20))
    (result,), use = execute(ProductPart(1, 1, 1), [], [kind], AccumulatorFormat(32, "wrap", "fold", "wide-operand"))
    assert result.shape == kind.shape
    assert not any(result.strides)
    assert use is None


def unnamed_lstm() -> Case:
    """Only the last state of an LSTM leaves, whose input is codes."""
    build = Builder(Draw((SEED, 77), ties=False), opset=21)
    operands = [codes(build, 6, 2, 10), build.dequantise(build.constant(np.ones((1, 48, 10), np.int8)), CODE)]
    operands.append(build.dequantise(build.constant(np.ones((1, 48, 12), np.int8)), CODE))
    outputs = build.nodes_of("LSTM", operands, 2, hidden_size=12)
    case = finished(build, [outputs[1]], [3])
    model = ModelProto.FromString(case.model)
    node = next(node for node in model.graph.node if node.op_type == "LSTM")
    node.name, node.output[0] = "", ""
    return replace(case, model=model.SerializeToString())


def test_a_node_without_name_and_first_output_is_called_after_its_second() -> None:
    """And of its two products one is of integers: the summary names the one of floats."""
    case = unnamed_lstm()
    result = accelsim.run(accelsim.load(case.model), None, case.inputs)
    names = [layer.name for layer in result.layers if layer.part_of or layer.op == "LSTM"]
    assert all(name and not name.startswith("/") for name in names)
    products = {layer.op: layer.arithmetic for layer in result.layers if layer.part_of and layer.arithmetic}
    assert products == {"input": "integer", "recurrent": "float32"}
    text = "\n".join(line.plain for line in detail_lines(result))
    assert "LSTM (recurrent): float activations" in text
