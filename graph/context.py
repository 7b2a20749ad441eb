"""What an importer may ask about the normalised graph: constants, types, attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from accelsim.graph.quantised.tensor import NotOnTheMachineError, QuantisedTensor
from accelsim.operators import CodeFormat, Operator
from accelsim.operators.codes import code_bits
from accelsim.operators.tensors import BITS, TensorType, bounds, is_narrow

# Float products of matrices, onnxruntime's own forms included, and all float products of which both operands may be
# codes.
MATRIX_PRODUCTS = ("MatMul", "FusedMatMul", "TransposeMatMul", "Gemm", "FusedGemm")
FLOAT_PRODUCTS = frozenset({*MATRIX_PRODUCTS, "Conv", "FusedConv", "ConvTranspose"})


@dataclass(frozen=True, eq=False)
class Prelude:
    """An operator that the machine executes before the one that replaces a node: part of the same node elsewhere."""

    kind: str
    operator: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: tuple[TensorType, ...]


@dataclass(frozen=True, eq=False)
class Imported:
    """An operator and the names of the tensors it reads at run time; preludes are executed before it."""

    operator: Operator
    inputs: tuple[str, ...]
    preludes: tuple[Prelude, ...] = ()


@dataclass(frozen=True, eq=False)
class Context:
    """The normalised graph, indexed; constants and types grow by the codes that are derived from it."""

    proto: ModelProto
    tensors: dict[str, TensorProto]
    constants: dict[str, NDArray[np.generic]]
    types: dict[str, TensorType]
    opset: int
    producers: Mapping[str, NodeProto]
    limits: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By tensor of codes, the smallest and largest code, where a Clip of codes makes them fewer than the type has."""
    quantised: dict[str, QuantisedTensor] = field(default_factory=dict)
    """Float tensors that hold codes times a scale."""

    @classmethod
    def build(
        cls, proto: ModelProto, types: Mapping[str, TensorType], shared: Mapping[str, NDArray[np.generic]]
    ) -> Context:
        """Index a normalised model.

        Args:
            proto: the normalised model.
            types: types of its inputs and of what its nodes produce.
            shared: constants that are in memory as arrays already; reading them from the model would copy them.
        """
        tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
        constants = {
            name: shared[name] if name in shared else numpy_helper.to_array(tensor) for name, tensor in tensors.items()
        }
        known = {name: TensorType.of(array.dtype, array.shape) for name, array in constants.items()} | dict(types)
        opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)
        producers = {name: node for node in proto.graph.node for name in node.output if name}
        return cls(proto, tensors, constants, known, opset, producers)

    def producer(self, name: str) -> NodeProto | None:
        """Return the node that writes a tensor, None for constants and inputs of the graph."""
        return self.producers.get(name)

    def constant(self, node: NodeProto, position: int) -> NDArray[np.generic]:
        """Return the constant at an input position.

        Raises:
            NotOnTheMachineError: the input is missing or computed.
        """
        name = node.input[position] if position < len(node.input) else ""
        if name not in self.constants:
            raise NotOnTheMachineError(f"input {position} is not constant")
        return self.constants[name]

    def optional(self, node: NodeProto, position: int) -> NDArray[np.generic] | None:
        """Return the constant at an input position, or None when the input is absent."""
        if position >= len(node.input) or not node.input[position]:
            return None
        return self.constant(node, position)

    def scale(self, node: NodeProto, position: int) -> np.float32:
        """Return a float32 scale for a whole tensor."""
        value = self.constant(node, position)
        if value.size != 1 or value.dtype != np.float32:
            raise NotOnTheMachineError(f"input {position} is not one float32 scale")
        return np.float32(value.reshape(-1)[0])

    def scales(self, node: NodeProto, position: int) -> NDArray[np.float32]:
        """Return float32 scales, one or one per channel, as a vector."""
        value = self.constant(node, position)
        if value.dtype != np.float32:
            raise NotOnTheMachineError(f"input {position} does not hold float32 scales")
        return value.reshape(-1).astype(np.float32)

    def zero_point(self, node: NodeProto, position: int) -> int:
        """Return the zero point of a whole tensor; an absent one is 0."""
        value = self.optional(node, position)
        if value is None:
            return 0
        if value.size != 1:
            raise NotOnTheMachineError(f"input {position} is not one zero point")
        return int(value.reshape(-1)[0])

    def fresh(self, name: str) -> str:
        """Return a name that no tensor of the graph has."""
        while name in self.types:
            name += "'"
        return name

    def computed_scalar(self, node: NodeProto, position: int) -> str | None:
        """Return the name of a parameter that is computed at run time; None when it is constant or absent.

        Raises:
            NotOnTheMachineError: it is computed, but more than one value.
        """
        name = node.input[position] if position < len(node.input) else ""
        if not name or name in self.constants:
            return None
        if self.types[name].elements != 1:
            raise NotOnTheMachineError(f"input {position} is computed and has several values")
        return name

    def code(self, name: str, zero_point: int) -> CodeFormat:
        """Return the format of an 8-bit tensor."""
        dtype = self.types[name].dtype
        if dtype not in (np.dtype(np.uint8), np.dtype(np.int8)):
            raise NotOnTheMachineError(f"'{name}' does not hold 8-bit codes")
        return self.format_of(name, zero_point)

    def format_of(self, name: str, zero_point: int) -> CodeFormat:
        """Return the format of a tensor of codes of any width, limits included."""
        dtype, limits = self.types[name].dtype, self.limits.get(name)
        if is_narrow(dtype):  # numpy knows no limits of types of less than a byte
            return CodeFormat(dtype, zero_point, limits or bounds(dtype), BITS[dtype.name])
        return CodeFormat(dtype, zero_point, limits, None if limits is None else code_bits(dtype, *limits))

    def bits(self, name: str) -> int | None:
        """Return the width of a tensor's codes where limits make it less than that of the type."""
        return self.format_of(name, 0).bits

    def add_constant(self, name: str, array: NDArray[np.generic]) -> None:
        """Register a constant that the graph does not hold."""
        self.constants[name] = array
        self.types[name] = TensorType.of(array.dtype, array.shape)

    def add_type(self, name: str, kind: TensorType) -> None:
        """Register a tensor that the graph does not hold."""
        self.types[name] = kind


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
