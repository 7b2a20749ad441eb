"""The command `gemm`: one matrix product on the array alone, with the formula of its cycles filled in."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli.groups import in_order, takes_groups
from accelsim.cli.options import Debug, Json, MachineOfTimes
from accelsim.errors import ExitCode, UsageError, nearest, printable
from accelsim.results.cycle_classes import cycle_class

if TYPE_CHECKING:
    from accelsim.machine.arch import Arch
    from accelsim.timing.gemm import GemmTiming

RowsOfC = Annotated[int, typer.Argument(metavar="M", help="Rows of C[M, N] = bias[N] + A[M, K] B[K, N].")]
Depth = Annotated[int, typer.Argument(metavar="K", help="Depth of the sums.")]
ColumnsOfC = Annotated[int, typer.Argument(metavar="N", help="Columns of C.")]
Timing = Annotated[
    str,
    typer.Option(
        "--timing",
        metavar="native|scalesim|scalesim-paper",
        help="The timing contract, what SCALE-Sim 3.0.0 reports, or the formula of its paper.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="recurrence|stepper",
        help="The recurrence, or every PE in every cycle on random operands (small products).",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the stepper's operands.", min=0)]

ENGINES = ("recurrence", "stepper")


def native_only(timing: str) -> str:
    """Refuse SCALE-Sim's timings for a whole model.

    Raises:
        UsageError: the timing is not `native`.
    """
    if timing.lower() != "native":
        raise UsageError(
            f"--timing {printable(timing)}: a model is timed by the contract alone; scalesim and scalesim-paper "
            f"count one matrix product on an array that never waits: use accel-sim gemm M K N --timing"
        )
    return "native"


ModelTiming = Annotated[str, typer.Option("--timing", hidden=True, callback=native_only)]


@in_order("array", "dataflow", "timing", "arch", "settings")
@takes_groups
def gemm(
    m: RowsOfC,
    k: Depth,
    n: ColumnsOfC,
    *,
    machine: MachineOfTimes,
    timing: Timing = "native",
    engine: Engine = "recurrence",
    seed: Seed = 0,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Time one matrix product on the array alone, all operands in their scratchpads."""
    from accelsim.timing.gemm import gemm_timing

    arch = machine.build()
    result = gemm_timing(m, k, n, arch, timing=timing)
    differences = _step(result, arch, engine, seed)
    sys.stdout.write((_json if json_output else _text)(result, arch, engine.lower(), differences))
    if differences:
        raise typer.Exit(ExitCode.MISMATCH)


def _step(result: GemmTiming, machine: Arch, engine: str, seed: int) -> list[str]:
    """Execute the product register by register, if so asked; returns in what it differs.

    Raises:
        UsageError: the engine is unknown, or does not execute this timing.
    """
    word = engine.lower()
    if word not in ENGINES:
        raise UsageError(f"unknown engine '{printable(engine)}' ({nearest(word, ENGINES)})")
    if word == "recurrence":
        return []
    if result.timing != "native":
        raise UsageError(f"--engine stepper executes the timing contract: leave --timing {result.timing} out")
    from accelsim.timing.registers import compare_with, random_operands

    operands = random_operands(result.m, result.k, result.n, seed)
    return compare_with(operands, machine, result.cycles, result.classes, result.events)


def _json(result: GemmTiming, machine: Arch, engine: str, differences: list[str]) -> str:
    """Return everything for a script."""
    table = {
        "m": result.m,
        "k": result.k,
        "n": result.n,
        "array": [machine.rows, machine.cols],
        "dataflow": machine.dataflow,
        "timing": result.timing,
        "cycles": result.cycles,
        "cycle_classes": dict(result.classes),
        "tiles": result.tiles,
        "events": dict(result.events),
        "utilisation": result.utilisation,
        "formula": formula(result, machine),
        "engine": engine,
        "differences": differences,
    }
    return json.dumps(table, indent=2, allow_nan=False) + "\n"


def _text(result: GemmTiming, machine: Arch, engine: str, differences: list[str]) -> str:
    """Return the lines for a person."""
    reading = {
        "native": "timing contract",
        "scalesim": "as SCALE-Sim 3.0.0 reports",
        "scalesim-paper": "SCALE-Sim paper",
    }
    lines = [
        f"GEMM M={result.m} K={result.k} N={result.n} on {machine.rows}x{machine.cols}, "
        f"{machine.dataflow.upper()}, {result.timing} ({reading[result.timing]})",
        f"  cycles       {result.cycles:,}",
        f"  utilisation  {result.utilisation:.1%} of {machine.rows * machine.cols:,} MACs per cycle",
        f"  tiles        {result.tiles:,}",
        f"  formula      {formula(result, machine)}",
        "  cycle classes",
    ]
    width = len(f"{result.cycles:,}")
    for name, cycles in result.classes:
        share = cycles / max(result.cycles, 1)
        lines.append(f"    {name:<8} {cycles:>{width},}  {share:6.1%}  {cycle_class(name).name}")
    lines.append("  events")
    width = max(len(f"{count:,}") for _, count in result.events)
    lines += [f"    {name:<16} {count:>{width},}" for name, count in result.events]
    if engine == "stepper":
        equal = "equal in accumulators, cycles, classes and events"
        verdict = f"differs in {', '.join(differences)}" if differences else equal
        lines.append(f"  stepper      every PE in every cycle, random operands: {verdict}")
    return "\n".join(lines) + "\n"


def formula(result: GemmTiming, machine: Arch) -> str:
    """Return the sum that gives the cycles, with the numbers of this product.

    Args:
        result: the timing.
        machine: the machine that it was computed for.
    """
    if result.timing != "native":
        return _scalesim_formula(result, machine)
    if machine.dataflow == "os":
        return _output_stationary_formula(result, machine)
    return _stationary_formula(result, machine)


def _scalesim_formula(result: GemmTiming, machine: Arch) -> str:
    """Return folds * (cycles per fold)."""
    from accelsim.timing.gemm import mapped_extents, scalesim_fold, tile_counts

    *_, streamed = mapped_extents(result.m, result.k, result.n, machine)
    *folds, _ = tile_counts(result.m, result.k, result.n, machine, blocked=False)
    axes = {"ws": ("K", "N", "M"), "os": ("M", "N", "K"), "is": ("K", "M", "N")}[machine.dataflow]
    rows, cols = machine.rows, machine.cols
    short = machine.dataflow == "os" and result.timing == "scalesim"
    loads = ("R", f"{rows}") if short else ("2R", f"2*{rows}")
    per_fold = sum(cycles for _, cycles in scalesim_fold(streamed, machine, result.timing))
    less = " - 1" if result.timing == "scalesim" else ""
    return (
        f"ceil({axes[0]}/R) ceil({axes[1]}/C) ({loads[0]} + C + {axes[2]} - 2){less} = "
        f"{folds[0]} * {folds[1]} * ({loads[1]} + {cols} + {streamed} - 2 = {per_fold}){less} = {result.cycles:,}"
    )


def _output_stationary_formula(result: GemmTiming, machine: Arch) -> str:
    """Return contract 4.2 with numbers; a gather takes several issue cycles per step and has no single K."""
    tiles, rows, cols = result.tiles, machine.rows, machine.cols
    total = f"= {result.cycles:,}"
    if machine.gather_cycles(rows) > 1:
        return _sum_of_classes(result)
    if machine.flush_between_tiles:
        return f"tiles (K + 2R + C) = {tiles} * ({result.k} + 2*{rows} + {cols}) {total}"
    if not machine.drain_overlap:
        return f"tiles (K + R) + R + C = {tiles} * ({result.k} + {rows}) + {rows} + {cols} {total}"
    return (
        f"(tiles - 1) max(K, R+1) + K + 2R + C = "
        f"{tiles - 1} * max({result.k}, {rows + 1}) + {result.k} + 2*{rows} + {cols} {total}"
    )


def _stationary_formula(result: GemmTiming, machine: Arch) -> str:
    """Return contract 4.1 with numbers: the closed form where it holds, else the sum of the classes."""
    if machine.x_gather_words_per_cycle is not None:
        return _sum_of_classes(result)
    rows, cols = machine.rows, machine.cols
    streamed = result.n if machine.dataflow == "is" else result.m
    name = "Nt" if machine.dataflow == "is" else "Mt"
    depth, steps = min(rows, result.k), min(machine.acc_rows, streamed)
    load, load_name = (rows, "R") if machine.weight_load == "full" else (depth, "Kt")
    hazard = rows + 2 if result.k > rows else 0
    words, numbers, interval = _interval(machine, (name, steps), (load_name, load), hazard)
    closed = load + (result.tiles - 1) * interval + steps + rows + cols
    if closed != result.cycles:
        return f"{_sum_of_classes(result)}; between full tiles {words} = {numbers} = {interval}"
    if result.tiles == 1:
        return f"{load_name} + {name} + R + C = {load} + {steps} + {rows} + {cols} = {result.cycles:,}"
    return (
        f"{load_name} + (tiles - 1) {words} + {name} + R + C = "
        f"{load} + {result.tiles - 1} * {numbers} + {steps} + {rows} + {cols} = {result.cycles:,}"
    )


def _interval(machine: Arch, stream: tuple[str, int], load: tuple[str, int], hazard: int) -> tuple[str, str, int]:
    """Return the steady interval between tiles in words, in numbers and in cycles (contract, section 4.1)."""
    (name, steps), (load_name, cycles) = stream, load
    rows, cols = machine.rows, machine.cols
    if machine.flush_between_tiles:
        return (
            f"({load_name} + {name} + R + C)",
            f"({cycles} + {steps} + {rows} + {cols})",
            cycles + steps + rows + cols,
        )
    again = (", R+2", f", {hazard}") if hazard else ("", "")
    if machine.weight_double_buffer:
        return f"max({name}, {load_name}{again[0]})", f"max({steps}, {cycles}{again[1]})", max(steps, cycles, hazard)
    words, numbers = f"{name} + {load_name}", f"{steps} + {cycles}"
    if hazard:
        return f"max({words}{again[0]})", f"max({numbers}{again[1]})", max(steps + cycles, hazard)
    return f"({words})", f"({numbers})", steps + cycles


def _sum_of_classes(result: GemmTiming) -> str:
    """Return the cycles as the sum of their classes."""
    return " + ".join(f"{name} {cycles:,}" for name, cycles in result.classes) + f" = {result.cycles:,}"
