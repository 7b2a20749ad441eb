"""Everything `accel-sim quantize --report` says, as one frozen tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accelsim.arch import Arch
from accelsim.graph.element_types import size_bytes
from accelsim.quantise.analysis import ErrorAnalysis, analyse
from accelsim.quantise.calibration import Calibration
from accelsim.quantise.compare import ThreeWay, compare_three
from accelsim.quantise.pipeline import Quantised
from accelsim.quantise.progress import Steps
from accelsim.quantise.scheme import Scheme
from accelsim.quantise.sensitivity import Sensitivity, rank_layers

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class QuantisationReport:
    """A quantised model taken apart.

    model, sha256: of the float file; float_bytes, quantised_bytes: of all constants; effective_bits: per weight;
    calibration: where the samples come from; errors, sensitivity, comparison: see their modules.
    """

    model: str
    sha256: str
    scheme: Scheme
    calibration: str
    samples: int
    float_bytes: int
    quantised_bytes: int
    effective_bits: float
    remarks: tuple[str, ...]
    errors: ErrorAnalysis
    sensitivity: tuple[Sensitivity, ...]
    comparison: ThreeWay

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        data = {name: getattr(self, name) for name in ("model", "sha256", "calibration", "samples", "effective_bits")}
        data |= {"float_bytes": self.float_bytes, "quantised_bytes": self.quantised_bytes}
        return data | {
            "schema_version": SCHEMA_VERSION,
            "scheme": self.scheme.to_dict(),
            "remarks": list(self.remarks),
            "errors": self.errors.to_dict(),
            "sensitivity": [row.to_dict() for row in self.sensitivity],
            "comparison": self.comparison.to_dict()
            | {"distances": [vars(d).copy() for d in self.comparison.distances]},
        }

    def to_json(self) -> str:
        """Return the report as JSON: sorted keys, null for NaN and infinities."""
        from accelsim.result import to_json

        return to_json(self.to_dict())


def report_on(
    quantised: Quantised, data: Calibration | None = None, arch: Arch | None = None, steps: Steps | None = None
) -> QuantisationReport:
    """Take a quantised model apart.

    Args:
        quantised: the model.
        data: samples to compare executions on; None takes the calibration samples.
        arch: the machine; None takes the default.
        steps: shows progress.
    """
    model = quantised.model
    return QuantisationReport(
        model.name,
        model.sha256,
        quantised.scheme,
        quantised.data.origin,
        quantised.data.samples,
        sum(size_bytes(tensor) for tensor in model.proto.graph.initializer),
        quantised.parameters_bytes,
        quantised.effective_bits,
        quantised.remarks,
        analyse(quantised, None, steps),
        rank_layers(quantised, None, steps),
        compare_three(quantised, data, arch, steps),
    )
