"""What changed between two results: totals, inputs, layers matched by name, parameters of the machine, versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accelsim.errors import printable
from accelsim.reports.terminal.run_table import short_names
from accelsim.results.result import LayerResult, Result


@dataclass(frozen=True)
class Pair:
    """A number or a word on both sides; None where a side lacks it."""

    label: str
    old: float | str | None
    new: float | str | None
    unit: str = ""

    @property
    def differs(self) -> bool:
        """Tell whether the sides differ."""
        return self.old != self.new

    @property
    def change(self) -> float | None:
        """Relative change; None for words, and where there is nothing to relate to."""
        if isinstance(self.old, int | float) and isinstance(self.new, int | float) and self.old:
            return (self.new - self.old) / self.old
        return None


@dataclass(frozen=True)
class LayerChange:
    """A layer on both sides; None where only one has it; label: short and unlike any other."""

    label: str
    old: LayerResult | None
    new: LayerResult | None

    def delta(self, measure: str) -> float:
        """Return new minus old of "cycles", "energy_pj" or "dram_bytes"; a missing layer counts as 0."""
        return measure_of(self.new, measure) - measure_of(self.old, measure)

    @property
    def changed(self) -> bool:
        """Tell whether anything that a comparison shows differs."""
        if self.old is None or self.new is None:
            return True
        return any(self.delta(measure) for measure in MEASURES) or verdict_of(self.old) != verdict_of(self.new)


@dataclass(frozen=True, eq=False)
class Changes:
    """Everything that a comparison shows."""

    totals: tuple[Pair, ...]
    inputs: tuple[Pair, ...]
    layers: tuple[LayerChange, ...]
    machine: tuple[Pair, ...]
    versions: tuple[Pair, ...]

    @property
    def changed_layers(self) -> tuple[LayerChange, ...]:
        """Layers in which anything differs."""
        return tuple(layer for layer in self.layers if layer.changed)


MEASURES = ("cycles", "energy_pj", "dram_bytes")


def measure_of(layer: LayerResult | None, measure: str) -> float:
    """Return one measure of a layer, 0 where there is no layer."""
    if layer is None:
        return 0
    if measure == "energy_pj":
        return sum(layer.energy_pj.values())
    return layer.cycles if measure == "cycles" else layer.dram_bytes


def verdict_of(layer: LayerResult | None) -> str:
    """Return the verdict of a layer as tables show it, with ! where an accumulator overflowed."""
    if layer is None:
        return "absent"
    verdict = "-" if layer.check is None else layer.check.verdict
    return verdict + ("!" if layer.acc is not None and layer.acc.overflows else "")


def overflows_of(result: Result) -> int:
    """Return the overflow events of a run."""
    return sum(layer.acc.overflows for layer in result.layers if layer.acc is not None)


def changes_between(old: Result, new: Result) -> Changes:
    """Compare two results.

    Args:
        old: the first one, to which changes relate.
        new: the second one.
    """
    totals = (
        Pair("model", printable(old.model.name, 60), printable(new.model.name, 60)),
        Pair("cycles", old.cycles, new.cycles),
        Pair("latency", old.time_s * 1e6, new.time_s * 1e6, "µs"),
        Pair("energy", old.energy_pj * 1e-6, new.energy_pj * 1e-6, "µJ"),
        Pair("DRAM traffic", old.dram_bytes, new.dram_bytes, "B"),
        Pair("MACs", old.model.macs, new.model.macs),
        Pair("utilisation", 100 * old.utilisation, 100 * new.utilisation, "%"),
        Pair("overflow events", overflows_of(old), overflows_of(new)),
        Pair("verdict", old.check.verdict, new.check.verdict),
    )
    machine = _differing(_flat(old.arch), _flat(new.arch))
    return Changes(totals, _inputs(old, new), _match(old, new), machine, _differing(old.versions, new.versions))


def inputs_text(result: Result) -> str:
    """Return names, shapes and types of the inputs that a model was run with."""
    known = result.model.inputs
    if known is None:
        return "not recorded"
    return ", ".join(f"{printable(one.name, 60)}: {printable(one.described, 60)}" for one in known) or "none"


def _inputs(old: Result, new: Result) -> tuple[Pair, ...]:
    """Return the inputs whose shapes or types differ."""
    before, after = old.model.inputs, new.model.inputs
    if before is None and after is None:
        return ()
    if before is None or after is None:
        return (Pair("all", printable(inputs_text(old), 60), printable(inputs_text(new), 60)),)
    return _differing({one.name: one.described for one in before}, {one.name: one.described for one in after})


def flat_machine(result: Result) -> dict[str, str]:
    """Return the parameters of a machine by section and key."""
    return _flat(result.arch)


def _flat(arch: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Return parameters by section and key, as text."""
    return {
        printable(f"{section}.{key}", 80): value_text(value)
        for section, values in sorted(arch.items())
        for key, value in sorted(values.items())
    }


def value_text(value: object) -> str:
    """Return a parameter's value as people write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else printable(str(value), 60)


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Pair, ...]:
    """Return the entries that differ, or that one side lacks."""
    names = sorted({*old, *new})
    pairs = [Pair(printable(name, 80), _shown(old.get(name)), _shown(new.get(name))) for name in names]
    return tuple(pair for pair in pairs if pair.differs)


def _shown(text: str | None) -> str | None:
    """Return a text that is safe on a terminal."""
    return None if text is None else printable(text, 60)


def _match(old: Result, new: Result) -> tuple[LayerChange, ...]:
    """Match layers by name, the first of a name with the first, in the new order; then those that are gone."""
    waiting: dict[str, list[LayerResult]] = {}
    for layer in old.layers:
        waiting.setdefault(layer.name, []).append(layer)
    pairs: list[tuple[LayerResult | None, LayerResult | None]] = []
    for layer in new.layers:
        candidates = waiting.get(layer.name)
        pairs.append((candidates.pop(0) if candidates else None, layer))
    left = {id(layer) for layers in waiting.values() for layer in layers}
    pairs += [(layer, None) for layer in old.layers if id(layer) in left]
    labels = short_names([side.name for pair in pairs if (side := pair[1] or pair[0]) is not None], 30)
    return tuple(LayerChange(label, *pair) for label, pair in zip(labels, pairs, strict=True))
