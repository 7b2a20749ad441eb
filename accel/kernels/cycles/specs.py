"""What the timing kernels read and fill: machine and loops as tuples of integers, cycle classes, event counters."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

WS, OS, IS = 0, 1, 2


class Cycle(IntEnum):
    """Where the kernels count the cycles of a class; the name is the key of the class."""

    STREAM = 0
    PUSH = 1
    SHIFT = 2
    FLUSH = 3
    WAIT_W = 4
    HAZARD = 5
    WAIT_X_LOAD = 6
    WAIT_X_BANK = 7
    TAIL = 8
    REQUANT = 9
    VECTOR = 10
    WAIT_LOAD = 11
    WAIT_STORE = 12
    STORE = 13


class Event(IntEnum):
    """Where the kernels count an event; the name is the key of the count."""

    TILES = 0
    MACS = 1
    ACTIVATION_READS = 2
    WEIGHT_READS = 3
    BIAS_READS = 4
    ACC_READS = 5
    ACC_WRITES = 6
    REQUANT_ELEMENTS = 7
    OPERAND_REGISTER_WRITES = 8
    SUM_REGISTER_WRITES = 9
    WEIGHT_REGISTER_WRITES = 10
    ACTIVATION_FILL_BYTES = 11
    WEIGHT_FILL_BYTES = 12
    DRAM_READ_BYTES = 13
    DRAM_WRITE_BYTES = 14
    USEFUL_READ_BYTES = 15
    USEFUL_WRITE_BYTES = 16
    DRAM_ROW_MISSES = 17


CLASSES = tuple(kind.name.lower() for kind in Cycle)
EVENTS = tuple(kind.name.lower() for kind in Event)


class ArraySpec(NamedTuple):
    """The machine as the recurrence sees it (timing contract, section 9); flags are 0 or 1."""

    rows: int
    cols: int
    dataflow: int
    double_buffer: int
    drain_overlap: int
    flush: int
    full_load: int
    gather_words: int
    acc_banks: int
    operand_buffers: int
    output_buffers: int
    requant_lanes: int
    requant_latency: int
    bytes_per_cycle: int
    dram_latency: int
    burst: int
    shared_channel: int = 0
    row_bytes: int = 0
    row_miss: int = 0
    banks: int = 1


class BoundarySpec(NamedTuple):
    """What a layer finds and what it loads for a later one (contract 5.6), and where its tensors lie.

    busy: cycles for which LOAD and its channel still are; weights_ready: cycle from which the second operand of the
    first chunk is there, -1 where it must be loaded; fetch_bytes: whole bursts to load for a later layer, 0: none;
    fetch_waits: not before the issue end of the last chunk; fetch_address, first_base, second_base, output_base: first
    bytes in DRAM, for the row model.
    """

    busy: int = 0
    weights_ready: int = -1
    fetch_bytes: int = 0
    fetch_waits: int = 0
    fetch_address: int = 0
    first_base: int = 0
    second_base: int = 0
    output_base: int = 0


class LoopSpec(NamedTuple):
    """One contraction and its blocking: m, k, n per group; sizes of blocks; how operands lie in memory.

    block_m, block_n: extents of one output block (for OS several tiles of R rows); chunk_k: depth of one operand load;
    pack: groups per tile; resident: the operand of the inner loop stays in its scratchpad for the whole group; image:
    the first operand is a feature map [images, channels, height, width] gathered by im2col, else rows of k elements;
    preload: the first operand is loaded whole, once per group, before its first block; insert_h, insert_w:
    distance of the map's pixels once zeros are inserted between them (the zeros are not in memory); row_sums:
    features beside those of every block and group that sum up the activations, computed like any other but neither
    loaded nor stored; first_bits, second_bits, output_bits: widths of activations packed below a byte, each row or
    plane from a byte on; 0: unpacked; outer_n: the outer one of the two block loops runs over n; kept_first,
    kept_output: the first operand is in its scratchpad already, the result stays there.
    """

    m: int
    k: int
    n: int
    groups: int
    pack: int
    block_m: int
    block_n: int
    chunk_k: int
    resident: int
    image: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    dynamic_second: int  # 1: an activation, row by row; 2: column by column
    output_bytes: int
    parameter_bytes: int
    input_bytes: int = 1
    weight_bits: int = 8
    preload: int = 0
    insert_h: int = 1
    insert_w: int = 1
    row_sums: int = 0
    first_bits: int = 0
    second_bits: int = 0
    output_bits: int = 0
    outer_n: int = 1
    kept_first: int = 0
    kept_output: int = 0


class StreamSpec(NamedTuple):
    """A layer without the array: blocks that are loaded, processed and stored; bytes already rounded to bursts."""

    blocks: int
    read_bytes: int
    write_bytes: int
    lane_operations: int
    lanes: int
    latency: int
    operand_buffers: int
    output_buffers: int
    bytes_per_cycle: int
    dram_latency: int
    shared_channel: int = 0
    row_bytes: int = 0
    row_miss: int = 0
    banks: int = 1
