"""Values that follow from constants alone, where onnxruntime's optimiser leaves them to be computed in every run.

The optimiser keeps DequantizeLinear of constants, and with it what hangs on them: views, casts, scales of scales. What
such a tensor holds is known before any run; each node is executed once, alone, by onnxruntime.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from accelsim.graph.context import FLOAT_PRODUCTS, Context
from accelsim.graph.importers.host import import_host
from accelsim.operators import HostOperator
from accelsim.reference.host import run_host_operator

Array = NDArray[np.generic]

# A chain of constants that is longer than this is left to the run.
_DEEPEST = 64

# Constants that are computed in every run and are no larger than this are computed before it.
_SMALL_ELEMENTS = 4096

# Products whose scales are operands.
_SCALED = frozenset({"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm"})


@dataclass(eq=False)
class ConstantFolder:
    """Evaluates tensors of a normalised graph that no input reaches; answers are kept."""

    context: Context
    _known: dict[str, Array | None] = field(default_factory=dict, repr=False)
    _fixed: dict[str, bool] = field(default_factory=dict, repr=False)

    def value(self, name: str, depth: int = _DEEPEST) -> Array | None:
        """Return what a tensor holds in every run, None where an input decides it.

        Args:
            name: a tensor of the graph.
            depth: how many nodes may stand behind each other.
        """
        if name in self.context.constants:
            return self.context.constants[name]
        if name not in self._known:
            node = self.context.producer(name)
            self._known[name] = None
            if node is not None and depth:
                self._known.update(self._outputs(node, depth - 1))
        return self._known[name]

    def is_constant(self, name: str, depth: int = _DEEPEST) -> bool:
        """Tell whether no input reaches a tensor, without evaluating it."""
        if name in self.context.constants:
            return True
        if name not in self._fixed:
            node = self.context.producer(name)
            known = node is not None and depth > 0 and bool(node.input)
            self._fixed[name] = known and all(
                not source or self.is_constant(source, depth - 1) for source in (node.input if node else ())
            )
        return self._fixed[name]

    def _outputs(self, node: NodeProto, depth: int) -> dict[str, Array | None]:
        """Execute a node whose inputs are all constant; an empty answer where one is not."""
        if not self.is_constant(node.output[0], depth + 1):
            return {}
        operator = import_host(self.context, node).operator
        if not isinstance(operator, HostOperator):
            return {}
        arrays = [self.value(name, depth) for name in operator.inputs]
        if any(array is None for array in arrays):
            return {}
        names = [name for name in node.output if name]
        known = [array for array in arrays if array is not None]
        return dict(zip(names, run_host_operator(operator, known), strict=True))

    def fold_small(self) -> None:
        """Make constants of small tensors that no input reaches, such as scales that onnxruntime converts."""
        graph = self.context.proto.graph
        # A computed operand stays computed: onnxruntime multiplies by it in another order than by a constant.
        kept = {name for node in graph.node if node.op_type in FLOAT_PRODUCTS for name in node.input}
        kept |= {value.name for value in graph.output}
        parameters = {name for node in graph.node if "Linear" in node.op_type for name in node.input[1:]}
        parameters |= {name for node in graph.node if node.op_type in _SCALED for name in node.input[2:]}
        for node in graph.node:
            names = [name for name in node.output if name]
            small = all(self.context.types[name].elements <= _SMALL_ELEMENTS for name in names)
            weights = node.op_type == "DequantizeLinear" and names[0] not in parameters
            if weights or not small or kept & set(names) or not self.is_constant(names[0]):
                continue
            values = {name: self.value(name) for name in names}
            for name, value in values.items():
                if value is not None:
                    self.context.constants[name] = value
                    self.context.tensors[name] = numpy_helper.from_array(value, name)
