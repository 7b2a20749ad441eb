"""One graph on the machine and in onnxruntime: what came out of it, in a form that many outcomes can be added up."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from onnx import ModelProto

import accelsim
from accelsim import Arch
from accelsim.errors import AccelSimError, InvalidModelError, ResourceLimitError, UnsupportedModelError
from tests.strategies import Case

# How far a float-reference tensor may be from what onnxruntime computes in float, on onnxruntime's own inputs.
# Codes are one step away at most. Floats are sums of products that onnxruntime rounds one by one, where ours are exact:
# a unit in the last place for each product of the longest sum that is drawn, in units of the largest result.
BOUND_LSB, BOUND_ULP = 1, 512
OUTSIDE = frozenset({"QuantizeLinear", "DequantizeLinear"})
PASSED, REFUSED = "exact", "refused"
# What onnxruntime says or does about valid models: it cannot open them, or its optimiser joins two quantisers whose
# ranges have nothing in common into one with the scale 0.
BEYOND_REPAIR = ("onnxruntime refuses", "DoubleQDQRemoved")


@dataclass(frozen=True)
class Setup:
    """How to run a graph: the machine, and which configuration of onnxruntime it is compared with."""

    machine: Arch
    reference: str = "ort"


@dataclass(frozen=True)
class Distance:
    """How far one float-reference tensor is from onnxruntime's: operator, largest distance, elements that differ."""

    operator: str
    max_lsb: int
    different: float
    elements: int
    unit: str = "LSB"

    @property
    def is_far(self) -> bool:
        """Whether this is more than rounding explains."""
        return self.max_lsb > (BOUND_ULP if self.unit == "ULP" else BOUND_LSB)


@dataclass(frozen=True)
class Outcome:
    """What the check of one graph gave.

    verdict: "exact", "refused", or a failure: "mismatch", "distance", "cycles", "crash"; detail: the reason, without
    names; where: the operator of the machine at fault; operators: op types in the file; kernels: operators of the
    machine with their placement; host_elements: how many of the elements onnxruntime computed itself.
    """

    verdict: str
    detail: str = ""
    where: str = ""
    elements: int = 0
    host_elements: int = 0
    mismatched: int = 0
    macs: int = 0
    overflows: int = 0
    operators: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    distances: tuple[Distance, ...] = ()

    @property
    def failed(self) -> bool:
        """Tell whether this must not happen."""
        return self.verdict not in (PASSED, REFUSED)

    @property
    def signature(self) -> tuple[str, str]:
        """What a smaller graph must have in common with this one to be the same failure."""
        return self.verdict, self.where or re.sub(r"^\w+ \.\.\.", "", self.detail)


def nameless(sentence: str) -> str:
    """Return an error without the names and numbers of one graph, so that equal reasons can be counted."""
    text = re.sub(r"'[^']*\d[^']*'|\([A-Za-z]+_\d+\)|n_\w+", "...", sentence.splitlines()[-1])
    return re.sub(r"\d[\d,.]*", "#", text)[:160]


def verify(case: Case, setup: Setup) -> Outcome:
    """Run a case, with every tensor compared."""
    operators = Counter(node.op_type for node in ModelProto.FromString(case.model).graph.node)
    try:
        result = accelsim.run(accelsim.load(case.model, reference=setup.reference), setup.machine, case.inputs)
    except (UnsupportedModelError, ResourceLimitError) as error:
        return Outcome(REFUSED, nameless(str(error)), operators=operators)
    except InvalidModelError as error:  # what the generator draws is valid, unless onnxruntime says otherwise
        verdict = REFUSED if any(text in str(error) for text in BEYOND_REPAIR) else "crash"
        return Outcome(verdict, nameless(str(error)), operators=operators)
    except AccelSimError as error:
        return Outcome("crash", nameless(str(error)), operators=operators)
    except Exception as error:  # a traceback for the user: the failure that this looks for
        return Outcome("crash", f"{type(error).__name__}: {nameless(str(error) or '-')}", operators=operators)
    return _judge(result, operators)


def _judge(result: Any, operators: Counter[str]) -> Outcome:
    """Turn a result into an outcome."""
    check = result.check
    kernels = Counter(_label(layer) for layer in result.layers)
    distances = tuple(_distances(result))
    wrong = check.mismatched_elements + check.drifted_elements
    verdict, where, detail = PASSED, "", ""
    lost = next((layer for layer in result.layers if sum(layer.cycle_classes.values()) != layer.cycles), None)
    far = next((distance for distance in distances if distance.is_far), None)
    if not check.passed() or wrong:
        names = {layer.name: layer.op for layer in result.layers}
        first = check.first_mismatch
        verdict, where = "mismatch", "the outputs" if first is None else names.get(first.layer, first.layer)
        detail = "outputs differ" if first is None else f"{where}: got {first.got:g}, onnxruntime {first.expected:g}"
    elif lost is not None:
        verdict, where, detail = "cycles", lost.op, f"the classes of cycles of {lost.op} do not add up"
    elif far is not None:
        verdict, where, detail = (
            "distance",
            far.operator,
            f"{far.operator} is {far.max_lsb} {far.unit} from onnxruntime",
        )
    return Outcome(
        verdict,
        detail,
        where,
        check.elements + check.output_elements,
        check.host_elements,
        wrong + (0 if check.passed() else check.output_mismatched),
        sum(layer.macs for layer in result.layers),
        sum(layer.acc.overflows for layer in result.layers if layer.acc is not None),
        operators,
        kernels,
        distances,
    )


def _label(layer: Any) -> str:
    """Name a kernel with its unit; values that are onnxruntime's own prove nothing and are marked."""
    mark = "" if layer.computed_by == "machine" else ", by onnxruntime"
    return f"{layer.op} ({layer.placement}{mark})"


def _distances(result: Any) -> list[Distance]:
    """Return how far float-reference layers are, one after the other."""
    layers = [layer for layer in result.layers if layer.check and layer.check.exactness == "float-reference"]
    operators = [layer.op for layer in layers]
    sizes = [layer.check.elements for layer in layers]
    measured = result.check.float_reference
    if len(measured) != len(layers):  # layers with several outputs: the operator of each is not known
        operators, sizes = ["(several)"] * len(measured), [0] * len(measured)
    return [
        Distance(operator, distance.max_lsb, distance.share * size, size, distance.unit)
        for operator, size, distance in zip(operators, sizes, measured, strict=True)
    ]
