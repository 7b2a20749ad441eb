"""Builds the parts of a node whose values onnxruntime alone knows: operands, results that exist only here, the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, Prelude
from accelsim.graph.importers.host import import_host
from accelsim.graph.quantised.codes_of import codes_of
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import ProductPart, VectorPart
from accelsim.operators.epilogues import Rescale
from accelsim.operators.tensors import TensorType

Shape = tuple[int, ...]
# A scale for sums of integers, whatever its value: parts have none.
UNSCALED = Rescale(np.ones(1, np.float32))
FLOATS = {np.dtype(np.float32): "float32", np.dtype(np.float16): "float16"}


@dataclass(frozen=True, eq=False)
class Operand:
    """What a product reads: a tensor, the width of its elements, and the nodes that would make floats of its codes."""

    name: str
    bits: int
    dequantise: tuple[NodeProto, ...] = ()


@dataclass(frozen=True, eq=False)
class Pair:
    """Both operands of a product and the arithmetic that they allow."""

    arithmetic: str
    first: Operand
    second: Operand

    @property
    def inside(self) -> list[NodeProto]:
        """Nodes that need not be executed, since the product reads codes."""
        return [*self.first.dequantise, *self.second.dequantise]


def float_name(context: Context, name: str) -> str:
    """Return the float type of a tensor.

    Raises:
        NotOnTheMachineError: it has none that the energy table knows.
    """
    kind = FLOATS.get(context.types[name].dtype)
    if kind is None:
        raise NotOnTheMachineError("neither float32 nor float16")
    return kind


def pair_of(context: Context, first: str, second: str) -> Pair:
    """Return the operands of a product: integers where both are codes, else floats, of which the second may be codes.

    Args:
        context: the normalised graph.
        first: tensor of floats.
        second: tensor of floats.

    Raises:
        NotOnTheMachineError: the first one has no float type that the energy table knows.
    """
    left, right = codes_of(context, first), codes_of(context, second)
    arithmetic = float_name(context, first)
    width = 8 * context.types[first].dtype.itemsize
    if right is None:
        return Pair(arithmetic, Operand(first, width), Operand(second, 8 * context.types[second].dtype.itemsize))
    other = Operand(right.name, right.bits, right.nodes)
    if left is not None and left.scales == 1 and not left.constant and (right.constant or right.scales == 1):
        return Pair("integer", Operand(left.name, left.bits, left.nodes), other)
    return Pair(arithmetic, Operand(first, width), other)


@dataclass
class PartList:
    """Collects the parts of one node in the order of execution."""

    context: Context
    node: NodeProto
    preludes: list[Prelude] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    inside: list[NodeProto] = field(default_factory=list)

    def _tensor(self, kind: str, dtype: np.dtype[np.generic], shape: Shape) -> str:
        label = next(filter(None, self.node.output))
        name = self.context.fresh(f"{label}/{kind}")
        while name in self.types:
            name += "'"
        self.types[name] = TensorType(dtype, shape)
        return name

    def product(self, kind: str, part: ProductPart, inputs: Sequence[str], shape: Shape, dtype: str) -> str:
        """Add a product; returns the name of its result.

        Args:
            kind: what the part is called behind the name of its node.
            part: the product.
            inputs: its first operand, and its second one where that is computed.
            shape: of the result.
            dtype: of the result.
        """
        name = self._tensor(kind, np.dtype(dtype), shape)
        self.preludes.append(Prelude(kind, part, tuple(inputs), (name,), (self.types[name],)))
        return name

    def vector(
        self, kind: str, part: VectorPart, inputs: Sequence[str], results: Sequence[tuple[str, str, Shape]]
    ) -> list[str]:
        """Add work of the vector unit or a copy; returns the names of its results.

        Args:
            kind: what the part is called behind the name of its node.
            part: the work; without a number of units, each element of its first result is one.
            inputs: what it reads.
            results: name, dtype and shape of each result.
        """
        names = [self._tensor(name, np.dtype(dtype), shape) for name, dtype, shape in results]
        types = tuple(self.types[name] for name in names)
        whole = replace(part, units=max(types[0].elements, 1)) if part.units == 1 else part
        self.preludes.append(Prelude(kind, whole, tuple(inputs), tuple(names), types))
        return names

    def finish(self, part: ProductPart | VectorPart, inputs: Sequence[str]) -> Imported:
        """Return the node itself, whose values onnxruntime computes, priced as its last part.

        Args:
            part: the last part.
            inputs: what it reads.
        """
        inside = list({id(node): node for node in self.inside}.values())
        imported = import_host(self.context, self.node, *inside, part=part, priced=tuple(inputs))
        return Imported(imported.operator, imported.inputs, tuple(self.preludes))
