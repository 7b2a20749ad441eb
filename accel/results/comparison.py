"""What changed between two runs of a model: values, verdict, cycles, energy, overflow, versions; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.files.json_writing import to_json
from accelsim.results.check import CheckResult
from accelsim.results.differing import differing
from accelsim.results.manifest import LayerRecord, Manifest, Observation

Array = NDArray[np.generic]
Value = int | float | str | None
Layers = dict[tuple[str, int], LayerRecord]

GROUPS = ("model", "inputs", "values", "verdict", "cycles", "energy", "overflow", "versions")


@dataclass(frozen=True)
class Row:
    """One thing that changed; None stands for what one side lacks."""

    label: str
    old: Value
    new: Value
    remark: str = ""


@dataclass(frozen=True)
class Group:
    """What changed in one respect.

    status: equal, changed, tolerated (within the tolerance asked for), ignored, or reported (versions, which are no
    failure by themselves).
    """

    name: str
    status: str
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Tolerance:
    """What the user lets pass: relative changes of the totals, and whole groups."""

    cycles: float = 0.0
    energy: float = 0.0
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Comparison:
    """The answer of a verification; cycles, energy_pj and check (the verdict) are those of the new run."""

    golden: str
    model: str
    groups: tuple[Group, ...]
    layers: int
    cycles: int
    energy_pj: float
    check: CheckResult

    @property
    def equal(self) -> bool:
        """Nothing changed but what may."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the groups that changed."""
        return tuple(group.name for group in self.groups if group.status == "changed")

    def to_json(self) -> str:
        """Return the comparison as JSON."""
        groups = {
            group.name: {"status": group.status, "rows": [vars(row) for row in group.rows]} for group in self.groups
        }
        data: dict[str, Any] = {"equal": self.equal, "failed": list(self.failed), "groups": groups}
        data |= {"golden": self.golden, "model": self.model, "check": self.check.to_dict()}
        return to_json(data | {"cycles": self.cycles, "energy_pj": self.energy_pj, "layers": self.layers})


def compare(
    golden: str,
    manifest: Manifest,
    sha256: str,
    new: Observation,
    check: CheckResult,
    outputs: tuple[Mapping[str, Array], Mapping[str, Array]],
    tolerance: Tolerance,
) -> Comparison:
    """Compare a run with a record.

    Args:
        golden: what to call the record.
        manifest: the record.
        sha256: digest of the model of the new run.
        new: what the new run showed.
        check: its verdict.
        outputs: recorded and new outputs by name.
        tolerance: what may change.
    """
    old = manifest.observed
    cycles = _cycle_rows(old, new)
    energy = _energy_rows(old, new)
    model = [Row("sha256", manifest.model.sha256, sha256)] if sha256 != manifest.model.sha256 else []
    inputs = [Row(name, a, b) for name, a, b in _changed(_digests(old.inputs), _digests(new.inputs))]
    values = _value_rows(old, new, *outputs)
    found: dict[str, tuple[list[Row], bool]] = {
        "model": (model, True),
        "inputs": (inputs, True),
        "values": (values, True),
        "verdict": (_verdict_rows(old, new), True),
        "cycles": (cycles, _beyond(old.cycles, new.cycles, tolerance.cycles)),
        "energy": (energy, _beyond(old.energy_pj, new.energy_pj, tolerance.energy)),
        "overflow": (_overflow_rows(old, new), True),
        "versions": ([Row(name, a, b) for name, a, b in _changed(old.versions, new.versions)], False),
    }
    groups = tuple(Group(name, _status(name, *found[name], tolerance), tuple(found[name][0])) for name in GROUPS)
    return Comparison(golden, manifest.model.name, groups, len(new.layers), new.cycles, new.energy_pj, check)


def _status(name: str, rows: list[Row], counts: bool, tolerance: Tolerance) -> str:
    """Return the status of a group from what changed in it and whether that counts."""
    if not rows:
        return "equal"
    if name in tolerance.ignored:
        return "ignored"
    if name == "versions":
        return "reported"
    return "changed" if counts else "tolerated"


def _beyond(old: float, new: float, tolerance: float) -> bool:
    """Tell whether a total moved by more than a relative tolerance; without one every change counts."""
    return tolerance == 0 or abs(new - old) > tolerance * old


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    """Yield the keys whose values differ, in order, None for what is missing."""
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def _digests(records: Iterable[Any]) -> dict[str, str]:
    """Return type and digest of tensors by name."""
    return {item.tensor: f"{item.dtype}{item.shape} {item.sha256[:12]}" for item in records}


def _keyed(observation: Observation) -> Layers:
    """Return layers by name, numbered where a name comes more than once."""
    keyed: Layers = {}
    seen: dict[str, int] = {}
    for layer in observation.layers:
        count = seen[layer.name] = seen.get(layer.name, 0) + 1
        keyed[(layer.name, count)] = layer
    return keyed


def _pairs(
    old: Observation, new: Observation, value: Callable[[LayerRecord], Any]
) -> Iterable[tuple[str, LayerRecord | None, LayerRecord | None]]:
    """Yield the layers for which a value differs, in the order of the new run and then what it lacks."""
    before, after = _keyed(old), _keyed(new)
    for key in dict.fromkeys((*after, *before)):
        first, second = before.get(key), after.get(key)
        if first is None or second is None or value(first) != value(second):
            yield key[0], first, second


def _value_rows(
    old: Observation, new: Observation, old_outputs: Mapping[str, Array], new_outputs: Mapping[str, Array]
) -> list[Row]:
    """Return the tensors that layers changed, in order, then the outputs with their distance."""
    before = {item.tensor: item for layer in old.layers for item in layer.outputs}
    rows = []
    for layer in new.layers:
        for item in layer.outputs:
            known = before.pop(item.tensor, None)
            if known != item:
                first = None if known is None else f"{known.dtype}{known.shape} {known.sha256[:12]}"
                second = f"{item.dtype}{item.shape} {item.sha256[:12]}"
                rows.append(Row(item.tensor, first, second, f"of layer '{layer.name}' ({layer.op})"))
    rows += [Row(name, f"{item.dtype}{item.shape} {item.sha256[:12]}", None) for name, item in before.items()]
    for name in dict.fromkeys((*old_outputs, *new_outputs)):
        distance = _distance(old_outputs.get(name), new_outputs.get(name))
        if distance:
            rows.append(Row(name, None, None, f"output: {distance}"))
    return rows


def _distance(old: Array | None, new: Array | None) -> str:
    """Say how far two outputs are apart; empty when they are equal."""
    if old is None or new is None:
        return "only in the record" if new is None else "not in the record"
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{old.dtype}{list(old.shape)} became {new.dtype}{list(new.shape)}"
    wrong = differing(new, old)
    count = int(wrong.sum())
    if not count:
        return ""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(new[wrong].astype(np.float64) - old[wrong].astype(np.float64))
    finite = apart[np.isfinite(apart)]
    largest = f"{finite.max():.6g}" if finite.size else "no finite number"
    return f"{count:,} of {old.size:,} elements differ, by at most {largest}"


def _verdict_rows(old: Observation, new: Observation) -> list[Row]:
    """Return what changed in the comparison with onnxruntime."""
    before = {name: value for name, value in old.check if name in old.check.model_fields_set}
    after = {name: value for name, value in new.check if name in before}  # what an older record lacks did not change
    return [Row(name.replace("_", " "), a, b) for name, a, b in _changed(before, after)]


def _cycle_rows(old: Observation, new: Observation) -> list[Row]:
    """Return the total, then the layers whose cycles or classes of cycles changed."""
    rows = [Row("total", old.cycles, new.cycles)] if old.cycles != new.cycles else []
    for name, first, second in _pairs(old, new, lambda layer: (layer.cycles, layer.cycle_classes)):
        classes = [] if first is None or second is None else list(_changed(first.cycle_classes, second.cycle_classes))
        moved = max(classes, key=lambda change: abs((change[2] or 0) - (change[1] or 0)), default=None)
        remark = "" if moved is None else f"{_part(moved, classes)} {moved[0]}: {moved[1] or 0:,} -> {moved[2] or 0:,}"
        counts = (None if first is None else first.cycles), (None if second is None else second.cycles)
        rows.append(Row(name, *counts, remark))
    return rows


def _part(moved: tuple[str, int | None, int | None], classes: Sequence[tuple[str, int | None, int | None]]) -> str:
    """Return whether the class that moved most is most of what moved."""
    steps = [abs((new or 0) - (old or 0)) for _, old, new in classes]
    return "most of it" if 2 * abs((moved[2] or 0) - (moved[1] or 0)) > sum(steps) else "the largest part of it"


def _energy_rows(old: Observation, new: Observation) -> list[Row]:
    """Return the total and the components in pJ, then how many layers changed and the first of them."""
    rows = [Row("total", old.energy_pj, new.energy_pj)] if old.energy_pj != new.energy_pj else []
    rows += [Row(name.replace("_", " "), a, b) for name, a, b in _changed(_components(old), _components(new))]
    layers = [name for name, *_ in _pairs(old, new, lambda layer: layer.energy_pj)]
    if layers:
        rows.append(Row("layers", None, len(layers), f"first '{layers[0]}'"))
    return rows


def _components(observation: Observation) -> dict[str, float]:
    """Return energy by component, in pJ."""
    totals: dict[str, float] = {}
    for layer in observation.layers:
        for name, value in layer.energy_pj.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


def _overflow_rows(old: Observation, new: Observation) -> list[Row]:
    """Return what changed in the accumulators of each layer."""
    rows = []
    for name, first, second in _pairs(old, new, lambda layer: layer.acc):
        before = {} if first is None or first.acc is None else dict(first.acc)
        after = {} if second is None or second.acc is None else dict(second.acc)
        rows += [Row(name, a, b, key.replace("_", " ")) for key, a, b in _changed(before, after)]
    return rows
