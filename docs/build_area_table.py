"""Writes accel/data/area/pe.csv: gates of one processing element against the width of its accumulator, by yosys.

    python docs/build_area_table.py

synthesises tests/rtl/pe.sv (`synth -noalumacc -flatten`: adders stay ripple-carry logic, so that widths compare) with
9-bit activations, 8-bit weights, and its overflow behaviour tied to one of the two. The counts are of yosys' generic
gates, without a cell library, placement or timing: they are worth something only relative to each other.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RTL = ROOT / "tests" / "rtl"
TABLE = ROOT / "accel" / "data" / "area" / "pe.csv"
WIDTHS = (8, 12, 16, 20, 24, 28, 32, 40, 48, 64)
OVERFLOWS = ("wrap", "saturate")
HEADER = "accumulator_bits,overflow,cells,flip_flops"

# The bench chooses width and overflow behaviour at run time; a machine has one of each, so that both are constants.
TOP = """
module top (input clk, input output_stationary, input [7:0] token_in, input a_live_in, input signed [8:0] a_in,
  input signed [7:0] w_in, input signed [{top}:0] v_in, output [7:0] token_out, output a_live_out,
  output signed [8:0] a_out, output signed [7:0] w_out, output signed [{top}:0] v_out, output multiplies);
  pe #(.A_W(9), .W_W(8), .V_W({bits})) unit (.clk(clk), .output_stationary(output_stationary), .saturate({saturate}),
    .maximum({{1'b0, {{{top}{{1'b1}}}}}}), .token_in(token_in), .a_live_in(a_live_in), .a_in(a_in), .w_in(w_in),
    .v_in(v_in), .token_out(token_out), .a_live_out(a_live_out), .a_out(a_out), .w_out(w_out), .v_out(v_out),
    .multiplies(multiplies));
endmodule
"""


def script(top: Path) -> str:
    """Return the commands that synthesise a top module."""
    files = f"{RTL / 'narrow.sv'} {RTL / 'pe.sv'} {top}"
    return f"read_verilog -sv -I{RTL} {files}; synth -noalumacc -flatten -top top; stat"


def counts(report: str) -> tuple[int, int]:
    """Return cells and flip-flops of the last statistics of a yosys report.

    Args:
        report: what `stat` printed.
    """
    last = report.rpartition("Number of cells:")[2]
    total = re.match(r"\s*([0-9]+)", last)
    kinds = re.findall(r"^\s+(\$_\w+_)\s+([0-9]+)\s*$", last, re.MULTILINE)
    if total is None or not kinds:
        raise ValueError("no statistics in the report of yosys")
    if sum(int(count) for _, count in kinds) != int(total.group(1)):
        raise ValueError("the cells of the report do not add up")
    flip_flops = sum(int(count) for kind, count in kinds if "DFF" in kind)
    return int(total.group(1)), flip_flops


def synthesise(bits: int, overflow: str, folder: Path) -> tuple[int, int]:
    """Return cells and flip-flops of one processing element.

    Args:
        bits: width of the accumulator.
        overflow: "wrap" or "saturate".
        folder: for the top module.
    """
    top = folder / f"top_{bits}_{overflow}.sv"
    top.write_text(TOP.format(bits=bits, top=bits - 1, saturate=f"1'b{int(overflow == 'saturate')}"), "utf-8")
    command = ["yosys", "-p", script(top)]
    report = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    return counts(report.stdout)


def table(folder: Path) -> str:
    """Return the whole table."""
    rows = [HEADER]
    for overflow in OVERFLOWS:
        for bits in WIDTHS:
            cells, flip_flops = synthesise(bits, overflow, folder)
            rows.append(f"{bits},{overflow},{cells},{flip_flops}")
            sys.stderr.write(f"{rows[-1]}\n")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        TABLE.write_text(table(Path(name)), "utf-8")
