"""QONNX quantisers: what a Quant, IntQuant, BipolarQuant or Trunc node says, read and checked.

All of them are one arithmetic: scale, round to an integer code, scale back (ONNX Runtime semantics, section 12).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from accelsim.errors import Finding, InvalidModelError, printable
from accelsim.graph.context import attributes
from accelsim.graph.load.constraints import node_label
from accelsim.operators.uniform import ROUNDING_MODES, Quantiser

Floats = NDArray[np.float32]

# Exporters' domains; dialects of the general one have a suffix, the last one is where the nodes were born.
_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
WIDEST_CODE = 8  # bits of an activation or weight
_WIDEST_CONSTANT = 32  # a bias is often quantised to 16 or 32 bits; it is a constant of the accumulators' format

_LARGEST_ZERO_POINT = 1 << 15
# Operators, and how many inputs they have at least and at most.
QUANTISERS = {"Quant": (4, 4), "IntQuant": (4, 4), "BipolarQuant": (2, 2), "Trunc": (5, 6)}


@dataclass(frozen=True, eq=False)
class QonnxNode:
    """One quantiser of a model: where it stands, and what it computes."""

    label: str
    operator: str
    source: str
    output: str
    quantiser: Quantiser


def in_qonnx_domain(domain: str) -> bool:
    """Tell whether a domain holds QONNX operators."""
    return any(domain == known or domain.startswith(f"{known}.") for known in _DOMAINS)


def is_qonnx(proto: ModelProto) -> bool:
    """Tell whether a model has QONNX nodes."""
    return any(in_qonnx_domain(node.domain) for node in proto.graph.node)


def qonnx_findings(proto: ModelProto, constants: Mapping[str, TensorProto]) -> Iterator[Finding]:
    """Say which QONNX nodes cannot run.

    Args:
        proto: the model.
        constants: its constants by name.
    """
    for node in proto.graph.node:
        if in_qonnx_domain(node.domain):
            problem = _problem(node, constants)
            if problem is not None:
                yield Finding(node_label(node), node.op_type, *problem)


def _problem(node: NodeProto, constants: Mapping[str, TensorProto]) -> tuple[str, str] | None:
    """Return reason and remedy when a QONNX node is outside of what is executed."""
    if node.op_type == "FloatQuant":
        return "minifloat codes are not integers, which the array multiplies", "quantise to integers (Quant)"
    if node.op_type not in QUANTISERS:
        return "this QONNX operator is not executed", "export with Quant, IntQuant, BipolarQuant and Trunc only"
    computed = next((name for name in node.input[1:] if name not in constants), None)
    if computed is not None:
        return f"its parameter '{printable(computed, 40)}' is computed at run time", "make it a constant"
    positions = {"BipolarQuant": (), "Trunc": (3, 5) if len(node.input) > 5 else (3, 4)}.get(node.op_type, (3,))
    allowed = _WIDEST_CONSTANT if node.input and node.input[0] in constants else WIDEST_CODE
    for position in positions:
        if position >= len(node.input):
            continue
        values = numpy_helper.to_array(constants[node.input[position]])
        limit = _WIDEST_CONSTANT if node.op_type == "Trunc" and position == 3 else allowed
        if values.size == 1 and np.isfinite(values).all() and float(values.reshape(-1)[0]) > limit:
            bits = f"{float(values.reshape(-1)[0]):g}"
            return f"codes of {bits} bits are wider than {limit}", f"quantise to at most {limit} bits"
    return None


def read_quantisers(proto: ModelProto, constants: Mapping[str, TensorProto]) -> tuple[QonnxNode, ...]:
    """Read the quantisers of a model that has no findings.

    Args:
        proto: the model.
        constants: its constants by name.

    Raises:
        InvalidModelError: an attribute or a parameter is outside of its domain; names the node.
    """
    found = []
    for node in proto.graph.node:
        if in_qonnx_domain(node.domain):
            found.append(_Reader(node, constants).read())
    return tuple(found)


class _Reader:
    """Reads one node, complaining in one sentence that names it."""

    def __init__(self, node: NodeProto, constants: Mapping[str, TensorProto]) -> None:
        self._node = node
        self._constants = constants
        self._attributes = attributes(node)
        self._label = node_label(node)

    def read(self) -> QonnxNode:
        """Return the node's quantiser."""
        node = self._node
        lowest, highest = QUANTISERS[node.op_type]
        if not lowest <= len(node.input) <= highest or len(node.output) != 1 or not all(node.input):
            raise self._invalid(f"has {len(node.input)} inputs and {len(node.output)} outputs")
        read = {"BipolarQuant": self._bipolar, "Trunc": self._truncation}.get(node.op_type, self._uniform)
        return QonnxNode(self._label, node.op_type, node.input[0], node.output[0], read())

    def _bipolar(self) -> Quantiser:
        scale = self._scale(1)
        return Quantiser(scale, np.zeros((), np.float32), bits=1, lowest=-1, highest=1, bipolar=True, divide=False)

    def _uniform(self) -> Quantiser:
        bits, signed, narrow = self._bits(3), self._flag("signed", 1), self._flag("narrow", 0)
        scale, zero_point, rounding = self._scale(1), self._zero_point(2), self._rounding("ROUND")
        if bits == 1 and signed:
            return Quantiser(scale, zero_point, bits=1, lowest=-1, highest=1, bipolar=True)
        lowest, highest = code_range(bits, signed=signed, narrow=narrow)
        return Quantiser(scale, zero_point, bits, lowest, highest, rounding=rounding)

    def _truncation(self) -> Quantiser:
        scale, zero_point, rounding = self._scale(1), self._zero_point(2), self._rounding("FLOOR")
        wide = self._bits(3)
        if len(self._node.input) == 5:
            bits = self._bits(4)
            if bits > wide:
                raise self._invalid(f"truncates {wide} bits to {bits}, which are more")
            # Version 1 does not clamp: codes of `wide` bits leave at most `bits`, others keep what they have.
            return Quantiser(scale, zero_point, bits, None, None, rounding=rounding, shift=2.0 ** (wide - bits))
        bits, signed, narrow = self._bits(5), self._flag("signed", 1), self._flag("narrow", 0)
        out_scale = self._scale(4)
        lowest, highest = code_range(bits, signed=signed, narrow=narrow)
        ratio = np.log2(np.asarray(out_scale / scale, np.float32))
        if np.unique(np.rint(ratio)).size != 1:
            raise self._invalid("has output scales at different distances from its input scales")
        exponent = float(np.rint(ratio).reshape(-1)[0])
        shift = 2.0**exponent
        if not 0 <= exponent < _WIDEST_CONSTANT:
            raise self._invalid(f"has an output scale {shift:g} times its input scale, which is no truncation")
        return Quantiser(
            scale, zero_point, bits, lowest, highest, rounding=rounding, shift=shift, out_scale=out_scale,
            out_zero_point=np.asarray(zero_point / np.float32(shift), np.float32),
        )  # fmt: skip

    def _flag(self, name: str, default: int) -> bool:
        value = self._attributes.get(name, default)
        if value not in (0, 1):
            raise self._invalid(f"has {name}={printable(str(value), 40)}, which must be 0 or 1")
        return bool(value)

    def _rounding(self, default: str) -> str:
        value = self._attributes.get("rounding_mode", default)
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        if text.upper() not in ROUNDING_MODES:
            raise self._invalid(
                f"has the rounding mode '{printable(text, 40)}', not one of {', '.join(ROUNDING_MODES)}"
            )
        return text.upper()

    def _values(self, position: int, what: str) -> NDArray[np.generic]:
        tensor = self._constants[self._node.input[position]]
        values: NDArray[np.generic] = numpy_helper.to_array(tensor)
        if values.size == 0 or values.dtype.kind not in "fiu":
            raise self._invalid(f"has {what} that holds no numbers")
        return values

    def _floats(self, position: int, what: str) -> Floats:
        values = self._values(position, what)
        if values.dtype != np.float32:
            raise self._invalid(f"has {what} of type {values.dtype.name}, which must be float32")
        return values.astype(np.float32)

    def _scale(self, position: int) -> Floats:
        values = self._floats(position, "a scale")
        if not (np.isfinite(values) & (values >= np.finfo(np.float32).tiny)).all():
            raise self._invalid("has a scale that is not finite, positive and at least 1.2e-38")
        return values

    def _zero_point(self, position: int) -> Floats:
        values = self._values(position, "a zero point")
        if values.dtype.kind not in "iu":
            values = self._floats(position, "a zero point")
        whole = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < _LARGEST_ZERO_POINT)
        if not whole.all():
            raise self._invalid(f"has a zero point that is no integer below {_LARGEST_ZERO_POINT:,}")
        return values.astype(np.float32)

    def _bits(self, position: int) -> int:
        values = self._values(position, "a bit width")
        width = float(values.reshape(-1)[0])
        if values.size != 1 or not np.isfinite(width) or width != int(width) or width < 1:
            shown = f"{width:g}" if values.size == 1 else f"of shape {list(values.shape)}"
            raise self._invalid(f"has a bit width {shown}, which must be one integer from 1 on")
        return int(width)

    def _invalid(self, problem: str) -> InvalidModelError:
        return InvalidModelError(f"{self._node.op_type} '{printable(self._label)}' {problem}: quantise the model again")


def code_range(bits: int, *, signed: bool, narrow: bool) -> tuple[int, int]:
    """Return the smallest and the largest code of a width (ONNX Runtime semantics, section 12).

    Args:
        bits: width of a code.
        signed: two's complement.
        narrow: the range is one code shorter: symmetric when signed.
    """
    if signed:
        return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - narrow
