"""Faults put into the RTL as textual patches: each is something that one can get wrong when reading the contract."""

from __future__ import annotations

from dataclasses import dataclass

from tests.rtl import tools


@dataclass(frozen=True)
class Mutant:
    """A patch of one file: `old`, which occurs once, becomes `new`."""

    name: str
    file: str
    old: str
    new: str

    def texts(self) -> dict[str, str]:
        """Return all RTL files, one of them patched."""
        texts = tools.sources()
        assert texts[self.file].count(self.old) == 1, f"{self.name}: the patch does not fit {self.file}"
        return texts | {self.file: texts[self.file].replace(self.old, self.new)}


MUTANTS = (
    Mutant("hazard one cycle short", "engine.sv", "16'(R + 2) +", "16'(R + 1) +"),
    Mutant("hazard without faster folds", "engine.sv", "length_before > length ?", "1'b0 ?"),
    Mutant("masked lanes see the memory", "array.sv", "live ? x_data[r*32+:A_W] : {A_W{1'b0}}", "x_data[r*32+:A_W]"),
    Mutant("bias is not narrowed", "array.sv", "? bias_narrowed", "? bias[V_W-1:0]"),
    Mutant("negative sums wrap at saturation", "narrow.sv", "saturate && exact < lower", "1'b0"),
    Mutant("bank address is not skewed", "machine.sv", ".WIDTH(READ_W), .DEPTH(1)", ".WIDTH(READ_W), .DEPTH(0)"),
    Mutant("first step shifts as well", "engine.sv", "shifts_left != 0 && !first_step", "shifts_left != 0"),
    Mutant("next tile overtakes the drain", "engine.sv", "shifts_left < length", "shifts_left <= length"),
    Mutant(
        "drained sum is lost to a shift", "pe.sv", "if (token_in[LAST]) o", "if (token_in[LAST] && !token_in[SHIFT]) o"
    ),
    Mutant(
        "push does not share the first step", "engine.sv", "stream_tile + 1 && working", "stream_tile + 1 && streaming"
    ),
    Mutant("flush ends one cycle early", "engine.sv", "flush_left <= 16'(R + C)", "flush_left <= 16'(R + C - 1)"),
    Mutant(
        "hazard is booked as a wait",
        "engine.sv",
        "else if (hazard) cycle_class = 7'b0100000",
        "else if (hazard) cycle_class = 7'b1000000",
    ),
    Mutant(
        "requantiser starts at the first column", "machine.sv", "g_column[C-1].ends_block", "g_column[0].ends_block"
    ),
    Mutant(
        "bank is free one block early",
        "requant_unit.sv",
        "array_block < blocks_done + banks",
        "array_block <= blocks_done + banks",
    ),
    Mutant(
        "last column of the map is a pad",
        "im2col.sv",
        "x >= $signed({16'd0, width})",
        "x + 1 >= $signed({16'd0, width})",
    ),
    Mutant(
        "pads read zero",
        "machine.sv",
        "x_pad_arrived[r] ? {{16{pad_value[15]}}, pad_value}",
        "x_pad_arrived[r] ? 32'd0",
    ),
)

LANE_MUTANTS = (
    Mutant(
        "ties of a sum go up",
        "float32.sv",
        "aligned[X_W-25] && (aligned[X_W-24] || |aligned[X_W-26:0])",
        "aligned[X_W-25]",
    ),
    Mutant("ties of the product go up", "float32.sv", "aligned[23] && (aligned[24] || |aligned[22:0])", "aligned[23]"),
    Mutant("ties of the output go up", "float32.sv", "fixed[23] && (fixed[24] || |fixed[22:0])", "fixed[23]"),
    Mutant("negative ties divide upwards", "fixed_point.sv", "(mask >> 1) + 32'(value < 0)", "(mask >> 1)"),
    Mutant("high half is rounded down", "fixed_point.sv", "nudged < 0 ? nudged + 64'sd2147483647 : nudged", "nudged"),
    Mutant("left shift does not saturate", "fixed_point.sv", "above == 0 || above == -1", "1'b1"),
)
