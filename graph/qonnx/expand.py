"""QONNX nodes replaced by the standard float32 operators that spell their definition: what onnxruntime then executes.

A quantiser y = (round(clip(x / scale + zero point)) - zero point) * scale becomes Div, Add, Clip, Round, Add, Mul. The
zero point is taken away by adding its negative (+0.0 for none), which is the same number and leaves no negative zero:
codes have none. The operators need opset 13; older models are raised to it with placeholders for the quantisers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from accelsim.errors import InvalidModelError, UnsupportedModelError, reason_of
from accelsim.graph.qonnx.quantisers import QonnxNode, in_qonnx_domain, read_quantisers
from accelsim.operators.uniform import Quantiser

OLDEST_OPSET = 9  # of a QONNX file
_OPSET = 13

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ExpandedQuantiser:
    """A quantiser of the expanded graph: where its codes (as floats) and values are, which tensors are inside."""

    label: str
    operator: str
    source: str
    output: str
    code: str
    inside: tuple[str, ...]
    quantiser: Quantiser


def expand_quantisers(
    proto: ModelProto, constants: Mapping[str, TensorProto], name: str
) -> tuple[ModelProto, tuple[ExpandedQuantiser, ...]]:
    """Replace every QONNX node of a model without findings by standard operators.

    Args:
        proto: the model; it is left as it is.
        constants: its constants by name.
        name: the model's name, for messages.

    Returns:
        The model in standard operators, and its quantisers in the order of the graph.

    Raises:
        InvalidModelError: an attribute or parameter of a quantiser is outside of its domain.
        UnsupportedModelError: the model's other operators cannot be raised to opset 13.
    """
    nodes = {node.output: node for node in read_quantisers(proto, constants)}
    raised = _raised(_with_placeholders(proto), name)
    taken = {output for node in raised.graph.node for output in node.output} | set(constants)
    expanded, quantisers = [], []
    for node in raised.graph.node:
        known = nodes.get(node.output[0]) if node.op_type == "Identity" else None
        if known is None:
            expanded.append(node)
            continue
        builder = _Expansion(known, taken)
        builder.build()
        raised.graph.initializer.extend(builder.constants)
        expanded.extend(builder.nodes)
        inside = tuple(part.output[0] for part in builder.nodes[:-1])
        quantisers.append(
            ExpandedQuantiser(
                known.label, known.operator, known.source, known.output, builder.code, inside, known.quantiser
            )
        )
    if len(quantisers) != len(nodes):
        raise InvalidModelError(f"{name}: quantisers were lost while the opset was raised: export with opset 13")
    del raised.graph.node[:]
    raised.graph.node.extend(expanded)
    return raised, tuple(quantisers)


def _with_placeholders(proto: ModelProto) -> ModelProto:
    """Copy a model, every quantiser an Identity of the same name, the QONNX domains no longer imported."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        if in_qonnx_domain(node.domain):
            node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output[:1], name=node.name))
    kept = [entry for entry in copy.opset_import if not in_qonnx_domain(entry.domain)]
    del copy.opset_import[:]
    copy.opset_import.extend(kept)
    return copy


def _raised(proto: ModelProto, name: str) -> ModelProto:
    """Raise the standard operators to opset 13 with onnx's own converter, if they are older."""
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=_OPSET)
    if opset >= _OPSET:
        return proto
    try:
        return version_converter.convert_version(proto, _OPSET)
    except Exception as error:  # the converter raises several unrelated types
        raise UnsupportedModelError(
            f"{name}: onnx cannot raise its operators from opset {opset} to {_OPSET} ({reason_of(error, 160)}): export "
            f"it with opset {_OPSET} or later"
        ) from None


@dataclass
class _Expansion:
    """Builds the operators of one quantiser, constants beside them."""

    node: QonnxNode
    taken: set[str]
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    code: str = ""

    def build(self) -> None:
        """Fill nodes, constants and the name of the tensor of codes."""
        quantiser, value = self.node.quantiser, self.node.source
        if quantiser.divide:
            value = self._binary("Div", value, quantiser.scale)
            value = self._binary("Add", value, quantiser.zero_point)
        if quantiser.bipolar:
            sign = self._node("GreaterOrEqual", value, self._constant(np.float32(0)))
            value = self._node("Where", sign, self._constant(np.float32(1)), self._constant(np.float32(-1)))
        else:
            value = self._rounded(value)
        self.code = value
        if quantiser.divide:  # 0 - z is +0.0 where there is no zero point
            value = self._binary("Add", value, np.float32(0) - quantiser.zero)
        self._node("Mul", value, self._constant(quantiser.step), output=self.node.output)

    def _rounded(self, value: str) -> str:
        """Add truncation, clip and rounding."""
        quantiser = self.node.quantiser
        if quantiser.shift is not None:
            value = self._binary("Div", self._node("Round", value), np.float32(quantiser.shift))
        if quantiser.lowest is not None and quantiser.highest is not None:
            bounds = [self._constant(np.float32(bound)) for bound in (quantiser.lowest, quantiser.highest)]
            value = self._node("Clip", value, *bounds)
        mode = quantiser.rounding
        if mode in ("CEIL", "FLOOR"):
            return self._node(mode.capitalize(), value)
        if mode in ("ROUND", "HALF_EVEN"):
            return self._node("Round", value)
        size = self._node("Abs", value)
        if mode.startswith("HALF"):
            size = self._binary("Add" if mode == "HALF_UP" else "Sub", size, np.float32(0.5))
        size = self._node("Ceil" if mode in ("UP", "HALF_DOWN") else "Floor", size)
        return self._node("Mul", self._node("Sign", value), size)

    def _binary(self, operator: str, value: str, constant: Floats | np.float32) -> str:
        return self._node(operator, value, self._constant(constant))

    def _constant(self, value: Floats | np.float32) -> str:
        name = self._fresh("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def _node(self, operator: str, *inputs: str, output: str = "") -> str:
        result = output or self._fresh(operator)
        self.nodes.append(helper.make_node(operator, list(inputs), [result], name=f"{result}/node"))
        return result

    def _fresh(self, part: str) -> str:
        """Return a name that nothing in the graph has."""
        stem = name = f"{self.node.output}/{self.node.operator}/{part}"
        number = 2
        while name in self.taken:
            name, number = f"{stem}_{number}", number + 1
        self.taken.add(name)
        return name
