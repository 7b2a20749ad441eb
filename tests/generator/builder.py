"""A builder of models that spells quantisers in all the ways that exporters do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.strategies import MICROSOFT, Builder, Quantisation

WIDE = (np.dtype(np.uint16), np.dtype(np.int16))


@dataclass
class GraphBuilder(Builder):
    """Varies what means the same: a scale as scalar or vector, a zero point of 0 left out, 16 bits before opset 21.

    vectors: write all scales as vectors of one; onnxruntime then refuses additions, products and average pools.
    """

    vectors: bool = False

    def quantise(self, real: str, code: Quantisation) -> str:
        """Real to code."""
        return self.node("QuantizeLinear", [real, *self._stated(code, np.uint8)], self._domain(code))

    def dequantise(self, codes: str, code: Quantisation, axis: int | None = None) -> str:
        """Code to real; per channel along an axis."""
        along = axis if np.ndim(code.scale) else None
        parameters = self._stated(code, code.dtype)
        return self.node("DequantizeLinear", [codes, *parameters], self._domain(code), axis=along)

    def _domain(self, code: Quantisation) -> str:
        """Return the domain whose quantisers know a type: those of ONNX learned 16 bits with opset 21."""
        return MICROSOFT if code.dtype in WIDE and self.opset < 21 else ""

    def _stated(self, code: Quantisation, implied: Any) -> list[str]:
        """Return scale and zero point; a zero point that is 0 of the implied type may be left out."""
        if np.ndim(code.scale) == 0 and self.vectors:
            return [self.constant([code.scale], np.float32), self.constant(np.reshape(code.zero_codes, (1,)))]
        names = self.parameters(code)
        silent = code.dtype == np.dtype(implied) and not np.any(code.zero_codes.astype(np.int32))
        return names[:1] if silent and not np.ndim(code.scale) and self.draw.chance(30) else names
