"""accel-sim: a bit-exact, cycle-level simulator of a fixed-point neural-network accelerator.

    import accelsim
    model = accelsim.load("model.onnx")
    result = accelsim.run(model, accelsim.Arch(array=(16, 16)))
    result.cycles, result.energy_pj, result.check.verdict

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from accelsim.lazy import importer
from accelsim.version import __version__

if __name__ != "accelsim":
    raise ImportError("import accelsim, not the folder accel/: the same module under two names would not be equal")

if TYPE_CHECKING:
    from accelsim.check.dump import Dump as Dump
    from accelsim.energy.options import EnergyOptions as EnergyOptions
    from accelsim.errors import (
        AccelSimError as AccelSimError,
        InvalidFileError as InvalidFileError,
        InvalidModelError as InvalidModelError,
        ResourceLimitError as ResourceLimitError,
        UnsupportedModelError as UnsupportedModelError,
        UsageError as UsageError,
    )
    from accelsim.explain.operands import zero_point_costs as zero_point_costs
    from accelsim.machine.arch import Arch as Arch
    from accelsim.machine.description import load_arch as load_arch
    from accelsim.quantise.pipeline import Quantised as Quantised, quantize as quantize
    from accelsim.quantise.scheme import Scheme as Scheme
    from accelsim.regression.record import record as record, record_again as record_again, verify as verify
    from accelsim.reports.page.page import report_html as report_html
    from accelsim.results.comparison import Comparison as Comparison
    from accelsim.results.reader import read_result as read_result
    from accelsim.results.result import Result as Result
    from accelsim.simulation.model import Model as Model, load as load
    from accelsim.simulation.run import run as run
    from accelsim.simulation.timeline import TimelineRequest as TimelineRequest
    from accelsim.timing import registers as stepper
    from accelsim.timing.gemm import GemmTiming as GemmTiming, gemm_timing as gemm_timing
    from accelsim.traces.write import write_trace as write_trace

# Where each public name lives.
_HOMES = {
    "AccelSimError": "errors",
    "Arch": "machine.arch",
    "Comparison": "results.comparison",
    "Dump": "check.dump",
    "EnergyOptions": "energy.options",
    "GemmTiming": "timing.gemm",
    "InvalidFileError": "errors",
    "InvalidModelError": "errors",
    "Model": "simulation.model",
    "Quantised": "quantise.pipeline",
    "ResourceLimitError": "errors",
    "Result": "results.result",
    "Scheme": "quantise.scheme",
    "TimelineRequest": "simulation.timeline",
    "UnsupportedModelError": "errors",
    "UsageError": "errors",
    "gemm_timing": "timing.gemm",
    "load": "simulation.model",
    "load_arch": "machine.description",
    "quantize": "quantise.pipeline",
    "read_result": "results.reader",
    "record": "regression.record",
    "record_again": "regression.record",
    "report_html": "reports.page.page",
    "run": "simulation.run",
    "verify": "regression.record",
    "write_trace": "traces.write",
    "zero_point_costs": "explain.operands",
}

__all__ = ["__version__", *_HOMES, "stepper"]

_find = importer("accelsim", _HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives; the stepper is a whole module."""
    return import_module("accelsim.timing.registers") if name == "stepper" else _find(name)


def __dir__() -> list[str]:
    return sorted(__all__)
