"""Random networks whose quantisers stand where other tools put them, and the only judge: onnxruntime on their bytes.

Dimensions are dynamic or not; quantisers stand at inputs of products only, in forks, as float operators spelled out, in
float16; weights are codes, or floats behind a pair, transposed, reshaped, clipped, or scaled twice; results stay float.
By construction both operands of every product are codes, so that all multiply-accumulates must be integer ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


@dataclass(eq=False)
class Placed:
    """A network under construction: nodes, constants, and the multiply-accumulates of its products."""

    rng: np.random.Generator
    half: bool
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    macs: int = 0
    count: int = 0

    @property
    def float_type(self) -> Any:
        """The float format of the network."""
        return np.float16 if self.half else np.float32

    def name(self) -> str:
        """Return a fresh name."""
        self.count += 1
        return f"t{self.count}"

    def const(self, array: Any, dtype: Any = None) -> str:
        """Add a constant, now and then as a node."""
        value, name = np.asarray(array, dtype), self.name()
        tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        if self.rng.random() < 0.1:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.constants.append(tensor)
        return name

    def real(self, array: Any) -> str:
        """Add a float constant in the network's own format."""
        return self.const(array, self.float_type)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output."""
        output = self.name()
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"{kind}_{output}", **attributes))
        return output

    def chance(self, share: float) -> bool:
        """Draw a decision."""
        return bool(self.rng.random() < share)

    # ---- quantisers

    def quantised(self, x: str, scale: float | None = None) -> str:
        """Put a quantiser of activations behind a tensor, one way or another."""
        scale = float(self.rng.choice([0.01, 0.02, 0.03125, 0.05])) if scale is None else scale
        kind = np.int8 if self.chance(0.6) else np.uint8
        zero = 0 if kind == np.int8 else int(self.rng.choice([0, 100, 128]))
        if self.chance(0.12) and not self.half:
            return self._spelled(x, scale)
        code = self.op("QuantizeLinear", x, self.real(scale), self.const(zero, kind))
        if self.chance(0.15):
            low, high = (-8, 7) if kind == np.int8 else (0, 15)
            code = self.op("Clip", code, self.const(low, kind), self.const(high, kind))
        return self.op("DequantizeLinear", code, self.real(scale), self.const(zero, kind))

    def _spelled(self, x: str, scale: float) -> str:
        """Spell a quantiser in float operators."""
        y = self.op("Round", self.op("Div", x, self.real(scale)))
        return self.op("Mul", self.op("Clip", y, self.real(-128), self.real(127)), self.real(scale))

    def weights(self, shape: tuple[int, ...], axis: int) -> str:
        """Add quantised weights whose output channels lie along an axis."""
        channels, transposed = shape[axis], len(shape) == 2 and self.chance(0.4)
        shape = shape[::-1] if transposed else shape
        axis = len(shape) - 1 - axis if transposed else axis
        each = self.chance(0.7)
        scales = self.rng.uniform(0.002, 0.006, channels if each else ()).astype(self.float_type)
        zeros = np.zeros(channels if each else (), np.int8)
        if self.chance(0.3):
            codes = self.op("QuantizeLinear", self.real(self.rng.normal(0, 0.2, shape)), self.real(scales),
                            self.const(zeros), axis=axis)  # fmt: skip
        else:
            codes = self.const(self.rng.integers(-127, 128, shape), np.int8)
        if self.chance(0.15):
            codes = self.op("Clip", codes, self.const(-3, np.int8), self.const(3, np.int8))
        w = self.op("DequantizeLinear", codes, self.real(scales), self.const(zeros), axis=axis)
        if self.chance(0.1):
            w = self.op("Mul", w, self.real(0.5))
        if self.chance(0.1) and not each:
            flat = self.op("Reshape", w, self.const([-1], np.int64))
            w = self.op("Reshape", flat, self.const(shape, np.int64))
        return self.op("Transpose", w, perm=[1, 0]) if transposed else w

    def bias(self, columns: int) -> list[str]:
        """Add a bias, of floats or of codes with a scale of their own, or none."""
        kind = self.rng.integers(3)
        if kind == 0:
            return []
        if kind == 1:
            return [self.real(self.rng.normal(0, 0.2, columns))]
        codes = self.const(self.rng.integers(-2000, 2000, columns), np.int32)
        return [self.op("DequantizeLinear", codes, self.real(1e-4 if not self.half else 2e-4))]

    # ---- layers

    def convolution(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Add Conv with what may follow it."""
        batch, channels, height, width = shape
        depthwise = self.chance(0.2)
        filters = channels if depthwise else int(self.rng.choice([4, 8, 12]))
        kernel = int(self.rng.choice([1, 3]))
        groups = channels if depthwise else 1
        w = self.weights((filters, channels // groups, kernel, kernel), 0)
        y = self.op("Conv", self.quantised(x), w, *self.bias(filters), pads=[kernel // 2] * 4, group=groups)
        self.macs += batch * filters * height * width * (channels // groups) * kernel**2
        return self.activated(y), (batch, filters, height, width)

    def linear(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Add MatMul and Add, or Gemm where there are two dimensions."""
        *rows, depth = shape
        columns = int(self.rng.choice([6, 16, 24]))
        self.macs += int(np.prod(rows)) * depth * columns
        if len(shape) == 2 and self.chance(0.7):
            turned = int(self.chance(0.5))
            w = self.weights((columns, depth) if turned else (depth, columns), 0 if turned else 1)
            extra = {"alpha": 0.5, "beta": 2.0} if self.chance(0.2) else {}
            y = self.op("Gemm", self.quantised(x), w, *self.bias(columns), transB=turned, **extra)
        else:
            y = self.op("MatMul", self.quantised(x), self.weights((depth, columns), 1))
            if self.chance(0.7):
                y = self.op("Add", y, self.real(self.rng.normal(0, 0.3, columns)))
        return self.activated(y), (*rows, columns)

    def attention(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Add the products of one attention head, both of activations."""
        batch, length, depth = shape
        keys = self.op("Transpose", self.quantised(x), perm=[0, 2, 1])
        scores = self.op("MatMul", self.quantised(x), keys)
        shares = self.op("Softmax", self.op("Mul", scores, self.real(0.25)), axis=-1)
        self.macs += 2 * batch * length * length * depth
        return self.op("MatMul", self.quantised(shares, 1 / 128), self.quantised(x)), shape

    def activated(self, y: str) -> str:
        """Add an activation, and now and then a fork."""
        choices: list[Callable[[str], str]] = [
            lambda t: t,
            lambda t: self.op("Relu", t),
            lambda t: self.op("Mul", t, self.op("Sigmoid", t)),
            lambda t: self.op("Clip", t, self.real(0), self.real(6)),
            lambda t: self.op("Tanh", t),
        ]
        y = choices[int(self.rng.integers(len(choices)))](y)
        if self.chance(0.25):  # two quantisers, of one scale or of two
            scale = 0.02
            other = scale if self.chance(0.5) else 0.04
            y = self.op("Add", self.quantised(y, scale), self.quantised(y, other))
        elif self.chance(0.15):
            y = self.op("Add", y, self.quantised(y))
        return y


@dataclass(frozen=True, eq=False)
class PlacedCase:
    """One network: its bytes, inputs, and the multiply-accumulates of all its products."""

    model: bytes
    inputs: dict[str, Array]
    macs: int
    half: bool


def draw_placed(seed: int) -> PlacedCase:
    """Draw a network from a seed."""
    rng = np.random.default_rng([seed, 13])
    graph = Placed(rng, bool(rng.random() < 0.2))
    image = bool(rng.random() < 0.5)
    batch = int(rng.integers(1, 4))
    shape: tuple[int, ...] = (batch, 4, 6, 6) if image else (batch, 5, 16) if rng.random() < 0.7 else (batch, 16)
    y, size = "x", shape
    for _ in range(int(rng.integers(1, 4))):
        before, known = y, size
        if image:
            y, size = graph.convolution(y, size)
        elif len(size) == 3 and rng.random() < 0.25:
            y, size = graph.attention(y, size)
        else:
            y, size = graph.linear(y, size)
        if known == size and rng.random() < 0.4:
            y = graph.op("Add", y, graph.quantised(before) if rng.random() < 0.5 else before)
    ends = [y]
    if rng.random() < 0.3:
        ends = [graph.quantised(y, 0.05)]
    if rng.random() < 0.2:
        ends.append(graph.op("Relu", y))
    kind = TensorProto.FLOAT16 if graph.half else TensorProto.FLOAT
    names = ["batch", "seq", None, None] if len(shape) == 3 else ["N", None, None, None]
    dynamic = rng.random() < 0.6
    declared = [name or size for name, size in zip(names, shape, strict=False)] if dynamic else list(shape)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "placed",
            [helper.make_tensor_value_info("x", kind, declared)],
            [helper.make_tensor_value_info(name, kind, None) for name in ends],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=9,
    )
    x = rng.normal(0, 1, shape).astype(graph.float_type)
    return PlacedCase(model.SerializeToString(), {"x": x}, graph.macs, graph.half)


def own_outputs(case: PlacedCase) -> list[Array]:
    """Run the file's own bytes in a session that shares nothing with the project."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(case.model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, case.inputs))


def _too_far(mine: Iterable[Array], theirs: Iterable[Array]) -> Iterator[str]:
    """Say which outputs are another result and not a rounding: a tenth of their own magnitude away, and a few steps."""
    for ours, given in zip(mine, theirs, strict=True):
        apart, size = (
            float(np.sqrt(np.square(part).mean())) for part in (ours.astype(float) - given, given.astype(float))
        )
        if apart > 0.1 * size + 0.01:  # the coarsest quantiser has steps of 0.05, which single elements may be off
            yield f"an output of magnitude {size:g} is {apart:g} away"


def judge_placed(case: PlacedCase) -> list[str]:
    """Return every false statement of a run, and products that are not integer ones."""
    import accelsim

    result = accelsim.run(accelsim.load(case.model), accelsim.Arch(), case.inputs)
    truth = own_outputs(case)
    wrong = 0
    for mine, theirs in zip(result.outputs.values(), truth, strict=True):
        bits = f"u{mine.dtype.itemsize}"  # a zero with another sign is another output
        wrong += int((mine.view(bits) != theirs.view(bits)).sum())
    check, problems = result.check, [*_too_far(result.outputs.values(), truth)]
    if check.output_mismatched != wrong:
        problems.append(f"says {check.output_mismatched} outputs differ, {wrong} do")
    if check.verdict == "exact" and wrong:
        problems.append(f"says exact, {wrong} outputs differ")
    if check.verdict == "near" and not wrong:
        problems.append("says near, nothing differs")
    if check.verdict not in ("exact", "near"):
        problems.append(f"verdict {check.verdict}: {check.first_mismatch}")
    integer = sum(layer.macs for layer in result.layers if (layer.arithmetic or "float").startswith("int"))
    if integer != case.macs:
        floats = [f"{layer.op} '{layer.name}'" for layer in result.layers if layer.arithmetic not in (None, "integer")]
        off = [f"{layer.op} '{layer.name}'" for layer in result.layers if layer.off_array_macs]
        problems.append(f"{integer} of {case.macs} MACs are integer; float {floats}, off the array {off}")
    return problems


def main() -> None:
    """Judge a series of networks: python -m tests.generator.placements FIRST COUNT."""
    first, count = (int(word) for word in sys.argv[1:3])
    wrong = 0
    for seed in range(first, first + count):
        problems = judge_placed(draw_placed(seed))
        wrong += bool(problems)
        if problems:
            print(seed, problems)
    print(f"{count} networks from seed {first}: {wrong} with a false statement or a float product of codes")


if __name__ == "__main__":
    main()
