"""The verdict: every tensor against onnxruntime, teacher-forced and free-running (ADR 16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from accelsim.check.diagnose import Case, diagnose, inherited
from accelsim.check.dump import Dump
from accelsim.check.file_hints import hints_of, notes_of
from accelsim.check.float_distance import beyond, product_error, step_error
from accelsim.check.oracle import ReferenceTensors, final_outputs, literal_outputs
from accelsim.check.verdict import (
    BY_LAYOUT,
    final_difference,
    find_behind,
    largest_units,
    measure_outputs,
    whole_distance,
)
from accelsim.graph.normalise.ignored import fuses_groups, ignored_parameters
from accelsim.graph.normalise.normalise import NormalisedModel
from accelsim.operators import HostOperator, Operator, Part
from accelsim.operators.fixed_point import float_twin
from accelsim.operators.uniform import Decoding, Permuted
from accelsim.program.layers import Layer, Program
from accelsim.results.check import CheckResult, FirstMismatch, FloatReference, LayerCheck, Unit, Verdict
from accelsim.results.differing import differing
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.execute import LayerValues, execute

Array = NDArray[np.generic]


# The literal run holds all weights as float32; beyond this it is left out, and the verdict says why.
LITERAL_BUDGET_BYTES = 256 << 20

# Exact sums of 16-bit products stay far below this width.
_WIDE_BITS = 63


@dataclass
class Checker:
    """Compares the layers of one run with the reference as they are computed.

    decodings: tensors of codes that stand for float tensors of the reference, or that the reference has in another
    layout; those are encoded to be compared.
    """

    model: NormalisedModel
    inputs: Mapping[str, Array]
    accumulator: AccumulatorFormat
    parameters_bytes: int = 0
    decodings: Mapping[str, Decoding | Permuted] = field(default_factory=dict)
    dump: Dump | None = None
    tensors: int = 0
    layers: list[tuple[Layer, LayerCheck]] = field(default_factory=list)
    distances: dict[str, list[FloatReference]] = field(default_factory=dict)
    first: FirstMismatch | None = None
    _first_drift: FirstMismatch | None = None
    host_elements: int = 0
    _behind_float: set[str] = field(default_factory=set)
    _behind_host: set[str] = field(default_factory=set)
    _inside: dict[str, Array] = field(default_factory=dict)
    _errors: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._half = any(kind.dtype == np.float16 for kind in self.model.types.values())
        # Both sessions are gone before the datapath starts, so that they do not add to its memory.
        self._final = final_outputs(self.model, self.inputs)
        self._remark = ""
        if not self.model.reference.optimised:
            self._remark = "the reference itself is literal"
        elif self.parameters_bytes * 4 > LITERAL_BUDGET_BYTES:  # 8-bit weights become float32
            self._remark = "not run, its weights as float32 may take more than 256 MiB"
        self._literal = {} if self._remark else literal_outputs(self.model, self.inputs)
        if any(array.shape != self._final[name].shape for name, array in self._literal.items()):
            self._literal, self._remark = {}, "not compared, onnxruntime gives its outputs other shapes"
        self._reference = ReferenceTensors(self.model, self.inputs)

    def compare(self, values: LayerValues) -> LayerCheck | None:
        """Compare one layer: its free-running outputs, and its outputs on the reference's own inputs.

        Returns None for a layer inside of what is one node in the reference: its outputs exist only here, and what
        follows is compared instead.
        """
        layer = values.layer
        if not all(self._is_known(name) for name in layer.outputs):
            self._force_inside(values)
            return None
        behind = any(name in self._behind_float for name in layer.inputs)
        expected = self._fetch(layer.outputs)
        drifted, free = self._count(values, values.outputs, expected, forced=False)
        forced, where, outputs = drifted, free, values.outputs
        changed = self._changed_input(values) if drifted else None
        if changed is not None:
            outputs = self._forced_outputs(values)
            expected = self._fetch(layer.outputs)
            forced, where = self._count(values, outputs, expected, forced=True)
        if self.dump is not None:
            self.dump.add(layer, values.outputs, expected, outputs if drifted else None)
        steps, sums_mismatched = None, 0
        if layer.exactness == "exact":
            self._note(values, where, layer.operator, outputs, expected)
            if behind:
                self._behind_float.update(layer.outputs)
            elif free is not None and self._first_drift is None:
                self._first_drift = replace(free, diagnosis=inherited(changed) if changed is not None else None)
        else:
            steps = self._measure(layer, outputs, expected)
            self._behind_float.update(layer.outputs)
            sums_mismatched = self._check_sums(values, outputs, expected)
        if isinstance(layer.operator, BY_LAYOUT) or any(name in self._behind_host for name in layer.inputs):
            self._behind_host.update(layer.outputs)
        if isinstance(layer.operator, HostOperator):
            self.host_elements += sum(array.size for array in expected)
        elements = sum(array.size for array in expected)
        check = LayerCheck(elements, forced, drifted, layer.exactness, behind, steps, sums_mismatched)
        self.tensors += len(layer.outputs)
        self.layers.append((layer, check))
        return check

    def _check_sums(self, values: LayerValues, outputs: tuple[Array, ...], expected: list[Array]) -> int:
        """Check the sums of a layer whose results may be a step from the reference's; returns how many are wrong.

        With q31 nothing may differ once the float requantiser takes the same sums. Where onnxruntime computes in float
        there are no sums to compare with: those of an accumulator that cannot overflow stand for them, and what they
        give may be no farther away than float32 sums of the same products are.
        """
        layer = values.layer
        if layer.exactness == "q31":
            operator = float_twin(layer.operator)
            twin = self._forced_outputs(values, operator)
            wrong, where = self._count(values, twin, expected, forced=True)
            self._note(values, where, operator, twin, expected)
            return wrong
        if values.acc is None or not values.acc.overflows:
            return self._check_distance(values, outputs, expected)
        ideal = list(self._forced_outputs(values, accumulator=replace(self.accumulator, bits=_WIDE_BITS)))
        wrong, where = self._count(values, outputs, ideal, forced=True)
        self._note(values, where, layer.operator, outputs, ideal)
        return wrong

    def _check_distance(self, values: LayerValues, outputs: tuple[Array, ...], expected: list[Array]) -> int:
        """Count results that are farther from onnxruntime's than rounding explains: those of another product."""
        if not differing(outputs[0], expected[0]).any():
            return 0
        error = self._error(values, outputs)
        if error is None:
            return 0
        wrong = beyond(outputs[0], expected[0], error)
        count = int(wrong.sum())
        if count:
            first = _first(values.layer, 0, outputs[0], expected[0], wrong, forced=True)
            self._note(values, first, values.layer.operator, outputs, expected)
        return count

    def _error(self, values: LayerValues, outputs: tuple[Array, ...]) -> float | None:
        """Return how far a layer's result on the reference's inputs may be from onnxruntime's, None if that is open."""
        operator, names = values.layer.operator, values.layer.inputs
        known = [self._errors[name] for name in names if name in self._errors]
        if known:
            return step_error(operator, known, outputs[0], half=self._half)
        inputs = [self._reference_input(values, position) for position in range(len(names))]
        return product_error(operator, inputs, half=self._half)

    def _forced_outputs(
        self, values: LayerValues, operator: Operator | None = None, accumulator: AccumulatorFormat | None = None
    ) -> tuple[Array, ...]:
        """Execute a layer, another operator or accumulator in its place, on the reference's own inputs."""
        layer = values.layer
        inputs = [self._reference_input(values, position) for position in range(len(layer.inputs))]
        chosen = operator or layer.operator
        return tuple(execute(chosen, inputs, layer.output_types, accumulator or self.accumulator)[0])

    def _force_inside(self, values: LayerValues) -> None:
        """Keep what a layer that the reference lacks gives on the reference's inputs, for the layers that read it."""
        layer = values.layer
        twin = float_twin(layer.operator)
        same = twin is layer.operator and self._changed_input(values) is None
        outputs = values.outputs if same else self._forced_outputs(values, twin)
        if self.dump is not None and not isinstance(layer.operator, Part):  # a part has no values
            self.dump.add(layer, values.outputs, None, None)
        self._inside.update(zip(layer.outputs, outputs, strict=True))
        error = None if layer.exactness == "exact" else self._error(values, outputs)
        if error is not None:
            self._errors[layer.outputs[0]] = error
        if twin is not layer.operator:
            self._behind_float.update(layer.outputs)
        for group in (self._behind_float, self._behind_host):
            if any(name in group for name in layer.inputs):
                group.update(layer.outputs)

    def _measure(self, layer: Layer, got: tuple[Array, ...], expected: list[Array]) -> int:
        """Record how far results are from onnxruntime's, in steps of the output; returns the largest distance."""
        found = []
        for name, mine, theirs in zip(layer.outputs, got, expected, strict=True):
            steps = _steps(mine, theirs) // (self.decodings[name].stride if name in self.decodings else 1)
            unit: Unit = "ULP" if theirs.dtype.kind == "f" else "LSB"
            share = float((steps > 0).sum() / max(steps.size, 1))
            found.append(FloatReference(name, int(steps.max(initial=0)), share, unit))
        self.distances.setdefault(layer.exactness, []).extend(found)
        return max(distance.max_lsb for distance in found)

    def _reference_input(self, values: LayerValues, position: int) -> Array:
        """Return the reference's tensor at an input position; constants are the same on both sides."""
        name = values.layer.inputs[position]
        if name in self._inside:
            return self._inside[name]
        if name in self.decodings:
            return self._fetch([name])[0].astype(self.decodings[name].dtype)
        if self._is_known(name) or name in self.inputs:
            return self._fetch([name])[0]
        return values.inputs[position]

    def _is_known(self, name: str) -> bool:
        """Tell whether the reference computes a tensor, or the floats that it stands for."""
        return name in self.model.types or (name in self.decodings and self.decodings[name].tensor in self.model.types)

    def _fetch(self, names: Sequence[str]) -> list[Array]:
        """Return the reference's tensors, encoded where ours are codes."""
        codes = [self.decodings.get(name) for name in names]
        arrays = self._reference.fetch([n if c is None else c.tensor for n, c in zip(names, codes, strict=True)])
        return [a if c is None else c.encode(a) for a, c in zip(arrays, codes, strict=True)]

    def _changed_input(self, values: LayerValues) -> str | None:
        """Return the first input of the free run that differs from the reference's."""
        for position, array in enumerate(values.inputs):
            known = self._reference_input(values, position)
            if array is not known and differing(array, known).any():
                return values.layer.inputs[position]
        return None

    def _note(
        self,
        values: LayerValues,
        where: FirstMismatch | None,
        operator: Operator,
        outputs: tuple[Array, ...],
        expected: list[Array],
    ) -> None:
        """Keep and explain the first mismatch of all: of an operator on the reference's own inputs."""
        if where is None or self.first is not None:
            return
        layer = replace(values.layer, operator=operator)
        inputs = tuple(self._reference_input(values, position) for position in range(len(layer.inputs)))
        at = layer.outputs.index(where.tensor)
        case = Case(layer, where.tensor, inputs, outputs[at], expected[at], where.index, self.accumulator)
        self.first = replace(where, diagnosis=diagnose(case, hints_of(self.model)))

    def _count(
        self, values: LayerValues, got: tuple[Array, ...], expected: list[Array], *, forced: bool
    ) -> tuple[int, FirstMismatch | None]:
        """Count differing elements of a layer's outputs, and describe the first one."""
        total, first = 0, None
        for name, mine, theirs in zip(values.layer.outputs, got, expected, strict=True):
            wrong = differing(mine, theirs)
            count = int(wrong.sum())
            total += count
            if count and first is None:
                first = _first(values.layer, values.layer.outputs.index(name), mine, theirs, wrong, forced=forced)
        return total, first

    def verdict(self, program: Program, outputs: Mapping[str, Array]) -> CheckResult:
        """Close the check with the outputs of the whole model.

        An output behind a host operator or a float sum has been compared with the normalised graph like every tensor;
        onnxruntime at ORT_ENABLE_ALL may use other float kernels for it, or add in another order (another memory
        layout): a difference there is only reported.

        Args:
            program: the program, to find the scale of each output.
            outputs: our outputs by name.
        """
        reference = self._final
        differ = {name: int(differing(outputs[name], array).sum()) for name, array in reference.items()}
        strict = {name for name in reference if name not in self._behind_float | self._behind_host}
        wrong = sum(differ[name] for name in strict)
        checks = [check for _, check in self.layers]
        exact = [check for check in checks if check.exactness == "exact"]
        mismatched = sum(check.mismatched for check in exact) + sum(check.sums_mismatched for check in checks)
        drifted = sum(check.drifted for check in exact if not check.behind_float)
        fixed = tuple(self.distances.get("q31", ()))
        first = self.first or self._first_drift
        if wrong and first is None:
            name = next(name for name in reference if name in strict and differ[name])
            first = final_difference(program, name, outputs[name], reference[name])
        verdict = CheckResult(
            reference=self.model.reference.description,
            verdict=_word(mismatched or wrong or drifted, fixed, sum(differ.values())),
            tensors=self.tensors,
            elements=sum(check.elements for check in checks),
            mismatched_elements=mismatched,
            drifted_elements=drifted,
            output_elements=sum(array.size for array in reference.values()),
            output_mismatched=sum(differ.values()),
            first_mismatch=first,
            float_reference=tuple(self.distances.get("float-reference", ())),
            host_elements=self.host_elements,
            q31=fixed,
            notes=notes_of(self.model),
            subject=self.model.reference.subject,
            ignored=ignored_parameters(self.model),
        )
        return self._with_literal(self._with_distances(verdict, program, outputs), program, outputs)

    def _with_distances(self, verdict: CheckResult, program: Program, outputs: Mapping[str, Array]) -> CheckResult:
        """Add how far the outputs are from the reference's, and behind which layer, where that is no mismatch."""
        if verdict.verdict not in ("near", "q31"):
            return verdict
        found = measure_outputs(program, outputs, self._final)
        behind = find_behind(program, self.layers, [output.name for output in found if output.different])
        lsb, ulp = largest_units(found)
        return replace(
            verdict,
            output_distance=whole_distance(found),
            output_lsb=lsb,
            output_ulp=ulp,
            behind="" if behind is None else behind.name,
            behind_operator="" if behind is None else behind.kind,
        )

    def _with_literal(self, verdict: CheckResult, program: Program, outputs: Mapping[str, Array]) -> CheckResult:
        """Add how far the outputs are from those of the file read literally, or why that says nothing."""
        if not self._literal:
            return replace(verdict, literal_remark=self._remark)
        found = whole_distance(measure_outputs(program, outputs, self._literal))
        if not found.share and not fuses_groups(self.model):
            return replace(verdict, literal_remark="the same, since onnxruntime fuses no Q/DQ group of this file")
        return replace(verdict, literal_qdq=found)


def _first(
    layer: Layer, position: int, mine: Array, theirs: Array, wrong: NDArray[np.bool_], *, forced: bool
) -> FirstMismatch:
    """Return the first element of one of a layer's outputs that is wrong."""
    where = tuple(int(index) for index in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    pair = float(mine[where]), float(theirs[where])
    return FirstMismatch(layer.outputs[position], layer.name, where, *pair, forced, layer.kind)


def _word(wrong: int, fixed: Sequence[FloatReference], differing_outputs: int) -> Verdict:
    """Return the verdict in a word."""
    if wrong:
        return "mismatch"
    if fixed:
        return "q31"
    return "near" if differing_outputs else "exact"


def _steps(mine: Array, theirs: Array) -> NDArray[np.int64]:
    """Return how far results are apart: codes in steps, floats in units of the last place of the largest result."""
    if mine.dtype.kind != "f":
        return np.abs(mine.astype(np.int64) - theirs.astype(np.int64))
    place = float(np.spacing(np.abs(theirs).max(initial=np.float32(1e-30))))
    return np.ceil(np.abs(mine.astype(np.float64) - theirs.astype(np.float64)) / place).astype(np.int64)
