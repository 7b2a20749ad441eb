"""Everything that `accel-sim quantize` says about a model, in one call."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from accelsim.machine.arch import Arch
from accelsim.progress import Steps
from accelsim.quantise.calibrate.calibration import Calibration
from accelsim.quantise.measure.analysis import analyse
from accelsim.quantise.measure.sensitivity import rank_layers, ranking_samples
from accelsim.quantise.measure.three_way import compare_three, unjudged
from accelsim.quantise.pipeline import Quantised
from accelsim.results.quantisation import QuantisationReport


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
    model, comparison = quantised.model, compare_three(quantised, data, arch, steps)
    report = QuantisationReport(
        model.name,
        model.sha256,
        hashlib.sha256(quantised.onnx).hexdigest(),
        quantised.scheme.to_dict(),
        quantised.data.origin,
        quantised.data.samples,
        (data or quantised.data).origin,
        ranking_samples(quantised).samples,
        quantised.float_bytes,
        quantised.parameters_bytes,
        quantised.effective_bits,
        (*quantised.remarks, *unjudged(comparison.machine, data or quantised.data)),
        analyse(quantised, None, steps),
        rank_layers(quantised, None, steps),
        comparison,
    )
    return replace(report, remarks=(*report.remarks, *report.missing))
