"""The file as it was checked, indexed: who makes each tensor, what it is quantised to, its small constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from accelsim.graph.load.tensor_checks import model_constants
from accelsim.graph.normalise.normalise import NormalisedModel
from accelsim.operators import CodeFormat, Quantise


@dataclass(frozen=True, eq=False)
class Source:
    """The nodes of the file, who makes each tensor, what it is quantised to, and its constants."""

    nodes: tuple[NodeProto, ...]
    makers: Mapping[str, NodeProto]
    quantised: Mapping[str, str]
    constants: Mapping[str, TensorProto]

    @classmethod
    def of(cls, model: NormalisedModel) -> Source:
        """Index the checked file."""
        nodes = tuple(model.source.graph.node)
        makers = {name: node for node in nodes for name in node.output}
        quantised = {node.input[0]: node.output[0] for node in nodes if node.op_type == "QuantizeLinear"}
        return cls(nodes, makers, quantised, model_constants(model.source))

    def maker(self, name: str, kind: str) -> NodeProto | None:
        """Return the node of a kind that makes a tensor."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == kind else None

    def values(self, node: NodeProto, position: int) -> NDArray[np.generic] | None:
        """Return a constant operand, None where it is computed or too large to be held here."""
        return self.value(node.input[position]) if position < len(node.input) else None

    def value(self, name: str) -> NDArray[np.generic] | None:
        """Return a constant by name, None where it is computed or too large to be held here."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def quantise(self, node: NodeProto) -> Quantise | None:
        """Return a QuantizeLinear with one constant scale and an integer zero point."""
        scale, zero = self.values(node, 1), self.values(node, 2)
        if scale is None or zero is None or scale.size != 1 or zero.size != 1 or zero.dtype.kind not in "iu":
            return None
        return Quantise(np.float32(scale.item()), CodeFormat(zero.dtype, int(zero.item())))


def attribute(node: NodeProto, name: str, default: int) -> int:
    """Return an integer attribute of a node."""
    return next((int(found.i) for found in node.attribute if found.name == name), default)
