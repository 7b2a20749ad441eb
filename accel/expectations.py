"""What a test may demand of a model's run; a failure says what is wrong and where to look."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arch import load_arch, parse_array
from accelsim.comparison import Comparison
from accelsim.errors import UsageError, nearest, printable
from accelsim.golden import verify
from accelsim.inputs import read_npz
from accelsim.model import load
from accelsim.reports.budgets import cycles_text, energy_budget_text, overflow_text
from accelsim.reports.golden import comparison_lines
from accelsim.reports.terminal import check_lines
from accelsim.result import Result
from accelsim.simulate import run

Array = NDArray[np.generic]

_MACHINE = ("dataflow", "acc_bits", "overflow")
_OPTIONS = (*_MACHINE, "array", "arch", "settings", "inputs", "seed", "reference", "external_data")
_VERIFY = ("model", "cycles_tolerance", "energy_tolerance", "ignore", "external_data")


class ModelRun:
    """One run of a model, with what can be asserted of it; `result` is the whole result."""

    def __init__(self, result: Result) -> None:
        self.result = result

    @property
    def cycles(self) -> int:
        """Cycles of the run."""
        return self.result.cycles

    @property
    def energy_uj(self) -> float:
        """Energy of the run in microjoules."""
        return self.result.energy_pj * 1e-6

    @property
    def outputs(self) -> Mapping[str, Array]:
        """Outputs by name."""
        return self.result.outputs

    def assert_exact(self) -> None:
        """Demand that every tensor equals onnxruntime's; else show the first difference and its cause."""
        __tracebackhide__ = True
        if self.result.check.verdict != "exact":
            lines = "\n".join(line.plain for line in check_lines(self.result.check))
            raise AssertionError(f"{self._name} is not bit-exact:\n{lines}")

    def assert_cycles(self, *, at_most: float, tolerance: float = 0.0) -> None:
        """Demand a budget of cycles; else show the layers that take most of them.

        Args:
            at_most: the budget.
            tolerance: share of the budget that may be spent beyond it.
        """
        __tracebackhide__ = True
        if self.cycles > _limit("cycles", at_most, tolerance):
            raise AssertionError(cycles_text(self.result, at_most, tolerance))

    def assert_energy_uj(self, *, at_most: float, tolerance: float = 0.0) -> None:
        """Demand a budget of energy in microjoules; else show the components and layers that take most of it.

        Args:
            at_most: the budget, in microjoules.
            tolerance: share of the budget that may be spent beyond it.
        """
        __tracebackhide__ = True
        if self.energy_uj > _limit("energy_uj", at_most, tolerance):
            raise AssertionError(energy_budget_text(self.result, at_most, tolerance))

    def assert_no_overflow(self) -> None:
        """Demand that no accumulator overflowed; else show where, and how many bits would have been enough."""
        __tracebackhide__ = True
        if any(layer.acc is not None and layer.acc.overflows for layer in self.result.layers):
            raise AssertionError(overflow_text(self.result))

    def assert_demands(self, demands: Mapping[str, Any]) -> None:
        """Check what a marker demands: exact, cycles, energy_uj, no_overflow, tolerance."""
        __tracebackhide__ = True
        tolerance = demands.get("tolerance", 0.0)
        if demands.get("exact", True):
            self.assert_exact()
        if demands.get("no_overflow", False):
            self.assert_no_overflow()
        if demands.get("cycles") is not None:
            self.assert_cycles(at_most=demands["cycles"], tolerance=tolerance)
        if demands.get("energy_uj") is not None:
            self.assert_energy_uj(at_most=demands["energy_uj"], tolerance=tolerance)

    @property
    def _name(self) -> str:
        return printable(self.result.model.name, 60)


def _limit(name: str, budget: object, tolerance: object) -> float:
    """Return a budget with its tolerance.

    Raises:
        UsageError: one of them is no finite number, or negative.
    """
    __tracebackhide__ = True
    for label, value in ((f"the budget of {name}", budget), ("the tolerance", tolerance)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= float(value) < float("inf"):  # type: ignore[arg-type]
            raise UsageError(f"{label} is {value!r}: give a number that is not negative")
    return float(budget) * (1 + float(tolerance))  # type: ignore[arg-type]


def _known(options: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Refuse an option that does not exist."""
    __tracebackhide__ = True
    for name in options:
        if name not in names:
            raise UsageError(f"there is no option '{printable(str(name))}' ({nearest(str(name), names)})")


def run_model(path: str, options: Mapping[str, Any]) -> ModelRun:
    """Run a model with the options of the fixture; see accelsim.pytest_plugin.AccelSim."""
    _known(options, _OPTIONS)
    array, inputs, settings = options.get("array"), options.get("inputs"), options.get("settings") or ()
    machine = load_arch(
        None if options.get("arch") is None else str(options["arch"]),
        (settings,) if isinstance(settings, str) else tuple(settings),
        array=None if array is None else parse_array(array),
        **{name: options.get(name) for name in _MACHINE},
    )
    feeds = read_npz(inputs) if isinstance(inputs, str | Path) else inputs
    reference = options.get("reference", "ort")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of libraries are not of the test that asked
        model = load(path, external_data=options.get("external_data"), reference=reference)
        return ModelRun(run(model, machine, feeds, seed=options.get("seed", 0)))


def verify_golden(path: str, options: Mapping[str, Any]) -> Comparison:
    """Verify a golden folder; raises AssertionError with the differences if there are any."""
    __tracebackhide__ = True
    _known(options, _VERIFY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        comparison = verify(path, **options)
    if not comparison.equal:
        raise AssertionError("\n".join(line.plain for line in comparison_lines(comparison)))
    return comparison
