"""The facts a person wants from a run: latency, energy with its largest component, verdict, and what binds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from accelsim.errors import counted, printable
from accelsim.reports.classes import CAUSES, component_name
from accelsim.reports.dimensions import NONE_GIVEN, chosen_dimensions
from accelsim.reports.terminal.host import uncounted_text
from accelsim.reports.terminal.run_table import energy_text, quantity, short_name
from accelsim.reports.terminal.verdict import literal_warning, near_sentence, reference_words
from accelsim.results.check import FloatReference
from accelsim.results.cycle_classes import cycle_class
from accelsim.results.result import Result


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
    """Return the dataflow by which classes of cycles are named after operands; empty where that could be wrong.

    It is where a layer on the array reads more than activations: its second operand is then no constant weights.
    """
    if any(layer.placement == "array" and len(layer.inputs or ()) > 1 for layer in result.layers):
        return ""
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


def verdict_fact(result: Result) -> Fact:
    """Return the verdict against onnxruntime in a word and a sentence."""
    check = result.check
    compared = f"{counted(check.elements, 'element')} in {counted(check.tensors, 'tensor')}"
    if check.verdict == "skipped":
        return Fact("verdict", "skipped", "nothing was compared with onnxruntime")
    reference = reference_words(check)
    if check.verdict == "mismatch":
        wrong = max(check.mismatched_elements, check.drifted_elements)
        first = check.first_mismatch
        cause = "" if first is None or first.diagnosis is None else f", {printable(first.diagnosis.cause, 30)}"
        where = "" if first is None else f"; first in layer '{short_name(first.layer, 30)}'{cause}"
        what = (
            f"{wrong:,} of {compared}" if wrong else f"{check.output_mismatched:,} of {check.output_elements:,} outputs"
        )
        return Fact("verdict", "mismatch", f"{what} differ from {reference}{where}", "bad")
    if check.verdict == "q31":
        worst = max((distance.max_lsb for distance in check.q31), default=0)
        remark = f"sums are equal; the machine's requantiser is at most {worst:,} LSB from {reference}, layer by layer"
        return Fact("verdict", "q31", remark)
    warning = literal_warning(check)
    if check.verdict == "near":
        return Fact("verdict", "near", f"{near_sentence(check)}; compared with {reference}{warning}")
    return Fact("verdict", "exact", f"{_equal(result)}{warning}", "plain" if warning else "good")


def _equal(result: Result) -> str:
    """Say what equals onnxruntime's bit for bit, without what onnxruntime computed itself, or in float."""
    check = result.check
    layers = [layer.check for layer in result.layers if layer.check is not None]
    floats = sum(layer.elements for layer in layers if layer.exactness == "float-reference")
    own = check.elements - check.host_elements - floats
    what = f"{counted(own, 'element')} in {counted(check.tensors, 'tensor')}"
    if not own:
        what = f"all {counted(check.output_elements, 'output element')}"
    elif own != check.elements:
        what = f"{own:,} of {check.elements:,} elements"
    on_its_inputs = any(layer.drifted and layer.exactness == "exact" for layer in layers)
    forced = ", on its own inputs" if on_its_inputs else ""
    sentences = [f"{what} equal {reference_words(check)}, bit for bit{forced}"]
    if check.host_elements:
        sentences.append(f"{_are(check.host_elements)} onnxruntime's own")
    if floats:
        sentences.append(f"{_are(floats)} float there, at most {_farthest(check.float_reference)} away")
    return "; ".join(sentences)


def _are(count: int) -> str:
    """Return a number of elements with its verb."""
    return f"{count:,} {'is' if count == 1 else 'are'}"


def _farthest(distances: Sequence[FloatReference]) -> str:
    """Return the largest distance of codes in steps, and that of floats in units in the last place."""
    worst = {unit: [one.max_lsb for one in distances if one.unit == unit] for unit in ("LSB", "ULP")}
    return " and ".join(f"{max(found):,} {unit}" for unit, found in worst.items() if found) or "0 LSB"


def per_run(result: Result) -> str:
    """Say what the energy of a run is for: one inference, several samples, or a run of which nobody said."""
    batch = result.model.batch
    if batch is None:
        return "per run"
    if batch == 1:
        return "per inference"
    if batch == 0:
        return "per run of no samples"
    return f"per run of {batch:,} samples, {energy_text(result.energy_pj / batch)} per sample"


def input_facts(result: Result) -> tuple[Fact, ...]:
    """Return which dimensions were chosen for lack of an input, if any."""
    return tuple(Fact("input", chosen, NONE_GIVEN) for chosen in chosen_dimensions(result.model.dimensions or ()))


def facts(result: Result) -> tuple[Fact, ...]:
    """Return latency, energy, verdict, and what binds."""
    component, share = largest_component(result)
    what_binds = binding(result)
    unknown = f"; MACs of {uncounted_text(result)} not counted" if result.uncounted_operators else ""
    latency = (
        f"{result.cycles:,} cycles on {machine_name(result)}, {quantity(result.model.macs, 'MAC')}, "
        f"utilisation {result.utilisation:.1%}{unknown}"
    )
    batch = result.model.batch
    several = "" if batch in (None, 1) else f" for batch {batch:,}"
    energy = f"{per_run(result)}, {share:.0%} of it {component}" if share else ""
    return (
        Fact("latency", quantity(result.time_s, "s"), f"at {result.clock_ghz:g} GHz{several}: {latency}"),
        Fact("energy", energy_text(result.energy_pj), energy),
        verdict_fact(result),
        Fact("binds", what_binds.verdict, what_binds.sentence),
    )
