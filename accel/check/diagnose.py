"""Says why one element differs from the reference: both accumulators before requantisation, and a cause if one fits.

Each cause is a hypothesis that is tested by replaying the element: it is named only if the replay under it gives the
reference's value, so that a diagnosis never rests on likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim import operators as ops
from accelsim.check.hints import Hints
from accelsim.check.replay import (
    INT32_HIGHEST,
    INT32_LOWEST,
    Element,
    accumulate_element,
    accumulators_giving,
    before_rounding,
    element_of,
    finish,
    saturating_pairs,
    wrap_to,
)
from accelsim.errors import printable
from accelsim.program.layers import Layer
from accelsim.results.check import AccumulatorEvidence, Diagnosis
from accelsim.values.accumulators import AccumulatorFormat

Array = NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Case:
    """One differing element."""

    layer: Layer
    tensor: str
    inputs: tuple[Array, ...]
    """What the layer read when it went wrong."""
    got: Array
    expected: Array
    """got and expected: the whole output tensors, ours and the reference's."""
    index: tuple[int, ...]
    """Of the first element that differs."""
    accumulator: AccumulatorFormat

    @property
    def ours(self) -> float | int:
        """Our value."""
        value: float | int = self.got[self.index].item()
        return value

    @property
    def theirs(self) -> float | int:
        """The reference's value."""
        value: float | int = self.expected[self.index].item()
        return value


def diagnose(case: Case, hints: Hints) -> Diagnosis:
    """Explain one differing element.

    Args:
        case: the element with everything that was read for it.
        hints: what is known beside it.
    """
    element = element_of(case.layer.operator, case.inputs, case.index, case.got.shape)
    evidence = None if element is None else _evidence(case, element)
    for test in _TESTS:
        found = test(case, hints, element, evidence)
        if found is not None:
            return Diagnosis(*found, evidence)
    return Diagnosis("unknown", _unknown(case, evidence), evidence)


def inherited(tensor: str) -> Diagnosis:
    """Return the diagnosis of a layer that is exact by itself but read a tensor that differed already."""
    return Diagnosis(
        "inputs-differ",
        f"on the reference's own inputs the layer is exact; its input '{printable(tensor)}' differed already",
        None,
    )


def _evidence(case: Case, element: Element) -> AccumulatorEvidence:
    """Collect both accumulators before requantisation."""
    accumulator = case.accumulator
    if isinstance(case.layer.operator, ops.GlobalAveragePool):
        accumulator = AccumulatorFormat()  # the vector unit sums in int32, whatever the array does
    ours, overflows = accumulate_element(element, accumulator)
    exact = element.exact
    ideal = case.layer.exactness == "float-reference"  # a float does not wrap
    interval = accumulators_giving(element, case.theirs)
    return AccumulatorEvidence(
        bits=accumulator.bits,
        terms=len(element.weights),
        ours=ours,
        exact=exact,
        overflows=overflows,
        reference=exact if ideal else wrap_to(exact, 32),
        lowest=None if interval is None else interval[0],
        highest=None if interval is None else interval[1],
        ours_before_rounding=before_rounding(element, ours),
    )


Found = tuple[str, str]
Test = Callable[[Case, Hints, Element | None, AccumulatorEvidence | None], Found | None]


def _overflow(case: Case, hints: Hints, element: Element | None, seen: AccumulatorEvidence | None) -> Found | None:
    """The configured accumulator is too narrow: the exact sum gives the reference's value."""
    if element is None or seen is None or seen.ours == seen.reference:
        return None
    if finish(element, seen.reference) != case.theirs:
        return None
    if not INT32_LOWEST <= seen.exact <= INT32_HIGHEST and seen.ours == seen.exact:
        return "reference-wraps", f"the exact sum {seen.exact:,} does not fit the int32 in which onnxruntime wraps it"
    verb = "saturated" if case.accumulator.overflow == "saturate" else "wrapped"
    return (
        "accumulator-overflow",
        f"the {seen.bits}-bit accumulator {verb} in {seen.overflows:,} of {seen.terms + 1:,} steps; "
        f"the exact sum {seen.reference:,} gives the reference's value",
    )


def _saturation(case: Case, hints: Hints, element: Element | None, seen: AccumulatorEvidence | None) -> Found | None:
    """The reference's CPU saturates pair sums at 16 bits: replaying that gives its value."""
    if element is None or not hints.reference_saturates or not element.folded:
        return None
    for order in (list(range(len(element.codes))), element.channels_last):
        total = saturating_pairs(element, order)
        if total is not None and total != element.exact and finish(element, total) == case.theirs:
            return (
                "reference-saturation",
                f"this CPU lacks VNNI: onnxruntime's uint8 x int8 pair sums saturate at 16 bits, which gives {total:,} "
                f"instead of {element.exact:,}; use 7-bit weights, or a CPU with VNNI",
            )
    return None


def _ignored_bias(case: Case, hints: Hints, element: Element | None, seen: AccumulatorEvidence | None) -> Found | None:
    """The bias was taken with its own scale by one side, and with the operands' scales by the other."""
    ratio = hints.bias_ratios.get(case.tensor)
    if ratio is None or element is None or seen is None:
        return None
    scaled = seen.exact - element.bias + round(element.bias * ratio)
    if scaled == seen.exact or finish(element, wrap_to(scaled, 32)) != case.theirs:
        return None
    return (
        "bias-scale",
        f"the scale of the bias is {ratio:g} times the product of the operands' scales, which our kernel takes: "
        f"with its own scale the sum would be {scaled:,} instead of {seen.exact:,}, which gives the reference's value",
    )


def _collapsed(case: Case, hints: Hints, element: Element | None, seen: AccumulatorEvidence | None) -> Found | None:
    """The reference used the file's own QuantizeLinear where the optimiser had merged two pairs into one."""
    literal = hints.collapsed.get(case.tensor)
    if literal is None or case.inputs[0].dtype.kind != "f":
        return None
    scaled = float(np.float32(np.broadcast_to(case.inputs[0], case.got.shape)[case.index]) / literal.scale)
    zero = literal.output.zero_point
    code = int(np.rint(min(max(scaled, literal.output.lowest - zero), literal.output.highest - zero))) + zero
    if code != case.theirs:
        return None
    return (
        "collapsed-qdq",
        f"onnxruntime's optimiser merges the two Q/DQ pairs here into one; the file's own scale {literal.scale:g} and "
        f"zero point {zero} give the reference's value",
    )


def _tie(case: Case, hints: Hints, element: Element | None, seen: AccumulatorEvidence | None) -> Found | None:
    """The value before rounding is within an ulp or two of the middle between both codes."""
    if case.got.dtype.kind not in "iu" or abs(case.ours - case.theirs) != 1:
        return None
    if seen is not None:
        value = seen.ours_before_rounding
        pair = None if value is None else (value, float(np.spacing(np.float32(abs(value)))))
    else:
        pair = _value_before_rounding(case)
    if pair is None or not math.isfinite(pair[0]):
        return None
    value, ulp = pair
    off = abs(value - math.floor(value) - 0.5)
    if off > 2 * ulp:  # a multiplier that is one ulp off moves its product by up to two
        return None
    place = "exactly half way" if off == 0 else f"{off:.2g} (float32 ulp: {ulp:.2g}) away from half way"
    return "rounding-tie", f"the value before rounding, {value:.9g}, is {place} between both codes"


def _kernel(case: Case, hints: Hints, element: Element | None, seen: AccumulatorEvidence | None) -> Found | None:
    """The replay in exact integers gives the reference's value: our own kernel is wrong."""
    if element is None or seen is None or finish(element, seen.ours) != case.theirs:
        return None
    return (
        "kernel",
        "a replay of this element in exact integers gives the reference's value, so the kernel that computed it is "
        "wrong: please report it",
    )


def _offset(case: Case, hints: Hints, element: Element | None, seen: AccumulatorEvidence | None) -> Found | None:
    """Most elements are off by one and the same number of steps."""
    if case.got.dtype.kind not in "iu" or case.got.size < 8:
        return None
    steps = case.got.astype(np.int64) - case.expected.astype(np.int64)
    wrong = steps[steps != 0]
    step = int(steps[case.index])
    if wrong.size * 2 < steps.size or (wrong != step).any():
        return None
    return (
        "constant-offset",
        f"all {wrong.size:,} differing elements of {steps.size:,} are off by {step:+d}, as if the zero points of "
        f"both sides differed",
    )


# In the order of how much they prove.
_TESTS: tuple[Test, ...] = (_overflow, _saturation, _ignored_bias, _collapsed, _kernel, _offset, _tie)


def _unknown(case: Case, seen: AccumulatorEvidence | None) -> str:
    """Say what is known where no cause fits."""
    if isinstance(case.layer.operator, ops.HostOperator):
        return "onnxruntime alone on this node gives other values than inside of the graph"
    if seen is None:
        return "no known cause fits"
    if seen.lowest is None or seen.highest is None:
        return "no known cause fits: no accumulator gives the reference's value"
    gap = seen.lowest - seen.ours if seen.ours < seen.lowest else seen.ours - seen.highest
    return f"no known cause fits: our accumulator is {gap:,} outside of those that give the reference's value"


def _value_before_rounding(case: Case) -> tuple[float, float] | None:
    """Return the value that an elementwise operator rounds to a code, and one float32 ulp of its largest term."""
    op, shape = case.layer.operator, case.got.shape
    picked = [
        float(np.broadcast_to(array, shape)[case.index])
        for array in case.inputs
        if np.broadcast_shapes(array.shape, shape) == shape
    ] if isinstance(op, _ELEMENTWISE) else []  # fmt: skip
    terms: tuple[float, ...] = ()
    if isinstance(op, ops.ElementwiseAdd) and len(picked) == 2:
        ratios = float(op.ratio_first), float(op.ratio_second)
        zeros = op.first.zero_point, op.second.zero_point
        offset = op.output.zero_point - ratios[0] * zeros[0] - ratios[1] * zeros[1]
        terms = (picked[0] * ratios[0], picked[1] * ratios[1], offset)
    elif isinstance(op, ops.ElementwiseMultiply) and len(picked) == 2:
        product = (picked[0] - op.first.zero_point) * (picked[1] - op.second.zero_point)
        terms = (product * float(op.ratio), float(op.output.zero_point))
    elif isinstance(op, ops.Quantise) and len(picked) == 1:
        terms = (picked[0] / float(op.scale),)
    if not terms or not all(map(math.isfinite, terms)):
        return None
    largest = max(abs(sum(terms)), *(abs(term) for term in terms))
    return sum(terms), float(np.spacing(np.float32(largest)))


_ELEMENTWISE = (ops.ElementwiseAdd, ops.ElementwiseMultiply, ops.Quantise)
