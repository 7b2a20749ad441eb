"""A network without weights: its layers, their shapes and what they cost; drawing one takes no time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Shape = tuple[int, ...]
Kind = Literal["weight", "bias", "embedding", "gain", "shift"]

MASKED = -12.0  # what a masked score becomes: exp(-12) is less than half a code of a probability of 8 bits


@dataclass(frozen=True)
class Parameter:
    """One learned tensor."""

    name: str
    shape: Shape
    kind: Kind
    spread: float
    """Its standard deviation."""
    axis: int = 0
    """That of a weight's output channels, each of which has its own scale."""


@dataclass(frozen=True)
class Step:
    """One layer: a float operator on activations and parameters, and where the range of its output comes from."""

    operator: str
    """An ONNX operator, or Linear (MatMul + Add), Learned (a parameter as an activation), Input, Codes (an input of
    codes) or Mask (scores of later keys become MASKED)."""
    output: str
    shape: Shape
    inputs: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    integers: tuple[tuple[int, ...] | int, ...] = ()
    activation: str = ""
    """Relu or relu6 behind it."""
    like: str = ""
    """The tensor whose quantisation the output shares."""
    at_least: float = 0.0
    """Reals that the range includes in any case."""
    normalised: bool = False
    """The channels are given mean and variance as batch normalisation does, which is folded into the parameters."""
    macs: int = 0


@dataclass(frozen=True)
class Sketch:
    """A whole network."""

    name: str
    steps: tuple[Step, ...]
    """Its layers in order."""
    outputs: tuple[str, ...]
    """Names of what it returns."""
    caches: tuple[str, ...]
    """Those of them that leave as codes."""
    free_batch: bool
    """Whether the first dimension is left open."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass with a batch of one."""
        return sum(step.macs for step in self.steps)

    @property
    def parameters(self) -> int:
        """Number of parameters, batch normalisation folded into the layer before it."""
        return sum(math.prod(item.shape) for step in self.steps for item in step.parameters)

    @property
    def folded_parameters(self) -> int:
        """How many parameters folding has removed: scale and shift of a channel became its one bias."""
        return sum(step.parameters[-1].shape[0] for step in self.steps if step.normalised)

    @property
    def inputs(self) -> tuple[Step, ...]:
        """The layers that are inputs."""
        return tuple(step for step in self.steps if step.operator in ("Input", "Ids", "Codes"))


@dataclass(frozen=True)
class Tensor:
    """An activation while a network is drawn."""

    name: str
    shape: Shape


def _sliding(size: int, kernel: int, stride: int, pads: int) -> int:
    """Return the number of positions of a window along one axis."""
    return (size + pads - kernel) // stride + 1


@dataclass
class Drawing:
    """A sketch that grows layer by layer; every method returns the tensor of its layer, named after the layer."""

    name: str
    steps: list[Step] = field(default_factory=list)

    def _add(self, operator: str, name: str, shape: Shape, *inputs: Tensor, **more: Any) -> Tensor:
        self.steps.append(Step(operator, name, shape, tuple(item.name for item in inputs), **more))
        return Tensor(name, shape)

    def finish(self, *outputs: Tensor, caches: tuple[Tensor, ...] = (), free_batch: bool = False) -> Sketch:
        """Return the sketch with these outputs, of which the caches come last."""
        kept = tuple(item.name for item in caches)
        return Sketch(self.name, tuple(self.steps), (*(item.name for item in outputs), *kept), kept, free_batch)

    def floats(self, name: str, *shape: int) -> Tensor:
        """Declare an input of floats."""
        return self._add("Input", name, shape)

    def ids(self, name: str, below: int, *shape: int) -> Tensor:
        """Declare an input of int64 indices from 0 to below - 1."""
        return self._add("Ids", name, shape, attributes={"below": below})

    def codes(self, name: str, like: str, *shape: int) -> Tensor:
        """Declare an input of codes with the scale and zero point of another tensor."""
        return self._add("Codes", name, shape, like=like)

    def convolve(
        self,
        x: Tensor,
        name: str,
        filters: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        *,
        pads: tuple[int, int, int, int] | None = None,
        groups: int = 1,
        activation: str = "",
        normalised: bool = True,
    ) -> Tensor:
        """Add a 2-D convolution with bias; pads default to half the kernel on all sides (top, left, bottom, right)."""
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        pads = pads or (rows // 2, columns // 2, rows // 2, columns // 2)
        batch, channels, height, width = x.shape
        size = (_sliding(height, rows, stride, pads[0] + pads[2]), _sliding(width, columns, stride, pads[1] + pads[3]))
        fan_in = channels // groups * rows * columns
        return self._add(
            "Conv",
            name,
            (batch, filters, *size),
            x,
            parameters=(
                Parameter(
                    f"{name}_weight", (filters, channels // groups, rows, columns), "weight", fan_in**-0.5, axis=0
                ),
                Parameter(f"{name}_bias", (filters,), "bias", 0.1),
            ),
            attributes={"kernel_shape": [rows, columns], "strides": [stride] * 2, "pads": list(pads), "group": groups},
            activation=activation,
            normalised=normalised,
            macs=filters * math.prod(size) * fan_in,
        )

    def dense(
        self, x: Tensor, name: str, units: int, *, gain: float = 1.0, activation: str = "", normalised: bool = False
    ) -> Tensor:
        """Add a dense layer with bias over the last axis: Gemm for matrices, MatMul and Add for tensors of rank 3."""
        width = x.shape[-1]
        matrix = len(x.shape) == 2
        weight = Parameter(
            f"{name}_weight",
            (units, width) if matrix else (width, units),
            "weight",
            gain * width**-0.5,
            axis=0 if matrix else 1,
        )
        return self._add(
            "Gemm" if matrix else "Linear",
            name,
            (*x.shape[:-1], units),
            x,
            parameters=(weight, Parameter(f"{name}_bias", (units,), "bias", 0.1)),
            attributes={"transB": 1} if matrix else {},
            activation=activation,
            normalised=normalised,
            macs=math.prod(x.shape) * units,
        )

    def product(self, x: Tensor, y: Tensor, name: str, at_least: float = 0.0) -> Tensor:
        """Add the matrix product of two activations."""
        shape = (*x.shape[:-1], y.shape[-1])
        return self._add("MatMul", name, shape, x, y, at_least=at_least, macs=math.prod(shape) * x.shape[-1])

    def add(self, x: Tensor, y: Tensor, name: str, activation: str = "") -> Tensor:
        """Add the sum of two activations; y may broadcast."""
        return self._add("Add", name, x.shape, x, y, activation=activation)

    def max_pool(self, x: Tensor, name: str, kernel: int, stride: int, pad: int) -> Tensor:
        """Add a square maximum pooling."""
        size = [_sliding(side, kernel, stride, 2 * pad) for side in x.shape[2:]]
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self._add("MaxPool", name, (*x.shape[:2], *size), x, attributes=attributes, like=x.name)

    def global_average(self, x: Tensor, name: str) -> Tensor:
        """Add the mean of every feature map, without the axes of size one that are left."""
        pooled = self._add("GlobalAveragePool", name, (*x.shape[:2], 1, 1), x)
        return self._add("Flatten", f"{name}_flat", x.shape[:2], pooled, attributes={"axis": 1}, like=pooled.name)

    def reshape(self, x: Tensor, name: str, *shape: int) -> Tensor:
        """Add a view of the same elements; the batch stays first."""
        full = (x.shape[0], *shape)
        return self._add("Reshape", name, full, x, integers=((0, *shape),), like=x.name)

    def transpose(self, x: Tensor, name: str, *order: int) -> Tensor:
        """Add a permutation of the axes."""
        shape = tuple(x.shape[axis] for axis in order)
        return self._add("Transpose", name, shape, x, attributes={"perm": list(order)}, like=x.name)

    def concatenate(self, x: Tensor, y: Tensor, name: str, axis: int, like: str = "") -> Tensor:
        """Add two activations joined along an axis."""
        shape = tuple(
            a + b if position == axis else a for position, (a, b) in enumerate(zip(x.shape, y.shape, strict=True))
        )
        return self._add("Concat", name, shape, x, y, attributes={"axis": axis}, like=like)

    def take(self, x: Tensor, name: str, axis: int, index: int) -> Tensor:
        """Add one slice of an axis, which disappears."""
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        return self._add("Gather", name, shape, x, integers=(index,), attributes={"axis": axis}, like=x.name)

    def first_rows(self, x: Tensor, name: str, count: int) -> Tensor:
        """Add the first rows of a matrix."""
        return self._add("Slice", name, (count, *x.shape[1:]), x, integers=((0,), (count,), (0,)), like=x.name)

    def embed(self, ids: Tensor, name: str, rows: int, width: int) -> Tensor:
        """Add the rows of a learned table that indices choose."""
        table = self.learned(f"{name}_table", rows, width)
        return self._add("Gather", name, (*ids.shape, width), table, ids, attributes={"axis": 0}, like=table.name)

    def learned(self, name: str, *shape: int, spread: float = 0.5) -> Tensor:
        """Add a learned tensor that takes part as an activation: a table, positions, a class token."""
        return self._add("Learned", name, shape, parameters=(Parameter(name, shape, "embedding", spread),))

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        """Add a layer normalisation over the last axis; its parameters stay in float."""
        width = (x.shape[-1],)
        parameters = Parameter(f"{name}_gain", width, "gain", 0.1), Parameter(f"{name}_shift", width, "shift", 0.1)
        return self._add(
            "LayerNormalization", name, x.shape, x, parameters=parameters, attributes={"axis": -1, "epsilon": 1e-6}
        )

    def gelu(self, x: Tensor, name: str) -> Tensor:
        """Add the function x times the normal distribution's integral up to x."""
        return self._add("Gelu", name, x.shape, x)

    def tanh(self, x: Tensor, name: str) -> Tensor:
        """Add the hyperbolic tangent."""
        return self._add("Tanh", name, x.shape, x)

    def mask_later(self, x: Tensor, name: str) -> Tensor:
        """Add the causal mask of square scores: what a token may not see becomes the lowest score."""
        return self._add("Mask", name, x.shape, x, like=x.name)

    def softmax(self, x: Tensor, name: str) -> Tensor:
        """Add a softmax over the last axis; its probabilities are multiples of 1/256."""
        return self._add("Softmax", name, x.shape, x, attributes={"axis": -1})
