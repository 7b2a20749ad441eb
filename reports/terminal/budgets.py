"""What a test prints when a model breaks its budget: by how much, and the layers and components behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from accelsim.errors import counted, printable
from accelsim.reports.terminal.run_table import energy_text, short_names
from accelsim.results.accumulators import bits_text, needed_text, overflow_events
from accelsim.results.cycle_classes import cycle_class
from accelsim.results.result import LayerResult, Result

# How many layers or components are shown.
_SHOWN = 5


def cycles_text(result: Result, budget: float, tolerance: float) -> str:
    """Return why a budget of cycles is broken.

    Args:
        result: of the run.
        budget: in cycles.
        tolerance: share beyond the budget that would have been let pass.
    """
    over = result.cycles - budget
    head = f"{_subject(result)} takes {result.cycles:,} cycles, {over:,.0f} more than the {budget:,.0f} allowed"
    rows = _layers(result, lambda layer: layer.cycles, lambda layer: f"{layer.cycles:>14,}  {_stall(layer)}")
    shown = _head("them", "in", (layer.cycles for layer in result.layers))
    return "\n".join([head + _share(over, budget, tolerance), shown, *rows])


def energy_budget_text(result: Result, budget_uj: float, tolerance: float) -> str:
    """Return why a budget of energy is broken.

    Args:
        result: of the run.
        budget_uj: in microjoules.
        tolerance: share beyond the budget that would have been let pass.
    """
    used = result.energy_pj * 1e-6
    head = f"{_subject(result)} takes {used:,.6g} uJ, more than the {budget_uj:,.6g} uJ allowed"
    components = sorted(result.energy_components_pj.items(), key=lambda item: -item[1])[:_SHOWN]
    parts = [f"  {name.replace('_', ' '):28} {_part(pj, result.energy_pj)}" for name, pj in components]
    rows = _layers(result, _energy, lambda layer: _part(_energy(layer), result.energy_pj))
    by_component = _head("it", "by component", result.energy_components_pj.values())
    lines = [head + _share(used - budget_uj, budget_uj, tolerance), by_component, *parts]
    return "\n".join([*lines, _head("it", "by layer", map(_energy, result.layers)), *rows])


def overflow_text(result: Result) -> str:
    """Return where accumulators overflowed, and the width that the sums of these inputs need."""
    events, bits = overflow_events(result.layers), result.arch["accumulator"]["bits"]
    where = f"{counted(events, 'overflow event')} in {bits}-bit accumulators"
    head = f"{_subject(result)}: {where}, {needed_text(result.layers)}"
    rows = _layers(result, _overflows, lambda layer: f"{_overflows(layer):>14,}  {_needed(layer)}")
    return "\n".join([head, _head("them", "in", map(_overflows, result.layers)), *rows])


def _head(what: str, where: str, amounts: Iterable[float]) -> str:
    """Return what stands above the largest parts: most of a sum, if they are more than half of it."""
    ranked = sorted(amounts, reverse=True)
    most = 2 * sum(ranked[:_SHOWN]) > sum(ranked)
    return f"{'most' if most else 'the largest parts'} of {what} {where}:"


def _subject(result: Result) -> str:
    """Return the model and the machine."""
    array = result.arch["array"]
    return f"{printable(result.model.name, 60)} on {array['rows']}x{array['cols']} {array['dataflow']}"


def _share(over: float, budget: float, tolerance: float) -> str:
    """Return the excess as a share of the budget."""
    share = f" (+{over / budget:.2%}" if budget else " (no budget"
    return share + (f", {tolerance:.2%} tolerated)" if tolerance else ")")


def _layers(result: Result, key: Callable[[LayerResult], float], text: Callable[[LayerResult], str]) -> list[str]:
    """Return the rows of the layers with most of something."""
    names = short_names([layer.name for layer in result.layers], 28)
    pairs = sorted(zip(names, result.layers, strict=True), key=lambda pair: -key(pair[1]))
    return [f"  {name:28} {text(layer)}".rstrip() for name, layer in pairs[:_SHOWN] if key(layer)]


def _stall(layer: LayerResult) -> str:
    """Return the largest stall of a layer."""
    stall = layer.largest_stall
    return "" if stall is None else f"{cycle_class(stall[0]).short} {stall[1] / layer.cycles:.0%}"


def _energy(layer: LayerResult) -> float:
    """Return the energy of a layer in pJ."""
    return sum(layer.energy_pj.values())


def _part(pj: float, total_pj: float) -> str:
    """Return an energy and its share."""
    return f"{energy_text(pj):>14}  {pj / total_pj:.1%}" if total_pj else f"{energy_text(pj):>14}"


def _overflows(layer: LayerResult) -> int:
    """Return the overflow events of a layer."""
    return 0 if layer.acc is None else layer.acc.overflows


def _needed(layer: LayerResult) -> str:
    """Return the width that a layer needs."""
    return "" if layer.acc is None else f"bits needed: {bits_text(layer)}"
