"""Post-training quantisation in front of the machine: from a float ONNX model to Q/DQ, and what that costs and loses.

On top of onnxruntime.quantization where it does the job (which tensors get a quantiser, percentile and entropy
calibration); ours where it does not: other ranges, 2 bits, groups, bias correction, equalisation, errors taken apart.

Public names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelsim.lazy import importer

if TYPE_CHECKING:
    from accelsim.quantise.calibrate.calibration import load_calibration as load_calibration
    from accelsim.quantise.grid import (
        CodeSpec as CodeSpec,
        Grid as Grid,
        dequantise as dequantise,
        fit as fit,
        quantise as quantise,
    )
    from accelsim.quantise.measure.analysis import tensor_error as tensor_error
    from accelsim.quantise.measure.three_way import compare_three as compare_three

_HOMES = {
    "CodeSpec": "grid",
    "Grid": "grid",
    "compare_three": "measure.three_way",
    "dequantise": "grid",
    "fit": "grid",
    "load_calibration": "calibrate.calibration",
    "quantise": "grid",
    "tensor_error": "measure.analysis",
}

__all__ = [*_HOMES]

__getattr__ = importer("accelsim.quantise", _HOMES)
