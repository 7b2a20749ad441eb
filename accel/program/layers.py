"""The lowered program: what the machine executes, layer by layer, with the work and the plan of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.operators import HostOperator, Operator
from accelsim.operators.tensors import TensorType
from accelsim.program.plan import NOTHING_KEPT, Kept, Plan
from accelsim.program.work import Work


@dataclass(frozen=True, eq=False)
class Layer:
    """One operator of the program."""

    name: str
    """From the model."""
    kind: str
    """Its operator in the normalised graph."""
    operator: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """inputs and outputs: tensor names (constants that are inside the operator are not inputs)."""
    input_types: tuple[TensorType, ...]
    output_types: tuple[TensorType, ...]
    work: Work
    """What it costs any machine."""
    plan: Plan
    """How this machine does it."""
    exactness: str = "exact"
    """One of "exact", "float-reference" where the reference itself computes in float, or "q31" where the machine's
    requantiser differs from the reference's by design."""
    kept: Kept = NOTHING_KEPT
    """What stays on chip around it."""
    considered: int = 1
    timed: int = 1
    """considered and timed: plans that fit the machine, and those of them that the mapper timed."""
    remark: str = ""
    """What was found out about the operands."""
    part_of: str | None = None
    """Operator of the node that it is a part of, where that takes several layers and onnxruntime alone knows its
    values."""

    @property
    def moved_inputs(self) -> tuple[str, ...]:
        """Tensors that the machine reads; what onnxruntime is given for the values of a node in parts is not moved."""
        return self.inputs[: self._priced]

    @property
    def moved_types(self) -> tuple[TensorType, ...]:
        """Types of the tensors that the machine reads."""
        return self.input_types[: self._priced]

    @property
    def _priced(self) -> int:
        operator = self.operator
        if isinstance(operator, HostOperator) and operator.part is not None:
            return operator.priced_inputs
        return len(self.inputs)


@dataclass(frozen=True)
class Choice:
    """Which of several plans of the whole network was the best."""

    dataflow: str
    """Of all layers, or "best" per layer."""
    rows: bool
    """Whether its layers were timed with open rows."""
    among: int
    """How many plans of the whole network were timed."""


@dataclass(frozen=True, eq=False)
class Program:
    """Layers in execution order, with the tensors that enter, leave and are constant.

    choice: how the network was planned, None where every layer was planned by itself and nothing else was tried.
    """

    inputs: Mapping[str, TensorType]
    outputs: tuple[str, ...]
    constants: Mapping[str, NDArray[np.generic]]
    layers: tuple[Layer, ...]
    choice: Choice | None = None
