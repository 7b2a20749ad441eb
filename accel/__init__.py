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

from accelsim.version import __version__

if __name__ != "accelsim":
    raise ImportError("import accelsim, not the folder accel/: the same module under two names would not be equal")

if TYPE_CHECKING:
    from accelsim.check.dump import Dump as Dump
    from accelsim.energy.options import EnergyOptions as EnergyOptions
    from accelsim.errors import AccelSimError as AccelSimError
    from accelsim.errors import InvalidFileError as InvalidFileError
    from accelsim.errors import InvalidModelError as InvalidModelError
    from accelsim.errors import ResourceLimitError as ResourceLimitError
    from accelsim.errors import UnsupportedModelError as UnsupportedModelError
    from accelsim.errors import UsageError as UsageError
    from accelsim.explain.operands import zero_point_costs as zero_point_costs
    from accelsim.machine.arch import Arch as Arch
    from accelsim.machine.description import load_arch as load_arch
    from accelsim.quantise.pipeline import Quantised as Quantised
    from accelsim.quantise.pipeline import quantize as quantize
    from accelsim.quantise.scheme import Scheme as Scheme
    from accelsim.regression.record import record as record
    from accelsim.regression.record import record_again as record_again
    from accelsim.regression.record import verify as verify
    from accelsim.reports.page.page import report_html as report_html
    from accelsim.results.comparison import Comparison as Comparison
    from accelsim.results.reader import read_result as read_result
    from accelsim.results.result import Result as Result
    from accelsim.simulation.model import Model as Model
    from accelsim.simulation.model import load as load
    from accelsim.simulation.run import run as run
    from accelsim.simulation.timeline import TimelineRequest as TimelineRequest
    from accelsim.timing import registers as stepper  # noqa: F401 - a public name, no unused import
    from accelsim.timing.gemm import GemmTiming as GemmTiming
    from accelsim.timing.gemm import gemm_timing as gemm_timing
    from accelsim.traces.write import write_trace as write_trace

# Where each public name lives; a module stands for itself.
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
    "stepper": "timing.registers",
    "verify": "regression.record",
    "write_trace": "traces.write",
    "zero_point_costs": "explain.operands",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'accelsim' has no attribute '{name}'")
    home = import_module(f"accelsim.{_HOMES[name]}")
    return home if name == "stepper" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
