"""Random small networks, chains with branches and residuals: every tensor of every graph equals onnxruntime."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

import accelsim
from tests.strategies import Builder, Case, Draw, Quantisation, Shape

GRAPHS = 60
SEED = 50_001
OUTSIDE = {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the graph: its codes, or reals that wait for a quantiser further down (`codes` is empty then)."""

    shape: Shape
    code: Quantisation
    codes: str = ""
    reals: str = ""


@dataclass
class Growth:
    """A graph that grows operator by operator."""

    draw: Draw
    build: Builder
    tensors: list[Tensor] = field(default_factory=list)
    consumers: Counter[int] = field(default_factory=Counter)
    shared: dict[str, str] = field(default_factory=dict)

    def reals(self, tensor: Tensor) -> str:
        """Return a tensor as reals, through a DequantizeLinear that is shared with other consumers or its own."""
        self.consumers[self.tensors.index(tensor)] += 1
        if tensor.reals:
            return tensor.reals
        if tensor.codes in self.shared and self.draw.chance():
            return self.shared[tensor.codes]
        self.shared[tensor.codes] = self.build.dequantise(tensor.codes, tensor.code)
        return self.shared[tensor.codes]

    def add(self, reals: str, shape: Shape, code: Quantisation) -> None:
        """Quantise a result and make it available."""
        self.tensors.append(Tensor(shape, code, self.build.quantise(reals, code)))

    def move(self, reals: str, shape: Shape, code: Quantisation) -> None:
        """Make a moved tensor available, often without quantising it again."""
        if self.draw.chance(40):
            self.tensors.append(Tensor(shape, code, reals=reals))
        else:
            self.add(reals, shape, code)

    def pick(self, rank: int | None = None) -> Tensor | None:
        """Draw a tensor, mostly the newest one, of a rank if given."""
        fitting = [tensor for tensor in self.tensors if rank is None or len(tensor.shape) == rank]
        if not fitting:
            return None
        return fitting[-1] if self.draw.chance(65) else self.draw.choice(fitting)

    def code_like(self, code: Quantisation, low: int = -1, high: int = 2) -> Quantisation:
        """Draw an output quantisation a few powers of two around another one."""
        factor = 2.0 ** self.draw.integer(low, high) * (1 if self.draw.ties else float(self.draw.rng.uniform(0.7, 1.4)))
        scale = min(max(float(code.scale) * factor, 1e-4), 10.0)
        return Quantisation(code.dtype, self.draw.beside(scale), self.draw.zero_point(code.dtype))

    def weights(self, shape: Shape, code: Quantisation, axis: int) -> tuple[str, Quantisation]:
        """Add constant weights for an activation."""
        channels = shape[axis]
        weights = self.draw.weights(self.draw.weights_dtype(code.dtype), channels)
        return self.build.weight(shape, weights, axis), weights

    def product_code(self, code: Quantisation, weights: Quantisation, depth: int) -> Quantisation:
        """Draw the quantisation of a convolution's or matrix product's output."""
        return self.draw.result(code.dtype, float(code.scale) * weights.mean_scale, 5000 * math.sqrt(depth))


Step = Callable[[Growth], bool]


def window(draw: Draw, spatial: Shape) -> tuple[dict[str, Any], Shape]:
    """Draw kernel, strides and pads that fit an image, and the output's size."""
    kernel = [draw.integer(1, min(3, size)) for size in spatial]
    strides = [draw.integer(1, 2) for _ in kernel]
    begins, ends = ([draw.integer(0, size - 1) for size in kernel] for _ in range(2))
    sizes = tuple(
        (size + begin + end - k) // stride + 1
        for size, begin, end, k, stride in zip(spatial, begins, ends, kernel, strides, strict=True)
    )
    return {"kernel_shape": kernel, "strides": strides, "pads": [*begins, *ends]}, sizes


def convolve(growth: Growth) -> bool:
    """Conv, grouped or not, with a Relu at times."""
    tensor = growth.pick(4)
    if tensor is None:
        return False
    draw, build = growth.draw, growth.build
    batch, channels, *spatial = tensor.shape
    attributes, sizes = window(draw, tuple(spatial))
    groups = channels if draw.chance(30) else 1
    filters = groups * draw.integer(1, 4 if groups == 1 else 2)
    shape = (filters, channels // groups, *attributes["kernel_shape"])
    name, weights = growth.weights(shape, tensor.code, 0)
    result = build.node("Conv", [growth.reals(tensor), name], group=groups, **attributes)
    code = growth.product_code(tensor.code, weights, math.prod(shape[1:]))
    if draw.chance(30):
        result, code = build.node("Relu", [result]), replace(code, zero_point=np.iinfo(code.dtype).min)
    growth.add(result, (batch, filters, *sizes), code)
    return True


def multiply(growth: Growth) -> bool:
    """Gemm of a matrix, or MatMul of anything, with constant weights."""
    tensor = growth.pick()
    if tensor is None or len(tensor.shape) < 2:
        return False
    depth, columns = tensor.shape[-1], growth.draw.integer(1, 8)
    name, weights = growth.weights((depth, columns), tensor.code, 1)
    kind = "Gemm" if len(tensor.shape) == 2 and growth.draw.chance() else "MatMul"
    result = growth.build.node(kind, [growth.reals(tensor), name])
    growth.add(result, (*tensor.shape[:-1], columns), growth.product_code(tensor.code, weights, depth))
    return True


def combine(growth: Growth) -> bool:
    """Add or Mul of two tensors of one shape, or of a tensor and itself."""
    tensor = growth.pick()
    if tensor is None:
        return False
    others = [other for other in growth.tensors if other.shape == tensor.shape]
    other, kind = growth.draw.choice(others), growth.draw.choice(["Add", "Add", "Mul"])
    result = growth.build.node(kind, [growth.reals(tensor), growth.reals(other)])
    unit, spread = float(tensor.code.scale), 60.0
    if kind == "Mul":
        unit, spread = unit * float(other.code.scale), 5000.0
    growth.add(result, tensor.shape, growth.draw.result(tensor.code.dtype, unit, spread))
    return True


def concatenate(growth: Growth) -> bool:
    """Concat of two tensors that differ in at most one axis."""
    tensor = growth.pick()
    if tensor is None or len(tensor.shape) < 2:
        return False
    shape = tensor.shape
    others = [other for other in growth.tensors if other.shape[:1] + other.shape[2:] == shape[:1] + shape[2:]]
    other = growth.draw.choice([item for item in others if len(item.shape) == len(shape)])
    code = growth.draw.choice([tensor.code, growth.code_like(tensor.code)])
    result = growth.build.node("Concat", [growth.reals(tensor), growth.reals(other)], axis=1)
    growth.add(result, (shape[0], shape[1] + other.shape[1], *shape[2:]), code)
    return True


def pool(growth: Growth) -> bool:
    """AveragePool, MaxPool or GlobalAveragePool."""
    tensor = growth.pick(4)
    if tensor is None:
        return False
    kind = growth.draw.choice(["AveragePool", "MaxPool", "GlobalAveragePool"])
    if kind == "GlobalAveragePool":
        code = growth.code_like(tensor.code)
        growth.add(growth.build.node(kind, [growth.reals(tensor)]), (*tensor.shape[:2], 1, 1), code)
        return True
    attributes, sizes = window(growth.draw, tensor.shape[2:])
    result = growth.build.node(kind, [growth.reals(tensor)], **attributes)
    code = tensor.code if kind == "MaxPool" else growth.code_like(tensor.code)
    growth.add(result, (*tensor.shape[:2], *sizes), code)
    return True


def activate(growth: Growth) -> bool:
    """Sigmoid, LeakyRelu or Softmax."""
    tensor = growth.pick()
    if tensor is None:
        return False
    kind = growth.draw.choice(["Sigmoid", "LeakyRelu", "Softmax"])
    axis = growth.draw.integer(0, len(tensor.shape) - 1) if kind == "Softmax" else None
    result = growth.build.node(kind, [growth.reals(tensor)], axis=axis, alpha=0.1 if kind == "LeakyRelu" else None)
    code = growth.code_like(tensor.code)
    if kind != "LeakyRelu":
        code = replace(code, scale=growth.draw.beside(1 / 256))
    growth.add(result, tensor.shape, code)
    return True


def move(growth: Growth) -> bool:
    """Transpose, Reshape, Flatten, Slice, Gather or Pad; a Q/DQ pair follows or not."""
    tensor = growth.pick()
    if tensor is None or len(tensor.shape) < 2:
        return False
    draw, build, shape = growth.draw, growth.build, tensor.shape
    kind = draw.choice(["Transpose", "Reshape", "Flatten", "Slice", "Gather", "Pad"])
    reals = growth.reals(tensor)
    inputs: list[str] = []
    attributes: dict[str, Any] = {}
    if kind == "Transpose":
        order = [0, *reversed(range(1, len(shape)))]
        attributes, shape = {"perm": order}, tuple(shape[axis] for axis in order)
    elif kind in ("Reshape", "Flatten"):
        shape = (shape[0], math.prod(shape[1:]))
        inputs = [build.constant([0, -1], np.int64)] if kind == "Reshape" else []
    elif kind == "Slice":
        inputs = [build.constant([value], np.int64) for value in (0, max(shape[-1] - 1, 1), -1)]
        shape = (*shape[:-1], max(shape[-1] - 1, 1))
    elif kind == "Gather":
        inputs, attributes = [build.constant([0, -1, 0], np.int64)], {"axis": 1}
        shape = (shape[0], 3, *shape[2:])
    else:
        inputs = [build.constant([0] * (len(shape) - 1) + [1] + [0] * len(shape), np.int64)]
        shape = (*shape[:-1], shape[-1] + 1)
    growth.move(build.node(kind, [reals, *inputs], **attributes), shape, tensor.code)
    return True


STEPS: list[Step] = [convolve, convolve, multiply, combine, combine, concatenate, pool, activate, move]


def grow(draw: Draw) -> Case:
    """Draw a graph of 2 to 8 operators; every tensor without a consumer, and now and then another, is an output."""
    growth = Growth(draw, Builder(draw))
    code = draw.activation()
    for _ in range(draw.integer(1, 2)):
        shape = (2, draw.integer(1, 4), draw.integer(3, 7), draw.integer(3, 7))
        growth.tensors.append(Tensor(shape, code, growth.build.codes(shape, code)))
    inputs, wanted, done = len(growth.tensors), draw.integer(2, 8), 0
    while done < wanted:
        done += draw.choice(STEPS)(growth)
    for index, tensor in enumerate(growth.tensors[inputs:], inputs):
        if growth.consumers[index] == 0 or draw.chance(10):
            leave(growth, tensor)
    for index, tensor in enumerate(growth.tensors[:inputs]):
        if growth.consumers[index] == 0:  # an input that nothing reads is no part of a model
            del growth.build.inputs[tensor.codes]
    return growth.build.case()


def leave(growth: Growth, tensor: Tensor) -> None:
    """Make a tensor an output of the graph, as codes or as reals."""
    if tensor.reals:
        growth.build.output(growth.build.quantise(tensor.reals, tensor.code), tensor.code.dtype)
    elif growth.draw.chance():
        growth.build.output(tensor.codes, tensor.code.dtype)
    else:
        growth.build.output(growth.build.dequantise(tensor.codes, tensor.code))


@pytest.mark.parametrize("index", range(GRAPHS))
def test_random_graphs_are_exact(index: int) -> None:
    """A drawn graph equals onnxruntime in every element of every tensor, teacher-forced and free-running."""
    seed = (SEED, index)
    print(f"seed {seed}")
    draw = Draw(seed, ties=index % 2 == 1)
    case = grow(draw)
    result = accelsim.run(accelsim.load(case.model), draw.machine(), case.inputs)
    check = result.check
    assert check.verdict == "exact", check.first_mismatch
    assert check.mismatched_elements == check.drifted_elements == check.output_mismatched == 0
    assert check.output_elements > 0
    assert any(layer.op not in OUTSIDE for layer in result.layers)


def test_random_graphs_exercise_the_machine() -> None:
    """The drawn graphs together contain every kernel that their operators lower to, and few host operators."""
    kernels: Counter[str] = Counter()
    hosts = 0
    for index in range(GRAPHS):
        case = grow(Draw((SEED, index), ties=index % 2 == 1))
        result = accelsim.run(accelsim.load(case.model), values=False)
        kernels.update(layer.op for layer in result.layers)
        hosts += sum(layer.placement == "host" for layer in result.layers)
    print(dict(kernels.most_common()), "host", hosts)
    wanted = {
        "QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul", "QLinearAveragePool", "QLinearGlobalAveragePool",
        "MaxPool", "QLinearSoftmax", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat", "Transpose", "Slice",
        "Gather",
    }  # fmt: skip
    assert wanted <= set(kernels)
    assert hosts * 5 < sum(kernels.values())
