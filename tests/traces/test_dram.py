"""DRAM accesses: as many bursts as the timings count, at addresses that make sense."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.errors import UsageError
from accelsim.operators.tensors import TensorType
from accelsim.program.addresses import AddressMap, Region, _lay_out, map_addresses
from accelsim.program.layers import Program
from accelsim.timing.scene import View, run_scene, set_scene
from accelsim.traces.dram import Accesses, accesses
from accelsim.traces.write import write_trace
from tests.planning import planned
from tests.tiers import few
from tests.traces.reader import read_accesses

# Everything goes through DRAM here; what is kept on chip has a test of its own.
MACHINES = (
    accelsim.Arch(keep_activations=False),
    accelsim.Arch(array=(8, 8), dataflow="os", keep_activations=False),
    accelsim.Arch(array=(4, 16), dataflow="is", dram_burst=12, dram_bytes_per_cycle=5, keep_activations=False),
    accelsim.Arch(
        array=(16, 8), dram_burst=32, dram_bytes_per_cycle=64, spm_act="8KiB", spm_weight="4KiB", keep_activations=False
    ),
)


def program_of(path: Path, arch: accelsim.Arch) -> Program:
    """Lower a model."""
    return planned(accelsim.load(path).bind().graph, arch)


def all_accesses(program: Program, arch: accelsim.Arch, view: View | None = None) -> list[Accesses]:
    """Return the accesses of each layer that takes time."""
    scene, addresses = set_scene("model", program, arch, view or View()), map_addresses(program, arch)
    return [accesses(scene, arch, addresses, placed, trace) for placed, trace in run_scene(scene, arch, segments=True)]


def region_of(addresses: AddressMap, address: int, burst: int) -> Region:
    """Return the region that a burst lies in; whole bursts may reach beyond the last byte."""
    (found,) = (r for r in addresses.regions if r.base <= address < r.base + -(-r.size // burst) * burst)
    return found


@pytest.mark.parametrize("arch", [accelsim.Arch(), accelsim.Arch(dataflow="best", dram_row_bytes=2048)])
def test_kept_tensors_are_not_accessed(digits: Path, arch: accelsim.Arch) -> None:
    """Layers whose activations stay on chip access their weights only, as often as the timings count."""
    program = program_of(digits, arch)
    scene = set_scene("digits", program, arch, View())
    silent = 0
    for placed, found in zip(scene.layers, all_accesses(program, arch), strict=True):
        read, written = (placed.timing.event(f"dram_{way}_bytes") for way in ("read", "write"))
        assert int((~found.stores).sum()) * arch.dram_burst == read, placed.layer.name
        assert int(found.stores.sum()) * arch.dram_burst == written, placed.layer.name
        silent += written == 0
    assert silent == len(scene.layers) - 1


@pytest.mark.parametrize("arch", MACHINES)
def test_there_are_as_many_bursts_as_the_timings_count(digits: Path, arch: accelsim.Arch) -> None:
    """Layer by layer and direction by direction; in order of time, on bursts, within the layer's cycles."""
    program = program_of(digits, arch)
    scene = set_scene("digits", program, arch, View())
    for placed, found in zip(scene.layers, all_accesses(program, arch), strict=True):
        read, written = (placed.timing.event(f"dram_{way}_bytes") for way in ("read", "write"))
        assert int((~found.stores).sum()) * arch.dram_burst == read, placed.layer.name
        assert int(found.stores.sum()) * arch.dram_burst == written, placed.layer.name
        assert (np.diff(found.cycles) >= 0).all()
        assert (found.addresses % arch.dram_burst == 0).all()
        assert placed.start <= found.cycles.min()
        assert found.cycles.max() < placed.end


@pytest.mark.parametrize("arch", MACHINES)
def test_what_is_read_was_written_before(digits: Path, arch: accelsim.Arch) -> None:
    """Bursts of activations between layers are written before they are read, and every tensor is written whole."""
    program = program_of(digits, arch)
    addresses, burst = map_addresses(program, arch), arch.dram_burst
    loaded = {
        *program.inputs,
        *(r.name for r in addresses.regions if r.name.startswith(("weights of", "constants of"))),
    }
    written: set[int] = set()
    for found in all_accesses(program, arch):
        for address, store in zip(found.addresses.tolist(), found.stores.tolist(), strict=True):
            if store:
                written.add(address)
            elif address not in written:
                assert region_of(addresses, address, burst).name in loaded
    for region in addresses.regions:
        bursts = {region.base + number * burst for number in range(-(-region.size // burst))}
        assert bursts & written == (set() if region.name in loaded else bursts), region.name


@pytest.mark.parametrize("arch", MACHINES)
def test_regions_are_aligned_and_apart(digits: Path, arch: accelsim.Arch) -> None:
    """Each region starts on a burst and a page, after the end of the one before; views have none."""
    program = program_of(digits, arch)
    regions = map_addresses(program, arch).regions
    alignment = math.ceil(4096 / arch.dram_burst) * arch.dram_burst
    assert all(region.base % alignment == 0 for region in regions)
    assert all(a.base + a.size <= b.base for a, b in pairwise(regions))
    flattened = next(layer for layer in program.layers if layer.kind == "Flatten")
    assert flattened.outputs[0] not in {region.name for region in regions}
    assert flattened.inputs[0] in {region.name for region in regions}
    kernel = next(region for region in regions if region.name.endswith(" stem"))
    assert kernel.size == -(-(9 * 16 + 16 * 8) // arch.dram_burst) * arch.dram_burst or arch.cols < 16


NETWORKS = (
    "resnet8_cifar10_qdq_u8s8", "dscnn_kws_int8", "textgen_transformer_int8", "resnet8_cifar10_w4a8_qdq",
    "yamnet256_int8", "autoencoder_ad_w4blk32_qdq", "tfc_2w2a_qonnx",
)  # fmt: skip


@pytest.mark.parametrize("name", few(NETWORKS, 2))
def test_real_networks_stay_in_their_regions(shared_models: Path, name: str) -> None:
    """Attention, concatenation, packed codes: counts are the timings', addresses have a tensor, reads were written."""
    arch = accelsim.Arch(dataflow="os")
    program = program_of(shared_models / f"{name}.onnx", arch)
    scene, addresses = set_scene(name, program, arch, View()), map_addresses(program, arch)
    edges = np.array([[r.base, r.base + -(-r.size // arch.dram_burst) * arch.dram_burst] for r in addresses.regions])
    given = ("weights of", "constants of", *program.inputs, *program.constants)
    loaded = np.array([region.name.startswith(given) for region in addresses.regions])
    written = np.zeros(0, np.int64)
    for placed, found in zip(scene.layers, all_accesses(program, arch), strict=True):
        assert len(found.addresses) * arch.dram_burst == placed.timing.dram_bytes, placed.layer.name
        home = np.searchsorted(edges[:, 0], found.addresses, side="right") - 1
        assert (found.addresses < edges[home, 1]).all(), placed.layer.name
        reads = found.addresses[~found.stores & ~loaded[home]]
        assert np.isin(reads, written).all(), placed.layer.name
        written = np.union1d(written, found.addresses[found.stores])


def test_lines_are_ramulators(digits: Path, tmp_path: Path) -> None:
    """The file holds what was computed, as two words a line."""
    summary = write_trace(accelsim.load(digits), accelsim.Arch(), tmp_path / "accesses.dram")
    found = read_accesses(tmp_path / "accesses.dram")
    expected = all_accesses(program_of(digits, accelsim.Arch()), accelsim.Arch())
    assert [store for store, _ in found] == np.concatenate([part.stores for part in expected]).tolist()
    assert [address for _, address in found] == np.concatenate([part.addresses for part in expected]).tolist()
    assert summary.events == len(found) == accelsim.run(digits, values=False).dram_bytes // 64
    assert summary.regions == map_addresses(program_of(digits, accelsim.Arch()), accelsim.Arch()).regions


def test_windows_partition_the_accesses(digits: Path) -> None:
    """Every burst belongs to exactly one of two windows that meet."""
    arch = accelsim.Arch(dram_bytes_per_cycle=3)
    program = program_of(digits, arch)
    counts = [
        sum(len(part.addresses) for part in all_accesses(program, arch, view))
        for view in (View(), View(None, None, 3001), View(None, 3001))
    ]
    assert counts[0] == counts[1] + counts[2]


def test_bursts_of_one_command_are_spread_over_its_cycles(digits: Path) -> None:
    """64-byte bursts at 16 bytes per cycle are four cycles apart."""
    first = all_accesses(program_of(digits, accelsim.Arch()), accelsim.Arch())[0]
    assert first.cycles[:16].tolist() == list(range(0, 64, 4))
    assert first.addresses[:16].tolist() == list(range(0, 1024, 64))


def test_entries_of_a_stream_find_their_tensors() -> None:
    """One after the other, parts of one tensor behind each other, a second pass again, tables apart."""
    bytes_of = TensorType.of(np.uint8, (100,))

    def laid(tensors: int, runs: list[tuple[int, int]]) -> list[tuple[str, int]]:
        names = ["a", "b", "c"][:tensors]
        return [(piece.region, piece.offset) for piece in _lay_out(names, [bytes_of] * tensors, runs, "spare", 64)]

    assert laid(2, [(1, 100), (1, 100)]) == [("a", 0), ("b", 0)]
    assert laid(1, [(2, 25), (2, 25)]) == [("a", 0), ("a", 128)]
    assert laid(1, [(1, 100), (1, 100)]) == [("a", 0), ("a", 0)]
    assert laid(1, [(1, 100), (1, 256)]) == [("a", 0), ("spare", 0)]
    assert laid(2, [(1, 100), (1, 100), (1, 10), (1, 20)]) == [("a", 0), ("b", 0), ("spare", 0), ("spare", 64)]
    assert laid(1, [(3, 100)]) == [("a", 0)]
    assert laid(0, [(1, 4)]) == [("spare", 0)]


def test_nothing_to_show_is_refused(digits: Path) -> None:
    """A window behind the end, before the beginning, of no length, or a layer of another time."""
    program = program_of(digits, accelsim.Arch())
    for view in (View(None, 10**9), View(None, -1), View(None, 7, 7), View(None, 9, 7), View("stem", 5000)):
        with pytest.raises(UsageError, match="cycles"):
            set_scene("digits", program, accelsim.Arch(), view)
