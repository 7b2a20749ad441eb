"""Writes the tables of docs/scalesim.md between their markers: our cycles against SCALE-Sim's, layer by layer."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import accelsim

PAGE = Path(__file__).resolve().parent / "scalesim.md"
SIDE = 32

# (M, K, N) of each layer as a product (contract 4.5), images of 224 x 224; how often the network has it.
RESNET18 = (
    ("conv1 7x7/2", (12544, 147, 64), 1),
    ("layer1 3x3", (3136, 576, 64), 4),
    ("layer2 3x3/2", (784, 576, 128), 1),
    ("layer2 1x1/2", (784, 64, 128), 1),
    ("layer2 3x3", (784, 1152, 128), 3),
    ("layer3 3x3/2", (196, 1152, 256), 1),
    ("layer3 1x1/2", (196, 128, 256), 1),
    ("layer3 3x3", (196, 2304, 256), 3),
    ("layer4 3x3/2", (49, 2304, 512), 1),
    ("layer4 1x1/2", (49, 256, 512), 1),
    ("layer4 3x3", (49, 4608, 512), 3),
    ("fc", (1, 512, 1000), 1),
)
MOBILENET = (
    ("conv1 3x3/2", (12544, 27, 32), 1),
    ("pw1", (12544, 32, 64), 1),
    ("pw2", (3136, 64, 128), 1),
    ("pw3", (3136, 128, 128), 1),
    ("pw4", (784, 128, 256), 1),
    ("pw5", (784, 256, 256), 1),
    ("pw6", (196, 256, 512), 1),
    ("pw7 to 11", (196, 512, 512), 5),
    ("pw12", (49, 512, 1024), 1),
    ("pw13", (49, 1024, 1024), 1),
    ("fc", (1, 1024, 1000), 1),
)
# Output pixels and channels of MobileNet's 3x3 depthwise layers.
DEPTHWISE = (
    ("dw1", 12544, 32, 1), ("dw2", 3136, 64, 1), ("dw3", 3136, 128, 1), ("dw4", 784, 128, 1), ("dw5", 784, 256, 1),
    ("dw6", 196, 256, 1), ("dw7 to 11", 196, 512, 5), ("dw12", 49, 512, 1), ("dw13", 49, 1024, 1),
)  # fmt: skip
TAPS = 9

# One difference after the other, from SCALE-Sim's machine to ours.
STEPS = (
    ("`flush`, full load, acc_rows >= T", {"flush_between_tiles": True, "weight_load": "full", "acc_rows": 1 << 20}),
    ("no flush, nothing overlapped", {"weight_double_buffer": False, "drain_overlap": False, "weight_load": "full",
                                      "acc_rows": 1 << 20}),
    ("weights double-buffered, drain overlapped", {"weight_load": "full", "acc_rows": 1 << 20}),
    ("only used rows are loaded", {"acc_rows": 1 << 20}),
    ("acc_rows 512: the defaults", {}),
)  # fmt: skip
LADDER = (("conv1, K = 27", (12544, 27, 32)), ("layer4 3x3", (49, 4608, 512)), ("fc", (1, 512, 1000)))


def machine(dataflow: str, **options: object) -> accelsim.Arch:
    """Return the array of the tables."""
    return accelsim.Arch(array=(SIDE, SIDE), dataflow=dataflow, **options)


def cells(numbers: list[int]) -> str:
    """Return numbers as cells of a table."""
    return " | ".join(f"{number:,}" for number in numbers)


def network_table(layers: tuple[tuple[str, tuple[int, int, int], int], ...]) -> list[str]:
    """Return one row per layer, and the sum over the network."""
    lines = [
        "| layer | M, K, N | times | ideal | ours WS | SCALE-Sim WS | ours OS | SCALE-Sim OS | OS, paper | ours IS "
        "| SCALE-Sim IS |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    sums = [0] * 8
    for name, shape, times in layers:
        m, k, n = shape
        row = [-(-m * k * n // SIDE**2)]
        for dataflow, timings in (("ws", ("native", "scalesim")), ("os", ("native", "scalesim", "scalesim-paper")),
                                  ("is", ("native", "scalesim"))):  # fmt: skip
            row += [accelsim.gemm_timing(*shape, machine(dataflow), timing=timing).cycles for timing in timings]
        sums = [total + times * cycles for total, cycles in zip(sums, row, strict=True)]
        lines.append(f"| {name} | {m}, {k}, {n} | {times} | {cells(row)} |")
    return [*lines, f"| all | | | {cells(sums)} |"]


def depthwise_table() -> list[str]:
    """Return one row per depthwise layer: WS, channel by channel as SCALE-Sim does, and packed (contract 4.6).

    A tile takes as long whatever it uses of its columns, so n tiles of one fold are a product with N = n C.
    """
    arch = machine("ws")
    packed = min(SIDE // TAPS, SIDE)
    lines = [
        f"| layer | pixels, channels | times | ours, {packed} channels per tile | ours, 1 per tile | SCALE-Sim |",
        "|---|---|---:|---:|---:|---:|",
    ]
    sums = [0] * 3
    for name, pixels, channels, times in DEPTHWISE:
        tiles = -(-channels // packed)
        row = [
            accelsim.gemm_timing(pixels, TAPS * packed, tiles * SIDE, arch).cycles,
            accelsim.gemm_timing(pixels, TAPS, channels * SIDE, arch).cycles,
            channels * accelsim.gemm_timing(pixels, TAPS, 1, arch, timing="scalesim").cycles,
        ]
        sums = [total + times * cycles for total, cycles in zip(sums, row, strict=True)]
        lines.append(f"| {name} | {pixels}, {channels} | {times} | {cells(row)} |")
    return [*lines, f"| all | | | {cells(sums)} |"]


def ladder_table() -> list[str]:
    """Return the way from SCALE-Sim's report to our cycles, one difference per row."""
    columns = [(name, shape, dataflow) for name, shape in LADDER for dataflow in ("ws", "os")]
    lines = [
        "| | " + " | ".join(f"{name} {dataflow.upper()}" for name, _, dataflow in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]

    def row(label: str, cycles: list[int]) -> None:
        lines.append(f"| {label} | {cells(cycles)} |")

    def timed(timing: str, **options: object) -> list[accelsim.GemmTiming]:
        return [
            accelsim.gemm_timing(*shape, machine(dataflow, **options), timing=timing) for _, shape, dataflow in columns
        ]

    row("SCALE-Sim 3.0.0 reports", [result.cycles for result in timed("scalesim")])
    row("+ 1, the number of its cycles", [result.cycles + 1 for result in timed("scalesim")])
    row("+ R per fold on OS, its paper", [result.cycles for result in timed("scalesim-paper")])
    row("+ 2 per fold, SRAM read and write", [result.cycles + 2 * result.tiles for result in timed("scalesim-paper")])
    for label, options in STEPS:
        row(label, [result.cycles for result in timed("native", **options)])
    return lines


def page(text: str) -> str:
    """Return a page with its tables rewritten."""
    tables = {
        "resnet18": network_table(RESNET18),
        "mobilenet": network_table(MOBILENET),
        "depthwise": depthwise_table(),
        "ladder": ladder_table(),
    }
    for name, lines in tables.items():
        block = f"<!-- table: {name} -->\n" + "\n".join(lines) + "\n<!-- end -->"
        text, found = re.subn(rf"<!-- table: {name} -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"{PAGE.name} has no place for the table {name}")
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    sys.stdout.write(f"wrote {PAGE.name}\n")
