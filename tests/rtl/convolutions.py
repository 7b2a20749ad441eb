"""Quantised convolutions for the RTL: drawn, run by onnxruntime's QLinearConv, and cut into GEMMs for the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from accelsim.graph.normalise.reference import saturates_products
from accelsim.reference.session import open_session
from tests.rtl.cases import Case, FeatureMap, Requantiser
from tests.rtl.tools import Build

Integers = NDArray[np.int64]
TYPES = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8}


@dataclass(frozen=True)
class Convolution:
    """A QLinearConv with its operands.

    Args:
        x: uint8 or int8[N, C, H, W].
        w: uint8 or int8[M, C / groups, kh, kw].
        bias: int32[M].
        weight_scale: float32[1] or float32[M].
    """

    x: NDArray[np.generic]
    w: NDArray[np.generic]
    bias: NDArray[np.int32]
    groups: int
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    x_zero: int
    w_zero: int
    y_zero: int
    x_scale: np.float32
    weight_scale: NDArray[np.float32]
    y_scale: np.float32

    @property
    def depthwise(self) -> bool:
        """Tell whether every channel is a group of its own."""
        return self.groups == self.x.shape[1] and self.groups > 1

    @property
    def multiplier(self) -> NDArray[np.float32]:
        """Return s_n = fl32(fl32(s_x * s_w[n]) / s_y) per output channel (section 2)."""
        scales = (self.x_scale * self.weight_scale) / self.y_scale
        return np.broadcast_to(scales.astype(np.float32), (self.w.shape[0],)).copy()

    @property
    def output_size(self) -> tuple[int, int]:
        """Return height and width of the output."""
        sizes = []
        for axis in range(2):
            window = self.dilations[axis] * (self.w.shape[2 + axis] - 1) + 1
            padded = self.x.shape[2 + axis] + self.pads[axis] + self.pads[2 + axis]
            sizes.append((padded - window) // self.strides[axis] + 1)
        return sizes[0], sizes[1]


def draw(random: np.random.Generator, depthwise: bool) -> Convolution:
    """Draw a small convolution: kernels, strides, dilations, pads, groups, all pairs of operand types."""
    x_type, w_type = [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)][random.integers(3)]
    kernel = [(1, 1), (3, 3), (1, 3), (2, 2), (3, 1)][random.integers(1 if depthwise else 0, 5)]
    groups = int(random.integers(2, 10)) if depthwise else int(random.choice([1, 1, 1, 2]))
    channels = groups if depthwise else groups * int(random.integers(1, 6))
    outputs = groups if depthwise else groups * int(random.integers(1, 8))
    shape = (int(random.integers(1, 3)), channels, int(random.integers(5, 10)), int(random.integers(5, 10)))
    x_range, w_range = np.iinfo(x_type), np.iinfo(w_type)
    x = random.integers(x_range.min, x_range.max + 1, shape).astype(x_type)
    w = random.integers(w_range.min, w_range.max + 1, (outputs, channels // groups, *kernel)).astype(w_type)
    if w_type is np.int8 and saturates_products():
        w //= 2  # 7 bits, which no CPU's kernels saturate
    per_channel = w_type is np.int8 and bool(random.integers(2))
    scales = random.uniform(0.001, 0.02, outputs if per_channel else 1).astype(np.float32)
    drawn = Convolution(
        x, w, np.zeros(outputs, np.int32), groups,
        (int(random.integers(1, 3)), int(random.integers(1, 3))),
        (int(random.integers(1, 3)), 1) if kernel[0] > 1 else (1, 1),
        tuple(int(pad) for pad in random.integers(0, 2, 4)),
        int(random.choice([x_range.min, 0, x_range.max, random.integers(x_range.min, x_range.max + 1)])),
        int(random.integers(0, 256)) if w_type is np.uint8 else 0,
        int(random.integers(x_range.min, x_range.max + 1)),
        np.float32(0.02), scales, np.float32(1),
    )  # fmt: skip
    return _calibrated(random, drawn)


def _calibrated(random: np.random.Generator, drawn: Convolution) -> Convolution:
    """Return it with a bias that centres the sums and an output scale that spreads them over the codes."""
    sums = []
    for group in range(drawn.groups):
        inputs, outputs = drawn.x.shape[1] // drawn.groups, drawn.w.shape[0] // drawn.groups
        rows = im2col(drawn, range(group * inputs, (group + 1) * inputs))
        weights = drawn.w[group * outputs : (group + 1) * outputs].reshape(outputs, -1).astype(np.int64) - drawn.w_zero
        sums.append(rows @ weights.T)
    found = np.concatenate(sums, axis=1)
    bias = random.integers(-500, 500, found.shape[1]) - np.median(found, axis=0).astype(np.int64)
    reach = np.abs((found + bias) * (drawn.x_scale * drawn.weight_scale)).max() * random.uniform(0.3, 1.2)
    return replace(drawn, bias=bias.astype(np.int32), y_scale=np.float32(reach / 128))


def onnxruntime_output(convolution: Convolution) -> NDArray[np.generic]:
    """Run one QLinearConv in onnxruntime."""
    c = convolution
    element = TYPES[c.x.dtype]
    constants = {
        "x_scale": c.x_scale, "x_zero": np.array(c.x_zero, c.x.dtype), "w": c.w,
        "w_scale": c.weight_scale if len(c.weight_scale) > 1 else c.weight_scale[0],
        "w_zero": np.full(c.weight_scale.shape if len(c.weight_scale) > 1 else (), c.w_zero, c.w.dtype),
        "y_scale": c.y_scale, "y_zero": np.array(c.y_zero, c.x.dtype), "bias": c.bias,
    }  # fmt: skip
    inputs = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "bias"]
    node = helper.make_node(
        "QLinearConv", inputs, ["y"], group=c.groups, strides=c.strides, dilations=c.dilations, pads=c.pads
    )
    initializers = []
    for name, value in constants.items():
        array = np.asarray(value)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        initializers.append(helper.make_tensor(name, kind, array.shape, array.tobytes(), raw=True))
    graph = helper.make_graph(
        [node],
        "convolution",
        [helper.make_tensor_value_info("x", element, c.x.shape)],
        [helper.make_tensor_value_info("y", element, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = open_session(model.SerializeToString(), entries=(("session.qdqisint8allowed", "1"),))
    return session.run(None, {"x": c.x})[0]


def im2col(convolution: Convolution, channels: Sequence[int]) -> Integers:
    """Return the rows x - z_x, [images * pixels, channels * kh * kw] in (c, kh, kw) order; pads are zeros (4.5)."""
    c = convolution
    (height, width), (top, left) = c.output_size, c.pads[:2]
    shifted = c.x[:, list(channels)].astype(np.int64) - c.x_zero
    padded = np.pad(shifted, ((0, 0), (0, 0), (top, c.pads[2]), (left, c.pads[3])))
    taps = []
    for kh in range(c.w.shape[2]):
        for kw in range(c.w.shape[3]):
            rows = slice(kh * c.dilations[0], kh * c.dilations[0] + (height - 1) * c.strides[0] + 1, c.strides[0])
            columns = slice(kw * c.dilations[1], kw * c.dilations[1] + (width - 1) * c.strides[1] + 1, c.strides[1])
            taps.append(padded[:, :, rows, columns])
    stacked = np.stack(taps, axis=2)  # images, channels, taps, height, width
    return np.moveaxis(stacked, (1, 2), (3, 4)).reshape(len(c.x) * height * width, -1)


@dataclass(frozen=True)
class Part:
    """One GEMM of a convolution and the output channels that it computes."""

    case: Case
    outputs: list[int]


def parts(convolution: Convolution, build: Build, dataflow: str, lanes: int) -> list[Part]:
    """Cut a convolution into GEMMs: one per group, depthwise ones packed block-diagonally (section 4.6)."""
    c, taps = convolution, convolution.w.shape[2] * convolution.w.shape[3]
    per_group, inputs = c.w.shape[0] // c.groups, c.x.shape[1] // c.groups
    pack = max(1, min(build.rows // taps, build.columns, c.groups)) if c.depthwise else 1
    found = []
    for first in range(0, c.groups, pack):
        groups = range(first, min(first + pack, c.groups))
        outputs = [group * per_group + n for group in groups for n in range(per_group)]
        channels = [group * inputs + channel for group in groups for channel in range(inputs)]
        weights = np.zeros((len(outputs), len(channels) * taps), np.int64)
        for row, output in enumerate(outputs):
            start = row // per_group * inputs * taps
            weights[row, start : start + inputs * taps] = c.w[output].astype(np.int64).ravel() - c.w_zero
        limits = np.iinfo(c.x.dtype)
        multiplier = c.multiplier[outputs].view(np.uint32)
        none = np.zeros(len(outputs), np.int32)
        requantiser = Requantiser(multiplier, none, c.y_zero, limits.min, limits.max, lanes)
        rows = 64 // build.rows * build.rows
        bias = c.bias[outputs].astype(np.int64)
        case = Case(dataflow, im2col(c, channels), weights, bias, 32, acc_rows=rows, requantiser=requantiser)
        found.append(Part(case, outputs))
    return found


def implicit(convolution: Convolution, part: Part) -> Part:
    """Return a part whose activations the RTL gathers itself: raw codes, pads of z_x, zero point folded in the bias."""
    c, case = convolution, part.case
    first = part.outputs[0] // (c.w.shape[0] // c.groups) * (c.x.shape[1] // c.groups)
    image = FeatureMap(
        c.x.astype(np.int64), c.x_zero, first, c.output_size, c.w.shape[2:], c.strides, c.dilations, c.pads[:2]
    )  # fmt: skip
    bias = case.bias - c.x_zero * case.w.sum(axis=1)
    return replace(part, case=replace(case, x=case.x + c.x_zero, bias=bias, feature_map=image))


def assemble(convolution: Convolution, found: Sequence[tuple[Part, Integers]]) -> Integers:
    """Return the output feature map [N, M, OH, OW] from the outputs of all parts."""
    images, (height, width) = len(convolution.x), convolution.output_size
    result = np.full((images, convolution.w.shape[0], height, width), np.iinfo(np.int64).min)
    for part, outputs in found:
        result[:, part.outputs] = np.moveaxis(outputs.reshape(images, height, width, -1), 3, 1)
    return result
