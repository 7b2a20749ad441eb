"""Codes of less than a byte in memory: what is moved, byte by byte, and what narrow layers cost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import accelsim
from accelsim.explain.layers import explain_model
from accelsim.kernels.cycles.specs import LoopSpec
from accelsim.kernels.cycles.transfers import block_store, closed_rows, first_operand_load, second_operand_load
from accelsim.operators.tensors import TensorType
from accelsim.program.work import StreamWork, describe_work
from tests.qonnx_models import QonnxGraph

BURST = 16


def naive_rows(rows: range, first: int, last: int, size: int, bits: int) -> tuple[int, int]:
    """Return (bytes in bursts, useful bytes) of elements first..last-1 of some rows, looking at every element."""
    row_bytes = -(-size * bits // 8)
    spans = []
    for row in rows:
        touched = [
            row * row_bytes + (element * bits + bit) // 8 for element in range(first, last) for bit in (0, bits - 1)
        ]
        spans.append((min(touched), max(touched) + 1))
    useful = sum(stop - start for start, stop in spans)
    if all(before[1] == after[0] for before, after in pairwise(spans)):
        spans = [(spans[0][0], spans[-1][1])]
    return sum(-(-stop // BURST) - start // BURST for start, stop in spans) * BURST, useful


def loop(m: int, k: int, n: int, **bits: int) -> LoopSpec:
    """Return a product without blocks."""
    plain = dict.fromkeys(
        ("height", "width", "out_height", "out_width", "kernel_h", "kernel_w", "stride_h", "stride_w"), 1
    )
    return LoopSpec(
        m=m, k=k, n=n, groups=1, pack=1, block_m=m, block_n=n, chunk_k=k, resident=1, image=0, **plain,
        dilation_h=1, dilation_w=1, pad_top=0, pad_left=0, dynamic_second=1, output_bytes=1, parameter_bytes=0, **bits,
    )  # fmt: skip


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_operands_move_the_bytes_that_hold_them(bits: int) -> None:
    """Loads and stores of parts of rows of 1- to 8-bit codes, against a look at every element."""
    rng, rows = np.random.default_rng(bits), closed_rows(0, 1)
    for _ in range(60):
        m, k, n = (int(size) for size in rng.integers(1, 40, 3))
        spec = loop(m, k, n, first_bits=bits, second_bits=bits, output_bits=bits)
        m0, k0, n0 = (int(rng.integers(0, size)) for size in (m, k, n))
        m1, k1, n1 = (int(rng.integers(low + 1, size + 1)) for low, size in ((m0, m), (k0, k), (n0, n)))
        assert first_operand_load(spec, 0, 0, 1, m0, m1, k0, k1, BURST, rows) == naive_rows(
            range(m0, m1), k0, k1, k, bits
        )
        assert second_operand_load(spec, 0, 0, 1, n0, n1, k0, k1, BURST, rows) == naive_rows(
            range(k0, k1), n0, n1, n, bits
        )
        assert block_store(spec, 0, 0, 1, m0, m1, n0, n1, BURST, rows) == naive_rows(range(m0, m1), n0, n1, n, bits)


def test_types_know_their_packed_size() -> None:
    """A tensor of 2-bit codes takes a quarter of its elements in bytes, and says what it is."""
    kind = TensorType.of(np.int8, (3, 7))
    assert (kind.size_bytes, str(kind)) == (21, "int8[3, 7]")
    packed = TensorType(np.dtype(np.uint8), (3, 7), 2)
    assert (packed.size_bytes, str(packed)) == (6, "uint2[3, 7]")


def _network(bits: int) -> bytes:
    rng = np.random.default_rng(3)
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 64, 256), 0.25, 0, bits, narrow=int(bits > 1))
    for _ in range(2):
        weights = graph.quant(graph.constant(rng.normal(size=(256, 256))), 0.25, 0, bits, narrow=int(bits > 1))
        x = graph.quant(graph.normalise(graph.node("MatMul", x, weights), 256, rng), 0.25, 0, bits)
    return graph.model(x)


def test_narrow_networks_move_and_cost_less() -> None:
    """Fewer bits, fewer bytes and less energy; time never rises, MACs stay, all of it exact."""
    arch = accelsim.Arch(keep_activations=False)
    results = {bits: accelsim.run(accelsim.load(_network(bits)), arch) for bits in (1, 2, 4, 8)}
    for narrow, wide in ((1, 2), (2, 4), (4, 8)):
        few, many = results[narrow].layers[2], results[wide].layers[2]
        assert few.macs == many.macs
        assert few.cycles <= many.cycles
        assert few.dram_bytes < many.dram_bytes
        assert few.energy_pj["mac"] == many.energy_pj["mac"]
        assert few.energy_pj["activation_sram"] < many.energy_pj["activation_sram"]
        assert few.energy_pj["requantiser"] < many.energy_pj["requantiser"]
    assert all(result.check.verdict == "exact" for result in results.values())
    operands = {bits: (64 * 256 + 256 * 256 + 64 * 256) * bits // 8 for bits in results}
    assert all(results[bits].layers[2].dram_bytes >= operands[bits] for bits in results)


def test_explain_says_what_narrow_layers_waste() -> None:
    """Widths of operands against those of the multipliers, and what the thresholds take."""
    text = "\n".join(explain_model(accelsim.load(_network(2)), accelsim.Arch(), "MatMul"))
    assert "2-bit x 2-bit codes on 9x8-bit multipliers: 5.6% of their bits used" in text
    assert "thresholds of" in text
    assert "2 comparisons per output" in text
    eight = "\n".join(explain_model(accelsim.load(_network(8)), accelsim.Arch(), "MatMul"))
    assert "multipliers:" not in eight
    assert "8 comparisons per output" in eight


def test_searching_thresholds_is_priced_on_the_vector_unit() -> None:
    """A sum of codes there loads its thresholds, and pays a comparison and a read per step of the search."""
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 1, 4, 8, 8), 0.25, 0, 4)
    y = graph.quant(graph.node("GlobalAveragePool", x), 0.125, 0, 3)
    nodes = {node.kind: node for node in accelsim.load(graph.model(y)).bind().graph.nodes}
    operator = nodes["GlobalAveragePool"].operator
    work = describe_work(operator, (TensorType(np.dtype(np.int8), (1, 4, 8, 8), 4),), (TensorType.of(np.int8, (1, 4)),))
    assert isinstance(work, StreamWork)
    assert operator.epilogue.thresholds.shape == (1, 7)
    assert dict(work.events)["table_read"] == 4 * 3
    assert work.reads == ((1, 4 * 64 * 4 // 8), (1, -(-7 * operator.epilogue.bits // 8)))
