"""Quantisation as a property of tensors: which float tensors hold nothing but codes times a scale.

One walk over the normalised graph decides it for every tensor: from DequantizeLinear, from spelled-out quantisers
(Div, Round, Clip, Mul) and from constants, through everything that keeps codes codes: views, transposes and other
movements, Concat of one scale, Relu and Clip on the grid, factors and casts. What reads such a tensor may read the
codes instead; where they do not exist in the graph yet, a layer that makes them is derived.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.graph.context import Context
from accelsim.graph.ir import Node
from accelsim.graph.load.constraints import node_label
from accelsim.graph.quantised.constant_folding import ConstantFolder
from accelsim.graph.quantised.tensor import NotOnTheMachineError, QuantisedTensor
from accelsim.operators import CodeFormat, Operator
from accelsim.operators.tensors import TensorType
from accelsim.operators.uniform import Decoding

Array = NDArray[np.generic]
Floats = NDArray[np.float32]

# Codes that the array multiplies; int32 stands for a bias.
CODES = {np.dtype(name) for name in ("uint8", "int8", "uint16", "int16")}


@dataclass(frozen=True)
class Rounded:
    """Whole numbers in a float tensor: the tensor that was rounded, and what was added since."""

    source: str
    shift: int = 0


@dataclass(eq=False)
class Quantisation:
    """What the walk found: quantised tensors by name, and what had to be derived for them."""

    context: Context
    folder: ConstantFolder
    tensors: dict[str, QuantisedTensor] = field(default_factory=dict)
    rounded: dict[str, Rounded] = field(default_factory=dict)
    clipped: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """rounded and clipped: parts of quantisers that are spelled in float operators, so far."""
    derived: dict[str, list[Node]] = field(default_factory=dict)
    """Layers that make codes, by the float tensor that they stand for."""
    decodings: dict[str, Decoding] = field(default_factory=dict)
    """By tensor of codes, what it stands for in the reference."""
    reasons: dict[str, str] = field(default_factory=dict)
    """By tensor, why it is not quantised although something before it is."""

    def get(self, name: str) -> QuantisedTensor | None:
        """Return what is known of a float tensor, None where it is no multiple of codes."""
        return self.tensors.get(name)

    def code(self, tensor: QuantisedTensor) -> CodeFormat:
        """Return the format of the codes of a tensor; a zero point known at run time only counts as 0."""
        zero_point = int(tensor.zero_points[0]) if tensor.zero_points.size == 1 else 0
        return self.context.format_of(tensor.name, zero_point)

    def is_constant(self, tensor: QuantisedTensor) -> bool:
        """Tell whether the codes of a tensor are known before the run."""
        return tensor.name in self.context.constants

    def add_constant(self, label: str, codes: Array, like: str = "") -> str:
        """Register constant codes that the file does not hold as such; returns their name.

        Args:
            label: the tensor that they are, or stand for.
            codes: what it holds.
            like: a tensor of codes whose limits they keep.
        """
        name = self.context.fresh(f"{label}/codes")
        self.context.add_constant(name, codes)
        for known in (label, like):
            if known in self.context.limits:
                self.context.limits[name] = self.context.limits[known]
        return name

    def derive(
        self,
        float_name: str,
        operator: Operator,
        inputs: tuple[str, ...],
        node: NodeProto,
        shape: tuple[int, ...] | None = None,
        fill: tuple[int, ...] = (),
    ) -> str:
        """Register a layer that makes the codes of a float tensor; returns the name of the codes.

        Args:
            float_name: the tensor that the codes stand for.
            operator: what makes the codes.
            inputs: what it reads.
            node: the node of the graph that makes the float tensor.
            shape: of the codes, where it is not that of the float tensor.
            fill: codes that the operator adds to those it reads.
        """
        codes = self.context.types[inputs[0]]
        output = getattr(operator, "output", None)
        dtype = output.dtype if isinstance(output, CodeFormat) else codes.dtype
        name = self.context.fresh(f"{float_name}/codes")
        self.context.add_type(
            name, TensorType.of(dtype, self.context.types[float_name].shape if shape is None else shape)
        )
        limits = [self.context.limits.get(source) for source in inputs]
        known = [limit for limit in limits if limit is not None]
        if len(known) == len(limits):
            ends = [*fill, *(end for limit in known for end in limit)]
            self.context.limits[name] = min(ends), max(ends)
        label = node_label(node)
        self.derived.setdefault(float_name, []).append(Node(label, node.op_type, operator, inputs, (name,)))
        return name

    def decode(self, codes: str, float_name: str, tensor: QuantisedTensor) -> None:
        """Say which tensor of the reference derived codes stand for, where they give its values to the bit."""
        if tensor.exact and tensor.is_whole:
            zero, dtype = np.float32(tensor.zero), self.context.types[codes].dtype
            self.decodings[codes] = Decoding(float_name, np.asarray(tensor.scale), np.asarray(zero), dtype)


Rule = Callable[[Quantisation, NodeProto], None]


def analyse(
    context: Context, rules: dict[str, Rule], prepare: Callable[[Quantisation], None] | None = None
) -> Quantisation:
    """Walk over a normalised graph and decide for every float tensor whether it is quantised.

    Args:
        context: the normalised graph; constants and types of derived codes are added to it.
        rules: by operator, what its results are when its operands are quantised.
        prepare: registers what is known before the walk.
    """
    found = Quantisation(context, ConstantFolder(context))
    found.folder.fold_small()
    if prepare is not None:
        prepare(found)
    for node in context.proto.graph.node:
        rule = rules.get(node.op_type)
        if rule is None:
            continue
        reason = next((found.reasons[name] for name in node.input if name in found.reasons), "")
        try:
            rule(found, node)
        except NotOnTheMachineError as error:
            reason = str(error)
        if reason:
            found.reasons.update((name, reason) for name in node.output if name and name not in found.tensors)
    return found
