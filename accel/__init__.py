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
    from accelsim.check.dump import Dump
    from accelsim.energy.options import EnergyOptions
    from accelsim.errors import (
        AccelSimError,
        InvalidFileError,
        InvalidModelError,
        ResourceLimitError,
        UnsupportedModelError,
        UsageError,
    )
    from accelsim.machine.arch import Arch, load_arch
    from accelsim.quantise.pipeline import Quantised, quantize
    from accelsim.quantise.scheme import Scheme
    from accelsim.regression.record import record, record_again, verify
    from accelsim.results.comparison import Comparison
    from accelsim.results.result import Result
    from accelsim.simulation.model import Model, load
    from accelsim.simulation.run import run
    from accelsim.timing.gemm import GemmTiming, gemm_timing

_HOMES = {
    "Arch": "machine.arch",
    "load_arch": "machine.arch",
    "Comparison": "results.comparison",
    "Dump": "check.dump",
    "record": "regression.record",
    "record_again": "regression.record",
    "verify": "regression.record",
    "EnergyOptions": "energy.options",
    "AccelSimError": "errors",
    "InvalidFileError": "errors",
    "InvalidModelError": "errors",
    "ResourceLimitError": "errors",
    "UnsupportedModelError": "errors",
    "UsageError": "errors",
    "GemmTiming": "timing.gemm",
    "gemm_timing": "timing.gemm",
    "Model": "simulation.model",
    "load": "simulation.model",
    "Quantised": "quantise.pipeline",
    "quantize": "quantise.pipeline",
    "Scheme": "quantise.scheme",
    "Result": "results.result",
    "run": "simulation.run",
}

__all__ = [
    "AccelSimError",
    "Arch",
    "Comparison",
    "Dump",
    "EnergyOptions",
    "GemmTiming",
    "InvalidFileError",
    "InvalidModelError",
    "Model",
    "Quantised",
    "ResourceLimitError",
    "Result",
    "Scheme",
    "UnsupportedModelError",
    "UsageError",
    "__version__",
    "gemm_timing",
    "load",
    "load_arch",
    "quantize",
    "record",
    "record_again",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'accelsim' has no attribute '{name}'")
    return getattr(import_module(f"accelsim.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
