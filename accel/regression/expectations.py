"""What a test may demand of a model's run; a failure says what is wrong and where to look."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import UsageError, printable
from accelsim.graph.load.bindings import parse_bindings
from accelsim.machine.arch import parse_array
from accelsim.machine.description import load_arch
from accelsim.regression.record import verify
from accelsim.reports.terminal.budgets import cycles_text, energy_budget_text, overflow_text
from accelsim.reports.terminal.golden import comparison_lines
from accelsim.reports.terminal.verdict import check_lines
from accelsim.results.comparison import Comparison
from accelsim.results.result import Result
from accelsim.simulation.inputs import read_npz
from accelsim.simulation.model import load
from accelsim.simulation.run import run

Array = NDArray[np.generic]

_MACHINE = ("dataflow", "acc_bits", "overflow")
_OPTIONS = ("array", *_MACHINE, "arch", "settings", "inputs", "seed", "reference", "external_data", "bind")
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
        """Demand that every output equals onnxruntime's bit for bit; else show what differs, and why.

        It is strict: an output that differs behind a float layer (the verdict "near") is not exact.
        """
        __tracebackhide__ = True
        if self.result.check.verdict != "exact":
            raise AssertionError(f"{self._name} is not bit-exact:\n{self._verdict_lines}")

    def assert_near(self, *, max_lsb: float | None = None, max_ulp: float | None = None) -> None:
        """Demand that no layer is wrong, and that outputs behind float layers are within bounds of onnxruntime's.

        Args:
            max_lsb: largest distance of outputs that have a step (codes, and floats that were dequantised), in steps.
            max_ulp: largest distance of other floats, in units in the last place of the largest reference output.
                Without either bound any distance passes; with one, outputs of the other kind must be equal.
        """
        __tracebackhide__ = True
        check = self.result.check
        if check.verdict not in ("exact", "near", "q31"):
            raise AssertionError(f"{self._name} is not near onnxruntime:\n{self._verdict_lines}")
        if max_lsb is None and max_ulp is None:
            return
        for unit, found, bound in (("LSB", check.output_lsb, max_lsb), ("ULP", check.output_ulp, max_ulp)):
            limit = 0.0 if bound is None else _limit(f"max_{unit.lower()}", bound, 0.0)
            if found is not None and not found <= limit:
                allowed = f"{limit:,g} {unit} allowed" if bound is not None else f"no max_{unit.lower()} is given"
                raise AssertionError(f"{self._name} is {found:,g} {unit} away, {allowed}:\n{self._verdict_lines}")

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
        """Check what a marker demands: exact, max_lsb, max_ulp, cycles, energy_uj, no_overflow, tolerance."""
        __tracebackhide__ = True
        tolerance = demands.get("tolerance", 0.0)
        bounds = {name: demands[name] for name in ("max_lsb", "max_ulp") if demands.get(name) is not None}
        if bounds:
            self.assert_near(**bounds)
        if demands.get("exact", not bounds):
            self.assert_exact()
        if demands.get("no_overflow", False):
            self.assert_no_overflow()
        if demands.get("cycles") is not None:
            self.assert_cycles(at_most=demands["cycles"], tolerance=tolerance)
        if demands.get("energy_uj") is not None:
            self.assert_energy_uj(at_most=demands["energy_uj"], tolerance=tolerance)

    @property
    def _verdict_lines(self) -> str:
        return "\n".join(line.plain for line in check_lines(self.result.check))

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


def _known(options: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse an option that does not exist, and name all that do: a test has no --help."""
    __tracebackhide__ = True
    for name in options:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
            meant = f" (did you mean '{close[0]}'?)" if close else ""
            raise UsageError(f"there is no option '{printable(str(name))}'{meant}: valid are {', '.join(names)}")


def check_marker(options: Mapping[str, Any], demands: Sequence[str]) -> None:
    """Refuse what a marker does not take.

    Args:
        options: all keywords of the marker but the model.
        demands: what it takes beside the options of the fixture.

    Raises:
        UsageError: a keyword is none of them.
    """
    __tracebackhide__ = True
    _known(options, (*demands, *_OPTIONS))


def run_model(path: str, options: Mapping[str, Any]) -> ModelRun:
    """Run a model with the options of the fixture; see accelsim.regression.pytest_plugin.AccelSim."""
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
        sizes = parse_bindings(options.get("bind"))
        model = load(path, external_data=options.get("external_data"), reference=reference, bind=sizes)
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
