"""The facts a person wants from a run: latency, energy with its largest component, verdict, and what binds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from accelsim.check_result import CheckResult
from accelsim.errors import printable
from accelsim.reports.classes import CAUSES, component_name, cycle_class
from accelsim.reports.terminal import energy_text, quantity, short_name
from accelsim.result import Result


@dataclass(frozen=True)
class Fact:
    """One fact: what it is, its value in a word, and the sentence that belongs to it; tone: good, bad or plain."""

    title: str
    value: str
    remark: str
    tone: str = "plain"


@dataclass(frozen=True)
class Binding:
    """What takes most of the cycles: key and verdict of the cause, its share, and a sentence with the shares."""

    key: str
    verdict: str
    share: float
    sentence: str


def dataflow_of(result: Result) -> str:
    """Return the dataflow of a machine, empty where its description lacks one."""
    return str(result.arch.get("array", {}).get("dataflow", ""))


def binding_of(classes: Mapping[str, int], dataflow: str = "") -> Binding:
    """Return what binds, from cycles by class.

    Args:
        classes: cycles by class, of a layer or a run.
        dataflow: of the machine.
    """
    total = sum(classes.values())
    if not total:
        return Binding("", "takes no time", 0.0, "no cycles")
    sums = {cause.key: sum(classes.get(kind.key, 0) for kind in cause.classes) for cause in CAUSES}
    cause = max(CAUSES, key=lambda cause: sums[cause.key])
    rest = total - sum(sums.values())
    if rest > sums[cause.key]:
        return Binding("other", "bound by other causes", rest / total, f"{rest / total:.0%} of the cycles")
    sentence = f"{sums[cause.key] / total:.0%} of the cycles {cause.happens}"
    parts = sorted(
        ((classes.get(kind.key, 0), cycle_class(kind.key, dataflow).name) for kind in cause.classes),
        key=lambda part: -part[0],
    )
    shown = [f"{cycles / total:.0%} {name.removeprefix('waits for ')}" for cycles, name in parts if cycles]
    if len(shown) > 1:
        sentence += f" ({', '.join(shown[:3])})"
    return Binding(cause.key, cause.verdict, sums[cause.key] / total, sentence)


def binding(result: Result) -> Binding:
    """Return what binds a whole run."""
    totals: dict[str, int] = {}
    for layer in result.layers:
        for name, cycles in layer.cycle_classes.items():
            totals[name] = totals.get(name, 0) + cycles
    found = binding_of(totals, dataflow_of(result))
    steps = totals.get("stream", 0)
    if found.key != "array" or not steps:
        return found
    used = result.model.macs / (result.pe_count * steps)
    return replace(found, sentence=f"{found.sentence}, with {used:.0%} of its PEs in use")


def largest_component(result: Result) -> tuple[str, float]:
    """Return the component that uses most energy, and its share."""
    components = result.energy_components_pj
    if not components or not result.energy_pj:
        return "", 0.0
    name, energy = max(components.items(), key=lambda item: item[1])
    return component_name(name), energy / result.energy_pj


def machine_name(result: Result) -> str:
    """Return the machine in a few words: array and dataflow."""
    array = result.arch.get("array", {})
    return printable(f"{array.get('rows')}x{array.get('cols')} {array.get('dataflow', '')}".strip(), 40)


def verdict_fact(check: CheckResult) -> Fact:
    """Return the verdict against onnxruntime in a word and a sentence."""
    compared = f"{check.elements:,} elements in {check.tensors:,} tensors"
    if check.verdict == "skipped":
        return Fact("verdict", "skipped", "nothing was compared with onnxruntime")
    if check.verdict == "mismatch":
        wrong = max(check.mismatched_elements, check.drifted_elements)
        first = check.first_mismatch
        cause = "" if first is None or first.diagnosis is None else f", {printable(first.diagnosis.cause, 30)}"
        where = "" if first is None else f"; first in layer '{short_name(first.layer, 30)}'{cause}"
        return Fact("verdict", "mismatch", f"{wrong:,} of {compared} differ{where}", "bad")
    if check.verdict == "q31":
        worst = max((distance.max_lsb for distance in check.q31), default=0)
        remark = f"sums are equal; the machine's requantiser is at most {worst:,} LSB from onnxruntime, layer by layer"
        return Fact("verdict", "q31", remark)
    remark = f"{compared} equal onnxruntime bit for bit"
    if check.float_reference:
        count = len(check.float_reference)
        remark = f"{compared} compared, {count:,} of them float in onnxruntime; all others are equal bit for bit"
    return Fact("verdict", "exact", remark, "good")


def facts(result: Result) -> tuple[Fact, ...]:
    """Return latency, energy, verdict, and what binds."""
    component, share = largest_component(result)
    what_binds = binding(result)
    latency = (
        f"{result.cycles:,} cycles on {machine_name(result)}, {quantity(result.model.macs, 'MAC')}, "
        f"utilisation {result.utilisation:.1%}"
    )
    return (
        Fact("latency", quantity(result.time_s, "s"), f"at {result.clock_ghz:g} GHz: {latency}"),
        Fact("energy", energy_text(result.energy_pj), f"per inference, {share:.0%} of it {component}" if share else ""),
        verdict_fact(result.check),
        Fact("binds", what_binds.verdict, what_binds.sentence),
    )
