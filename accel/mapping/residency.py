"""Which activations stay on chip from the layer that computes them to the last that reads them (contract 5.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from accelsim.machine.arch import Arch
from accelsim.operators import HostOperator
from accelsim.program.addresses import stream_pieces
from accelsim.program.layers import Layer
from accelsim.program.plan import Kept
from accelsim.program.work import ContractionWork, StreamWork

Feasible = Callable[[int, Kept], bool]


@dataclass
class _Tensor:
    """An activation: where it is computed and read, its bytes, and whether everybody can use it in place."""

    producer: int
    size: int
    last: int
    traffic: int
    allowed: bool = True


@dataclass(frozen=True)
class _Touched:
    """Tensors that a layer reads and writes, entry by entry, views resolved."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    in_place: bool
    second: str | None = None


@dataclass
class _Life:
    """All activations by name, and what each layer touches."""

    tensors: dict[str, _Tensor] = field(default_factory=dict)
    touched: list[_Touched] = field(default_factory=list)


def keep_activations(layers: Sequence[Layer], outputs: Sequence[str], arch: Arch, feasible: Feasible) -> list[Kept]:
    """Return what stays on chip around every layer.

    Tensors are taken in the order of DRAM traffic saved per byte and layer for which they occupy the scratchpad; of
    equal ones the larger first.

    Args:
        layers: the program; plans are not looked at.
        outputs: tensors that leave the model.
        arch: the machine.
        feasible: tells whether a layer (by number) can be planned with something kept around it.
    """
    if not arch.keep_activations:
        return [Kept()] * len(layers)
    life = _live_tensors(layers, outputs, arch)
    candidates = [(name, tensor) for name, tensor in life.tensors.items() if tensor.allowed and tensor.last >= 0]
    candidates.sort(key=lambda item: (-_worth(item[1]), -item[1].size, item[1].producer))
    chosen: set[str] = set()
    reserved = [0] * len(layers)
    for name, tensor in candidates:
        span = range(tensor.producer, tensor.last + 1)
        if any(reserved[number] + tensor.size > arch.spm_act for number in span):
            continue
        trial = chosen | {name}
        if all(feasible(number, _kept(life, number, trial, reserved[number] + tensor.size)) for number in span):
            chosen = trial
            for number in span:
                reserved[number] += tensor.size
    return [_kept(life, number, chosen, reserved[number]) for number in range(len(layers))]


def with_local_copies(work: StreamWork, kept: Kept) -> StreamWork:
    """Return a copy whose bytes that are kept on both sides pass through the vector lanes, one element per lane.

    Args:
        work: a layer of the DMA engine; others are returned as they are.
        kept: what stays on chip.
    """
    if work.placement != "dma" or not any(kept.reads) or not any(kept.writes):
        return work
    read, written = (
        sum(count * size for (count, size), flag in zip(part, flags, strict=True) if flag)
        for part, flags in ((work.reads, kept.reads), (work.writes, kept.writes))
    )
    total = max(sum(count * size for count, size in work.writes), 1)
    return replace(work, lane_operations=-(-work.units * min(read, written) // total))


def _worth(tensor: _Tensor) -> float:
    """Traffic saved per byte and layer."""
    return tensor.traffic / (max(tensor.size, 1) * (tensor.last - tensor.producer + 1))


def _live_tensors(layers: Sequence[Layer], outputs: Sequence[str], arch: Arch) -> _Life:
    """Find out what every layer touches, and from where to where each activation lives."""
    life, views = _Life(), dict[str, str]()
    for number, layer in enumerate(layers):
        inputs = [views.get(name, name) for name in layer.moved_inputs]
        work = layer.work
        if isinstance(work, StreamWork) and work.placement == "none":
            views.update(dict.fromkeys(layer.outputs[: len(inputs)], inputs[0]))
            life.touched.append(_Touched((), (), True))
            continue
        touched = _touch(number, layer, inputs, arch)
        life.touched.append(touched)
        for name, kind in zip(layer.outputs, layer.output_types, strict=True):
            in_place = touched.in_place and (name in touched.writes or not isinstance(layer.operator, HostOperator))
            life.tensors[name] = _Tensor(number, kind.size_bytes, -1, kind.size_bytes, in_place)
        for name in {*inputs, *touched.reads} & life.tensors.keys():
            tensor = life.tensors[name]
            tensor.last = number
            tensor.traffic += tensor.size
            tensor.allowed &= touched.in_place and name in touched.reads and name != touched.second
    for name in outputs:
        root = views.get(name, name)
        if root in life.tensors:
            life.tensors[root].allowed = False
    return life


def _touch(number: int, layer: Layer, inputs: Sequence[str], arch: Arch) -> _Touched:
    """Return what one layer reads and writes."""
    work = layer.work
    if isinstance(work, ContractionWork):
        second = inputs[1] if work.dynamic_second else None
        return _Touched(tuple(inputs[:2]) if second else tuple(inputs[:1]), layer.outputs[:1], True, second)
    pieces = stream_pieces(number, layer, work, inputs, arch.dram_burst)
    reads, writes = (tuple(piece.region for piece in side) for side in (pieces.reads, pieces.writes))
    return _Touched(reads, writes, work.placement != "host")


def _kept(life: _Life, number: int, chosen: set[str], reserved: int) -> Kept:
    """Return the flags of one layer; without any kept tensor, none."""
    touched = life.touched[number]
    reads = tuple(name in chosen for name in touched.reads)
    writes = tuple(name in chosen for name in touched.writes)
    return Kept(reads if any(reads) else (), writes if any(writes) else (), reserved)
