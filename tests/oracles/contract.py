"""The timing contract in plain Python, written from its text: slow, literal, and independent of the kernels.

Sections of the contract are cited where they are followed. All times are cycles since the start of the layer. Classes
are found by walking over every cycle of the issue port, never by arithmetic on intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

Segment = tuple[int, int]
Span = Callable[[int, int], Segment]


def ceiling(value: int, divisor: int) -> int:
    """Return value / divisor, rounded up."""
    return -(-value // divisor)


@dataclass(frozen=True)
class Machine:
    """The parameters of section 9 that time depends on; gather_words 0 means that all lanes are gathered at once."""

    rows: int
    cols: int
    dataflow: str = "ws"
    double_buffer: bool = True
    drain_overlap: bool = True
    flush: bool = False
    full_load: bool = False
    gather_words: int = 0
    acc_banks: int = 2
    operand_buffers: int = 2
    output_buffers: int = 2
    requant_lanes: int = 16
    requant_latency: int = 4
    bytes_per_cycle: int = 16
    dram_latency: int = 100
    burst: int = 64

    @property
    def tail(self) -> int:
        """Cycles from the last issued step to the last commit (section 4)."""
        return self.rows + self.cols

    def gather(self, lanes: int) -> int:
        """Issue cycles of a step that gathers this many activations (section 4.5)."""
        return ceiling(lanes, self.gather_words) if self.gather_words else 1

    def push_steps(self, depth: int) -> int:
        """L: steps of a weight load (section 4)."""
        return self.rows if self.full_load else depth


# ------------------------------------------------------------------------------------------- closed forms, 4.1 and 4.2


def single_tile(machine: Machine, streamed: int, depth: int) -> int:
    """Total of one WS/IS tile, everything resident."""
    return machine.push_steps(depth) + streamed + machine.tail


def steady_interval(machine: Machine, streamed: int, depth: int, accumulates: bool) -> int:
    """Cycles from one WS/IS tile's stream to the next one's, everything resident."""
    push = machine.push_steps(depth)
    if machine.flush:
        return push + streamed + machine.tail
    hazard = machine.rows + 2 if accumulates else 0
    return max(streamed, push, hazard) if machine.double_buffer else max(streamed + push, hazard)


def equal_tiles(machine: Machine, tiles: int, streamed: int, depth: int, accumulates: bool) -> int:
    """Total of a WS/IS layer of equal tiles in which all intervals accumulate, or none."""
    interval = steady_interval(machine, streamed, depth, accumulates)
    return machine.push_steps(depth) + (tiles - 1) * interval + streamed + machine.tail


def output_tiles(machine: Machine, tiles: int, depth: int) -> int:
    """Total of an OS layer, everything resident."""
    if machine.flush:
        return tiles * (depth + 2 * machine.rows + machine.cols)
    if not machine.drain_overlap:
        return tiles * (depth + machine.rows) + machine.tail
    return (tiles - 1) * max(depth, machine.rows + 1) + depth + 2 * machine.rows + machine.cols


def scalesim_paper(machine: Machine, m: int, k: int, n: int) -> int:
    """Cycles of SCALE-Sim's paper (docs/scalesim.md): folds * (2R + C + T - 2)."""
    folds, streamed = {
        "ws": (ceiling(k, machine.rows) * ceiling(n, machine.cols), m),
        "os": (ceiling(m, machine.rows) * ceiling(n, machine.cols), k),
        "is": (ceiling(k, machine.rows) * ceiling(m, machine.cols), n),
    }[machine.dataflow]
    return folds * (2 * machine.rows + machine.cols + streamed - 2)


def scalesim_folds(machine: Machine, m: int, k: int, n: int) -> int:
    """Number of folds of the same layer."""
    first, second = {"ws": (k, n), "os": (m, n), "is": (k, m)}[machine.dataflow]
    return ceiling(first, machine.rows) * ceiling(second, machine.cols)


# ------------------------------------------------------------------------------------ the issue port, 4.1, 4.2 and 4.3


@dataclass(frozen=True)
class Tile:
    """What the sequencer is told about a tile, or about one k chunk of an OS tile.

    steps: issue cycles of its stream; push: issue cycles of its weight load; ready_w: RW; loaded, banked: the two parts
    of RX; accumulates: onto the rows of the tile before it; opens: an OS tile begins; depth: K of the whole OS tile;
    slots: issue cycles of one OS step, whose token goes out in the last of them.
    """

    steps: int
    push: int = 0
    ready_w: int = 0
    loaded: int = 0
    banked: int = 0
    accumulates: bool = False
    opens: bool = True
    depth: int = 0
    slots: int = 1

    @property
    def ready_x(self) -> int:
        """RX."""
        return max(self.loaded, self.banked)

    def waiting_class(self) -> str:
        """Split wait_x by the later of its two causes, tie = load (section 4.3)."""
        return "wait_x_bank" if self.banked > self.loaded else "wait_x_load"


@dataclass(frozen=True)
class Placed:
    """A tile on the time axis: flushed, push_start, hazard are the moments that section 4.1 names."""

    tile: Tile
    start: int
    flushed: int = 0
    push_start: int = 0
    hazard: int = 0

    @property
    def end(self) -> int:
        """Issue end: the cycle after the last step."""
        return self.start + self.tile.steps


@dataclass
class StationaryArray:
    """Section 4.1: WS and IS."""

    machine: Machine
    placed: list[Placed] = field(default_factory=list)

    def issue(self, tile: Tile) -> Placed:
        """Place the next tile."""
        base = issued = flushed = hazard = 0
        if self.placed:
            previous = self.placed[-1]
            issued = previous.end
            base = previous.start if self.machine.double_buffer else issued
            if self.machine.flush:
                base = flushed = issued + self.machine.tail
            elif tile.accumulates:
                slower = max(0, previous.tile.steps - tile.steps)
                hazard = previous.start + slower + self.machine.rows + 2
        push_start = max(base, tile.ready_w)
        start = max(issued, push_start + tile.push, hazard, tile.ready_x)
        self.placed.append(Placed(tile, start, flushed, push_start, hazard))
        return self.placed[-1]

    @property
    def issue_end(self) -> int:
        """E of the last tile."""
        return self.placed[-1].end if self.placed else 0

    @property
    def total(self) -> int:
        """Cycle of the last commit."""
        return self.issue_end + self.machine.tail

    def commit(self, index: int) -> int:
        """Cycle from which all results of a tile are in the bank: E + R + C (section 5.1)."""
        return self.placed[index].end + self.machine.tail

    def classes(self) -> Counter[str]:
        """Walk over the issue port, cycle by cycle, then count the tail."""
        counts = Counter({"tail": self.machine.tail})
        index = 0
        for cycle in range(self.issue_end):
            while cycle >= self.placed[index].end:
                index += 1
            counts[_stationary_class(self.placed[index], cycle)] += 1
        return counts


def _stationary_class(coming: Placed, cycle: int) -> str:
    """Decide one cycle by the precedence list of section 4.3; `coming` streams now or is the next to stream."""
    if cycle >= coming.start:
        return "stream"
    if coming.push_start <= cycle < coming.push_start + coming.tile.push:
        return "push"
    if cycle < coming.flushed:
        return "flush"
    if cycle < coming.push_start and cycle < coming.tile.ready_w:
        return "wait_w"
    if cycle < coming.hazard:
        return "hazard"
    if cycle < coming.tile.ready_x:
        return coming.tile.waiting_class()
    raise AssertionError(f"nothing explains the idle cycle {cycle} before {coming}")


@dataclass
class OutputArray:
    """Section 4.2: OS. A tile may come in several parts (k chunks); its drain follows its last part.

    `first` and `shift` cannot share a step (section 3): a first step in the middle of a drain delays the drain by one.
    A new tile's last step overwrites the drain registers, so the drain before it must be over by then.
    """

    machine: Machine
    placed: list[Placed] = field(default_factory=list)

    def issue(self, tile: Tile) -> Placed:
        """Place the next tile, or the next part of the same tile."""
        issued = self.issue_end
        free = issued + self._gap(tile) if self.placed and tile.opens else issued
        flushed = free if self.machine.flush else 0
        self.placed.append(Placed(tile, max(free, tile.ready_x), flushed))
        return self.placed[-1]

    def _gap(self, tile: Tile) -> int:
        if self.machine.flush:
            return 2 * self.machine.rows + self.machine.cols
        return max(0, self.machine.rows + 1 - tile.depth) if self.machine.drain_overlap else self.machine.rows

    @property
    def issue_end(self) -> int:
        """E of the last tile."""
        return self.placed[-1].end if self.placed else 0

    @property
    def total(self) -> int:
        """Cycle of the last commit: S_last + K + 2R + C."""
        return self.issue_end + 2 * self.machine.rows + self.machine.cols

    def drain(self, index: int) -> list[int]:
        """Issue slots of the R shift steps after the tile whose last part is `placed[index]`."""
        following = self.placed[index + 1] if index + 1 < len(self.placed) else None
        first = following.start + following.tile.slots - 1 if following else None
        end = self.placed[index].end
        return [slot for slot in range(end, end + self.machine.rows + 1) if slot != first][: self.machine.rows]

    def commit(self, index: int) -> int:
        """Cycle from which all results of a tile are out of the array."""
        return self.drain(index)[-1] + 1 + self.machine.tail

    def drains(self) -> set[int]:
        """All shift slots; checks that every drain is over when the next tile ends."""
        last_parts = [i for i in range(len(self.placed)) if i + 1 == len(self.placed) or self.placed[i + 1].tile.opens]
        slots: set[int] = set()
        for part, following in zip(last_parts, [*last_parts[1:], None], strict=True):
            drain = self.drain(part)
            if following is not None and drain[-1] >= self.placed[following].end:
                raise AssertionError(f"the drain after {self.placed[part]} is overwritten by {self.placed[following]}")
            slots.update(drain)
        return slots

    def classes(self) -> Counter[str]:
        """Walk over the issue port, cycle by cycle, up to the last shift step, then count the tail."""
        counts = Counter({"tail": self.machine.tail})
        drains = self.drains()
        index = 0
        for cycle in range(self.issue_end + self.machine.rows if self.placed else 0):
            while index < len(self.placed) and cycle >= self.placed[index].end:
                index += 1
            coming = self.placed[index] if index < len(self.placed) else None
            counts[_output_class(coming, cycle, drains)] += 1
        return counts


def _output_class(coming: Placed | None, cycle: int, drains: set[int]) -> str:
    """Decide one cycle by the precedence list of section 4.3."""
    if coming is not None and cycle >= coming.start:
        return "stream"
    if cycle in drains:
        return "shift"
    if coming is not None and cycle < coming.flushed:
        return "flush"
    if coming is not None and cycle < coming.tile.ready_x:
        return coming.tile.waiting_class()
    raise AssertionError(f"nothing explains the idle cycle {cycle} before {coming}")


# --------------------------------------------------------------------------------------------------- layers and blocks


@dataclass(frozen=True)
class Image:
    """A feature map [images, channels, height, width] and the window that slides over it.

    insertion: distance of the pixels once zeros, which are not in memory, are inserted between them.
    """

    height: int
    width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    insertion: tuple[int, int] = (1, 1)

    @property
    def taps(self) -> int:
        """Window elements per channel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def pixels(self) -> int:
        """Output pixels per image."""
        return self.out_height * self.out_width

    @property
    def plane(self) -> int:
        """Input elements per channel."""
        return self.height * self.width

    def touched(self, first: int, last: int) -> set[int]:
        """Positions in a plane that the windows of output pixels first..last-1 read, by trying every tap."""
        found = set()
        for pixel in range(first, last):
            for tap in range(self.taps):
                row = pixel // self.out_width * self.strides[0] - self.pads[0]
                row += tap // self.kernel[1] * self.dilations[0]
                column = pixel % self.out_width * self.strides[1] - self.pads[1]
                column += tap % self.kernel[1] * self.dilations[1]
                if row % self.insertion[0] or column % self.insertion[1]:
                    continue
                row, column = row // self.insertion[0], column // self.insertion[1]
                if 0 <= row < self.height and 0 <= column < self.width:
                    found.add(row * self.width + column)
        return found


@dataclass(frozen=True)
class Layer:
    """A contraction and its blocking; m, k, n are those of one group; row_sums: further features of every block.

    outer: the outer one of the two block loops, "n" or "m".
    """

    m: int
    k: int
    n: int
    block_m: int
    block_n: int
    chunk_k: int
    groups: int = 1
    pack: int = 1
    resident: bool = False
    image: Image | None = None
    dynamic_second: bool = False
    output_bytes: int = 1
    parameter_bytes: int = 8
    row_sums: int = 0
    outer: str = "n"


@dataclass(frozen=True)
class Block:
    """One output block; new_outer: the first of its column block; first_pass: of the first column block."""

    group: int
    packed: int
    m0: int
    m1: int
    n0: int
    n1: int
    new_outer: bool
    first_pass: bool
    row_sums: int = 0

    @property
    def lanes(self) -> int:
        """What the array computes per output row: the columns, and per group its sum of the activations."""
        return self.columns + self.row_sums * self.packed

    @property
    def rows(self) -> int:
        """Output rows."""
        return self.m1 - self.m0

    @property
    def columns(self) -> int:
        """Output columns, of all groups that share the tile."""
        return (self.n1 - self.n0) * self.packed


def cut(extent: int, size: int) -> list[Segment]:
    """Cut 0..extent into pieces of a size, the last one smaller."""
    return [(start, min(start + size, extent)) for start in range(0, extent, size)]


def blocks(machine: Machine, layer: Layer) -> Iterator[Block]:
    """Yield the output blocks in the order of section 4.4."""
    swap = layer.outer == "m"
    inner, outer = (cut(layer.n, layer.block_n), cut(layer.m, layer.block_m))
    if not swap:
        inner, outer = outer, inner
    for group in range(0, layer.groups, layer.pack):
        packed = min(layer.pack, layer.groups - group)
        for outside in outer:
            for inside in inner:
                (m0, m1), (n0, n1) = (outside, inside) if swap else (inside, outside)
                yield Block(group, packed, m0, m1, n0, n1, inside[0] == 0, outside[0] == 0, layer.row_sums)


# -------------------------------------------------------------------------------------------------- DMA, section 5.5


def joined(segments: Sequence[Segment]) -> list[Segment]:
    """Join segments (address, length) that follow each other without a gap."""
    whole: list[Segment] = []
    for address, length in segments:
        if whole and sum(whole[-1]) == address:
            whole[-1] = (whole[-1][0], whole[-1][1] + length)
        elif length > 0:
            whole.append((address, length))
    return whole


def moved_bytes(segments: Sequence[Segment], burst: int) -> int:
    """Bytes on the bus: whole bursts for each contiguous segment."""
    return sum(ceiling(address % burst + length, burst) * burst for address, length in segments)


def useful_bytes(segments: Sequence[Segment]) -> int:
    """Bytes asked for."""
    return sum(length for _, length in segments)


def _images(image: Image, block: Block) -> list[tuple[int, int, int]]:
    """Return (image, first pixel, pixel after the last) for each image that a block of rows touches."""
    parts: dict[int, list[int]] = {}
    for row in range(block.m0, block.m1):
        parts.setdefault(row // image.pixels, []).append(row % image.pixels)
    return [(number, min(pixels), max(pixels) + 1) for number, pixels in parts.items()]


def first_operand(layer: Layer, block: Block, k0: int, k1: int, span: Span | None) -> list[Segment]:
    """Segments of the rows (or of the feature map under the pixels) of a block at depths k0..k1-1."""
    if layer.image is None:
        return joined([((block.group * layer.m + row) * layer.k + k0, k1 - k0) for row in range(block.m0, block.m1)])
    image, segments = layer.image, []
    depth = layer.k // image.taps
    wanted = range(depth * block.packed) if block.packed > 1 else sorted({k // image.taps for k in range(k0, k1)})
    for number, first, last in _images(image, block):
        start, stop = span(first, last) if span is not None else hull(image.touched(first, last))
        base = number * layer.groups * depth + block.group * depth
        segments += joined([((base + channel) * image.plane + start, stop - start) for channel in wanted])
    return segments


def hull(positions: set[int]) -> Segment:
    """Smallest contiguous range around some positions."""
    return (min(positions), max(positions) + 1) if positions else (0, 0)


def second_operand(layer: Layer, block: Block, k0: int, k1: int) -> list[Segment]:
    """Segments of the weights, which lie packed tile by tile with their parameters, or of a second activation."""
    if layer.dynamic_second:
        base = block.group * layer.k * layer.n + block.n0
        return joined([(base + k * layer.n, block.n1 - block.n0) for k in range(k0, k1)])
    parameters = block.columns * layer.parameter_bytes if k0 == 0 else 0
    return [(0, (k1 - k0) * block.columns + parameters)]


def output(layer: Layer, block: Block) -> list[Segment]:
    """Segments of an output block: [images, channels, pixels] for feature maps, else rows of n elements."""
    size, image = layer.output_bytes, layer.image
    if image is None:
        starts = [(block.group * layer.m + row) * layer.n + block.n0 for row in range(block.m0, block.m1)]
        return joined([(start * size, block.columns * size) for start in starts])
    segments = []
    for number, first, last in _images(image, block):
        base = number * layer.groups * layer.n + block.group * layer.n + block.n0
        planes = [(base + column) * image.pixels + first for column in range(block.columns)]
        segments += joined([(start * size, (last - first) * size) for start in planes])
    return segments


# ------------------------------------------------------------------------------------------------ engines, section 5.1


@dataclass
class Channel:
    """One direction of the DMA: busy for the beats of a command, its data complete one latency later."""

    machine: Machine
    free: int = 0
    moved: int = 0
    useful: int = 0

    def transfer(self, segments: Sequence[Segment], request: int) -> int:
        """Move some segments, requested at a time; returns when the data is complete."""
        moved = moved_bytes(segments, self.machine.burst)
        self.free = max(self.free, request) + ceiling(moved, self.machine.bytes_per_cycle)
        self.moved += moved
        self.useful += useful_bytes(segments)
        return self.free + self.machine.dram_latency


@dataclass(frozen=True)
class Outcome:
    """What a layer takes: cycles, cycles by class, events of section 6 and bytes."""

    cycles: int
    classes: Counter[str]
    events: Counter[str]


@dataclass
class Engines:
    """LOAD, ARRAY, REQUANT and STORE of one layer, each in order, held together by tokens (section 5.1)."""

    machine: Machine
    layer: Layer
    span: Span | None = None
    chunk_ends: list[int] = field(default_factory=list)
    requantised: list[int] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    waiting: tuple[Block, int] | None = None
    tiles: int = 0
    fills: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        array = OutputArray if self.machine.dataflow == "os" else StationaryArray
        self.array: StationaryArray | OutputArray = array(self.machine)
        self.loads, self.stores = Channel(self.machine), Channel(self.machine)

    def run(self) -> Outcome:
        """Run all blocks, then tell cycles, classes and events."""
        for number, block in enumerate(blocks(self.machine, self.layer)):
            if self.machine.acc_banks == 1:
                self._requantise()
            banked = _token(self.requantised, number, self.machine.acc_banks)
            for chunk in cut(self.layer.k, self.layer.chunk_k):
                self._chunk(block, chunk, banked)
            self.waiting = block, len(self.array.placed) - 1
        self._requantise()
        return Outcome(self.stored[-1], self._classes(), self._events())

    def _chunk(self, block: Block, chunk: Segment, banked: int) -> None:
        """Load what one k chunk needs, issue its tiles, free its operand buffer."""
        first, second = self._load(block, chunk)
        banked = banked if chunk[0] == 0 else 0
        for tile in self._tiles(block, chunk, first, second, banked):
            self.array.issue(tile)
            if self.waiting is not None:
                self._requantise()
        self.chunk_ends.append(self.array.issue_end)

    def _load(self, block: Block, chunk: Segment) -> tuple[int, int]:
        """Request both operands, the stationary one (OS: the weights) first; returns when each is complete."""
        free = _token(self.chunk_ends, len(self.chunk_ends), self.machine.operand_buffers)
        outer_kept = self.layer.chunk_k >= self.layer.k and not block.new_outer
        inner_kept = self.layer.resident and not block.first_pass
        ready = {"first": 0, "second": 0}
        outside = "first" if self.layer.outer == "m" else "second"
        for name in ("first", "second") if self.machine.dataflow == "is" else ("second", "first"):
            kept = outer_kept if name == outside else inner_kept
            if not kept:
                segments = (
                    first_operand(self.layer, block, *chunk, self.span)
                    if name == "first"
                    else second_operand(self.layer, block, *chunk)
                )
                self.fills[name] += useful_bytes(segments)
                ready[name] = self.loads.transfer(segments, free)
        return ready["first"], ready["second"]

    def _tiles(self, block: Block, chunk: Segment, first: int, second: int, banked: int) -> Iterator[Tile]:
        if self.machine.dataflow == "os":
            return self._output_tiles(block, chunk, max(first, second), banked)
        return self._stationary_tiles(block, chunk, first, second, banked)

    def _output_tiles(self, block: Block, chunk: Segment, loaded: int, banked: int) -> Iterator[Tile]:
        """Row tiles of a block; a chunk that is not the first continues the tile."""
        depth = (chunk[1] - chunk[0]) * block.packed
        for low, high in cut(block.rows, self.machine.rows):
            cycles = self.machine.gather(high - low)
            opens = chunk[0] == 0
            self.tiles += opens
            whole = self.layer.k * block.packed * cycles
            yield Tile(depth * cycles, loaded=loaded, banked=banked, opens=opens, depth=whole, slots=cycles)

    def _stationary_tiles(self, block: Block, chunk: Segment, first: int, second: int, banked: int) -> Iterator[Tile]:
        """Folds of a chunk; IS exchanges the operands."""
        swap = self.machine.dataflow == "is"
        streamed, held = (block.lanes, block.rows) if swap else (block.rows, block.lanes)
        ready_w, loaded = (first, second) if swap else (second, first)
        for low, high in cut((chunk[1] - chunk[0]) * block.packed, self.machine.rows):
            steps = streamed * (1 if swap else self.machine.gather(high - low))
            push = self.machine.push_steps(high - low) * (self.machine.gather(held) if swap else 1)
            self.tiles += 1
            yield Tile(steps, push, ready_w, loaded, banked, accumulates=chunk[0] + low > 0)

    def _requantise(self) -> None:
        """Q_i and St_i of the block that waits for them."""
        if self.waiting is None:
            return
        block, last_tile = self.waiting
        self.waiting = None
        number = len(self.requantised)
        start = max(
            _token(self.requantised, number, 1),
            self.array.commit(last_tile),
            _token(self.stored, number, self.machine.output_buffers),
        )
        swap = self.machine.dataflow == "is"
        rows, columns = (block.lanes, block.rows) if swap else (block.rows, block.lanes)
        end = start + rows * ceiling(columns, self.machine.requant_lanes) + self.machine.requant_latency
        self.requantised.append(end)
        self.stored.append(self.stores.transfer(output(self.layer, block), end))

    def _classes(self) -> Counter[str]:
        """Classes of the array, then what follows its tail."""
        counts = self.array.classes()
        for cycle in range(self.array.total, self.stored[-1]):
            counts["requant" if cycle < self.requantised[-1] else "store"] += 1
        return counts

    def _events(self) -> Counter[str]:
        counts = event_counts(self.machine, self.layer)
        counts["tiles"] = self.tiles
        counts["activation_fill_bytes"], counts["weight_fill_bytes"] = self.fills["first"], self.fills["second"]
        counts["dram_read_bytes"], counts["useful_read_bytes"] = self.loads.moved, self.loads.useful
        counts["dram_write_bytes"], counts["useful_write_bytes"] = self.stores.moved, self.stores.useful
        return counts


def _token(times: Sequence[int], number: int, buffers: int) -> int:
    """When the buffer of command `number` was given back by command `number - buffers`; 0 when it was never used."""
    return times[number - buffers] if number >= buffers else 0


def simulate(machine: Machine, layer: Layer, span: Span | None = None) -> Outcome:
    """Run one layer; `span` tells which range of a plane is loaded for output pixels first..last-1 of an image."""
    return Engines(machine, layer, span).run()


# -------------------------------------------------------------------------------------- layers without array, 5.3, 5.7


@dataclass(frozen=True)
class Stream:
    """A vector or DMA layer, cut into blocks; bytes are those on the bus."""

    blocks: int
    read_bytes: int
    write_bytes: int
    lane_operations: int
    lanes: int
    latency: int

    def share(self, total: int, block: int) -> int:
        """Deal the units of a total out to the blocks, one after the other; returns what one block gets."""
        return len(range(block, total, self.blocks))


@dataclass(frozen=True)
class StreamBlock:
    """When the operand of a block is there, when its output buffer is free, when it is worked on."""

    loaded: int
    unblocked: int
    start: int
    end: int


def simulate_stream(machine: Machine, stream: Stream) -> Outcome:
    """Run LOAD, VECTOR and STORE over the blocks."""
    exact = replace(machine, burst=1)
    loads, stores = Channel(exact), Channel(exact)
    placed: list[StreamBlock] = []
    ends, stored = [], []
    for block in range(stream.blocks):
        read, write, work = (
            stream.share(total, block) for total in (stream.read_bytes, stream.write_bytes, stream.lane_operations)
        )
        complete = loads.transfer([(0, read)], _token(ends, block, machine.operand_buffers))
        loaded = complete if read else 0
        unblocked = _token(stored, block, machine.output_buffers)
        start = max(_token(ends, block, 1), loaded, unblocked)
        end = start + (ceiling(work, stream.lanes) + stream.latency if work else 0)
        placed.append(StreamBlock(loaded, unblocked, start, end))
        ends.append(end)
        complete = stores.transfer([(0, write)], end)
        stored.append(complete if write else stores.free)
    total = max(stored)
    return Outcome(total, _stream_classes(placed, total), Counter())


def _stream_classes(placed: Sequence[StreamBlock], total: int) -> Counter[str]:
    """Walk over the cycles: a wait is the store's as long as the output buffer is taken, then the load's."""
    counts: Counter[str] = Counter()
    index = 0
    for cycle in range(total):
        while index < len(placed) and cycle >= placed[index].end:
            index += 1
        if index == len(placed):
            counts["store"] += 1
        elif cycle >= placed[index].start:
            counts["vector"] += 1
        elif cycle < placed[index].unblocked:
            counts["wait_store"] += 1
        elif cycle < placed[index].loaded:
            counts["wait_load"] += 1
        else:
            raise AssertionError(f"nothing explains the idle cycle {cycle} before {placed[index]}")
    return counts


# ------------------------------------------------------------------------------------------------- events, section 6


def event_counts(machine: Machine, layer: Layer) -> Counter[str]:
    """Rows 1 to 8 of the table, summed over groups; packing changes no count except those of the chain of weights."""
    per_group = _output_counts(machine, layer) if machine.dataflow == "os" else _stationary_counts(machine, layer)
    counts = Counter({name: count * layer.groups for name, count in per_group.items()})
    for packed, times in Counter(min(layer.pack, layer.groups - g) for g in range(0, layer.groups, layer.pack)).items():
        for name, count in _packed_counts(machine, layer, packed).items():
            counts[name] += count * times
    return counts


def features(layer: Layer) -> int:
    """Output features of a group, and one more per block where it sums up the activations."""
    return layer.n + layer.row_sums * ceiling(layer.n, layer.block_n)


def _stationary_counts(machine: Machine, layer: Layer) -> dict[str, int]:
    """WS, and IS with exchanged roles (T = N, N = M, x and w swapped)."""
    swap = machine.dataflow == "is"
    streamed, width = (features(layer), layer.m) if swap else (layer.m, features(layer))
    blocks_m, blocks_n = ceiling(layer.m, layer.block_m), ceiling(layer.n, layer.block_n)
    stream_blocks, column_blocks = (blocks_n, blocks_m) if swap else (blocks_m, blocks_n)
    folds, depth = ceiling(layer.k, machine.rows), layer.k
    moving, held = streamed * depth * column_blocks, stream_blocks * depth * width
    return {
        "macs": streamed * depth * width,
        "activation_reads": held if swap else moving,
        "weight_reads": moving if swap else held,
        "bias_reads": streamed * width,
        "acc_reads": streamed * width * (folds - 1),
        "acc_writes": streamed * width * folds,
        "requant_elements": layer.m * layer.n,
        "operand_register_writes": streamed * depth * width,
        "sum_register_writes": streamed * folds * machine.rows * width,
    }


def _output_counts(machine: Machine, layer: Layer) -> dict[str, int]:
    """OS; nM counts the row tiles, which is ceil(M / R) when blocks are whole tiles."""
    row_tiles = sum(ceiling(high - low, machine.rows) for low, high in cut(layer.m, layer.block_m))
    width = features(layer)
    macs = layer.m * layer.k * width
    return {
        "macs": macs,
        "activation_reads": layer.m * layer.k * ceiling(layer.n, layer.block_n),
        "weight_reads": layer.k * width * row_tiles,
        "bias_reads": width * row_tiles,
        "acc_writes": layer.m * width,
        "requant_elements": layer.m * layer.n,
        "operand_register_writes": 2 * macs,
        "sum_register_writes": macs + row_tiles * width * machine.rows * (machine.rows + 1) // 2,
    }


def _packed_counts(machine: Machine, layer: Layer, packed: int) -> dict[str, int]:
    """Writes of the weight shift chain: Nt * Kt * (Kt + 1) / 2 per tile."""
    if machine.dataflow == "os":
        return {}
    swap = machine.dataflow == "is"
    loads = ceiling(layer.n, layer.block_n) if swap else ceiling(layer.m, layer.block_m)
    width = layer.m if swap else features(layer) * packed
    depths = [high - low for low, high in cut(layer.k * packed, machine.rows)]
    return {"weight_register_writes": loads * sum(width * depth * (depth + 1) // 2 for depth in depths)}
