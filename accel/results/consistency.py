"""What the parts of a result must agree on: nothing that a report shows may depend on which part is read.

Each problem is one clause that names the place; a file without any may still be invented as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelsim.results.check import CheckResult
from accelsim.results.energy import ChargeLine
from accelsim.results.limits import Amounts, Text
from accelsim.results.result import LayerResult, Result, Totals

# What totals of a file may differ from the sums of its parts, which are added up in another order.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class WrittenCheck:
    """The word for what the check of a layer counts."""

    verdict: Text | None = None


@dataclass(frozen=True)
class WrittenLayer:
    """What a file says of a layer although it follows from the rest."""

    check: WrittenCheck | None = None


@dataclass(frozen=True)
class WrittenEnergy:
    """What a file says of the energy although it follows from the layers."""

    components: Amounts | None = None


@dataclass(frozen=True)
class Written:
    """What a file says although a result computes it; None where it does not say it."""

    totals: Totals
    energy: WrittenEnergy
    layers: tuple[WrittenLayer, ...]


def problems(written: Written, result: Result, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what contradicts what in a result file.

    Args:
        written: what of the file follows from the rest of it.
        result: the rest.
        given: the totals as they stand in the file, which need not have all of them.
    """
    yield from _totals(written.totals, result, given)
    for number, (layer, copy) in enumerate(zip(result.layers, written.layers, strict=True)):
        place = f"layers.{number}"
        yield from (f"{place}.{problem}" for problem in _layer(layer, result.pe_count))
        verdict = None if copy.check is None else copy.check.verdict
        if layer.check is not None and verdict not in (None, layer.check.verdict):
            yield f"{place}.check.verdict is not {layer.check.verdict}, which its counts say"
    yield from _energy(written.energy.components, result)
    yield from _check(result)
    line = result.timeline
    if line is not None and (line.number >= len(result.layers) or result.layers[line.number].cycles != line.cycles):
        yield f"timeline.cycles is {line.cycles:,}, its layer has another number or does not exist"


def _differ(one: float, other: float) -> bool:
    """Tell whether two sums of the same numbers differ by more than their order explains."""
    return not math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=1e-9)


def _totals(totals: Totals, result: Result, given: Mapping[str, Any]) -> Iterator[str]:
    """Compare the totals with the layers."""
    computed = result.totals
    if totals.cycles != computed.cycles:
        yield f"totals.cycles is {totals.cycles:,}, its layers take {computed.cycles:,}"
    if _differ(totals.energy_pj, computed.energy_pj):
        yield f"totals.energy_pj is {totals.energy_pj:,.6g}, its layers use {computed.energy_pj:,.6g}"
    if totals.acc_bits_needed not in (None, computed.acc_bits_needed):
        yield f"totals.acc_bits_needed is {totals.acc_bits_needed}, its layers need {computed.acc_bits_needed}"
    macs = sum(layer.macs for layer in result.layers)
    if result.model.macs != macs:
        yield f"model.macs is {result.model.macs:,}, its layers do {macs:,}"
    for name, exact in (("macs", macs), ("dram_bytes", computed.dram_bytes)):
        count = getattr(totals, name)
        if count not in (None, exact):
            yield f"totals.{name} is {count:,}, its layers have {exact:,}"
    for name in ("utilisation", "time_s", "macs_on_array_share"):
        one, other = getattr(totals, name), getattr(computed, name)
        if name in given and ((one is None) != (other is None) or (one is not None and _apart(one, other))):
            yield f"totals.{name} is {_shown(one)}, its layers give {_shown(other)}"


def _apart(one: float, other: float) -> bool:
    """Tell whether two ratios differ; they may be as small as a picosecond, so only their own size counts."""
    return not math.isclose(one, other, rel_tol=_TOLERANCE)


def _shown(value: float | None) -> str:
    """Write a number that may be missing."""
    return "null" if value is None else f"{value:.6g}"


def _layer(layer: LayerResult, pe_count: int) -> Iterator[str]:
    """Check one layer by itself."""
    spent = sum(layer.cycle_classes.values())
    if spent != layer.cycles:
        yield f"cycles is {layer.cycles:,}, its classes are {spent:,}"
    read, written, least = layer.dram_read_bytes, layer.dram_write_bytes, layer.compulsory_dram_bytes
    if read is not None and written is not None and read + written != layer.dram_bytes:
        yield f"dram_bytes is {layer.dram_bytes:,}, it reads and writes {read + written:,}"
    if least is not None and least > layer.dram_bytes:
        yield f"compulsory_dram_bytes is {least:,}, more than the {layer.dram_bytes:,} that it moves"
    on_array = layer.placement == "array" and layer.cycles
    used = layer.macs / (pe_count * layer.cycles) if on_array else None
    if (used is None) != (layer.utilisation is None) or (used is not None and _apart(used, layer.utilisation or 0.0)):
        yield f"utilisation is {_shown(layer.utilisation)}, its products and cycles give {_shown(used)}"
    if layer.placement != "array" and layer.macs:
        yield f"macs is {layer.macs:,}, but it is not on the array"


def _energy(written: Mapping[str, float] | None, result: Result) -> Iterator[str]:
    """Compare components with layers, and both with the bills where a file has them."""
    if written is not None:
        yield from _components("energy.components", written, result.energy_components_pj)
    units = _unit_energies(result.energy.units)
    for number, layer in enumerate(result.layers):
        yield from _bill(f"layers.{number}", layer.energy_pj, layer.charges, units)
    for number, baseline in enumerate(result.energy.detail.baselines):
        place = f"energy.baselines.{number}"
        total = math.fsum(baseline.components.values())
        if _differ(baseline.energy_pj, total):
            yield f"{place}.energy_pj is {baseline.energy_pj:,.6g}, its components are {total:,.6g}"
        ratio = baseline.energy_pj / result.energy_pj if result.energy_pj else 1.0
        if _differ(baseline.ratio, ratio):
            yield f"{place}.ratio is {baseline.ratio:.6g}, the energies give {ratio:.6g}"
        yield from _bill(place, baseline.components, baseline.charges, _unit_energies(baseline.units))


def _components(place: str, given: Mapping[str, float], computed: Mapping[str, float]) -> Iterator[str]:
    """Compare energies by component."""
    for name in dict.fromkeys((*given, *computed)):
        one, other = given.get(name, 0.0), computed.get(name, 0.0)
        if _differ(one, other):
            yield f"{place}: {name} is {one:,.6g} pJ, the parts behind it are {other:,.6g} pJ"


def _unit_energies(units: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the energy of each unit by name, in pJ."""
    energies: dict[str, float] = {}
    for unit in units:
        name, value = unit.get("name"), unit.get("value_pj")
        if isinstance(name, str) and isinstance(value, int | float) and abs(value) <= 1e30:
            energies[name] = float(value)
    return energies


def _bill(
    place: str, components: Mapping[str, float], charges: Sequence[ChargeLine], units: Mapping[str, float]
) -> Iterator[str]:
    """Compare energies by component with a bill; earlier versions wrote none."""
    if not charges:
        return
    unknown = next((line.unit for line in charges if line.unit not in units), None)
    if unknown is not None:
        yield f"{place}.charges names the unit {unknown}, which has no energy"
        return
    names = dict.fromkeys(line.component for line in charges)
    paid = {
        name: math.fsum(line.count * units[line.unit] for line in charges if line.component == name) for name in names
    }
    yield from _components(f"{place}.charges", components, paid)


def _check(result: Result) -> Iterator[str]:
    """Compare the verdict with its counts, and those with the layers'."""
    check, layers = result.check, [layer.check for layer in result.layers if layer.check is not None]
    judged = [layer for layer in layers if layer.exactness == "exact"]
    if check.verdict == "skipped" and layers:
        yield "check.verdict is skipped, but layers were compared"
    for number, layer in enumerate(layer.check for layer in result.layers):
        if layer is not None and max(layer.mismatched, layer.drifted, layer.sums_mismatched) > layer.elements:
            yield f"layers.{number}.check counts more elements than the {layer.elements:,} that were compared"
    sums = {
        "elements": sum(layer.elements for layer in layers),
        "mismatched_elements": sum(layer.mismatched for layer in judged) + sum(one.sums_mismatched for one in layers),
        "drifted_elements": sum(layer.drifted for layer in judged if not layer.behind_float),
    }
    for name, exact in sums.items():
        given = getattr(check, name)
        if given != exact:
            yield f"check.{name} is {given:,}, its layers say {exact:,}"
    yield from _verdict(check)
    yield from _distances(result)


def _verdict(check: CheckResult) -> Iterator[str]:
    """Check the verdict against what it counts."""
    if check.output_mismatched > check.output_elements:
        yield f"check.output_mismatched is {check.output_mismatched:,}, of {check.output_elements:,} elements"
    if check.host_elements > check.elements:
        yield f"check.host_elements is {check.host_elements:,}, of {check.elements:,} elements"
    wrong = check.mismatched_elements + check.drifted_elements
    if check.verdict == "mismatch":
        if not wrong and not check.output_mismatched:
            yield "check.verdict is mismatch, but nothing differs"
        if check.first_mismatch is None:
            yield "check.verdict is mismatch, but check.first_mismatch is missing"
        return
    if wrong:
        yield f"check.verdict is {check.verdict}, but {wrong:,} elements differ"
    if check.first_mismatch is not None:
        yield f"check.verdict is {check.verdict}, but check.first_mismatch names a difference"
    yield from _near(check)
    if bool(check.q31) != (check.verdict == "q31"):
        yield f"check.verdict is {check.verdict}, but check.q31 lists {len(check.q31):,} tensors"


def _near(check: CheckResult) -> Iterator[str]:
    """Check what is said of outputs that differ without a mismatch."""
    apart, ends = check.output_mismatched, check.output_distance
    if check.verdict == "near" and not apart:
        yield "check.verdict is near, but no output differs"
    if check.verdict == "exact":
        if apart:
            yield f"check.verdict is exact, but {apart:,} outputs differ"
        if ends is not None or check.behind or check.output_lsb is not None or check.output_ulp is not None:
            yield "check.verdict is exact, but a distance of the outputs is given"
    elif ends is not None and not math.isnan(ends.share) and _differ(ends.share * check.output_elements, apart):
        yield f"check.output_distance.share is {ends.share:.6g}, but {apart:,} of {check.output_elements:,} differ"


def _distances(result: Result) -> Iterator[str]:
    """Compare the distances of tensors that are not exact with those of their layers."""
    for name in ("float-reference", "q31"):
        listed = result.check.q31 if name == "q31" else result.check.float_reference
        layers = [layer.check for layer in result.layers if layer.check is not None and layer.check.exactness == name]
        largest = max((layer.max_lsb or 0 for layer in layers), default=0)
        told = max((distance.max_lsb for distance in listed), default=0)
        if largest != told:
            key = name.replace("-", "_")
            yield f"check.{key} has a largest distance of {told:,}, its layers have {largest:,}"
