"""Steps that move elements: shapes, pieces, copies, permutations."""

from __future__ import annotations

import math

import numpy as np

from tests.generator.growth import Growth, Tensor, fits, operator
from tests.strategies import Quantisation


@operator("Transpose", 3)
def transpose(growth: Growth) -> Tensor | None:
    """Transpose by any permutation; the first axis mostly stays."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw, rank = growth.draw, len(tensor.shape)
    order = [int(axis) for axis in draw.rng.permutation(rank)]
    if draw.chance(70):
        order = [0, *(axis for axis in order if axis)]
    return growth.moved(tensor, "Transpose", [], tuple(tensor.shape[axis] for axis in order), perm=order)


@operator("Reshape", 3)
def reshape(growth: Growth) -> Tensor | None:
    """Reshape to a constant shape, or to one that is computed from the shape."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw, build, shape = growth.draw, growth.build, tensor.shape
    rest = math.prod(shape[1:])
    targets = [
        (shape[0], rest),
        (shape[0], 1, rest),
        (*shape[:-2], shape[-1], shape[-2]),
        (*shape, 1),
        (rest, shape[0]),
    ]
    target = draw.choice(targets)
    if draw.chance(20):
        whole = build.node("Shape", [growth.real(tensor)])
        first = build.node("Gather", [whole, growth.integers([0])])
        joined = build.node("Concat", [first, growth.integers([-1])], axis=0)
        return growth.moved(tensor, "Reshape", [joined], (shape[0], rest))
    stated = [-1 if axis == len(target) - 1 else size for axis, size in enumerate(target)]
    return growth.moved(tensor, "Reshape", [growth.integers(stated)], target)


@operator("Flatten", 1)
def flatten(growth: Growth) -> Tensor | None:
    """Flatten."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    axis = growth.draw.integer(0, len(tensor.shape))
    shape = (math.prod(tensor.shape[:axis]), math.prod(tensor.shape[axis:]))
    return growth.moved(tensor, "Flatten", [], shape, axis=axis)


@operator("Unsqueeze", 1, opset=13)
def unsqueeze(growth: Growth) -> Tensor | None:
    """Unsqueeze at one axis."""
    tensor = growth.pick(where=lambda tensor: len(tensor.shape) < 5)
    if tensor is None:
        return None
    axis = growth.draw.integer(0, len(tensor.shape))
    shape = (*tensor.shape[:axis], 1, *tensor.shape[axis:])
    return growth.moved(tensor, "Unsqueeze", [growth.integers([axis])], shape)


@operator("Squeeze", 1, opset=13)
def squeeze(growth: Growth) -> Tensor | None:
    """Squeeze of one axis of size one."""
    tensor = growth.pick(lowest=2, where=lambda tensor: 1 in tensor.shape)
    if tensor is None:
        return None
    axis = tensor.shape.index(1)
    return growth.moved(tensor, "Squeeze", [growth.integers([axis])], (*tensor.shape[:axis], *tensor.shape[axis + 1 :]))


@operator("Slice", 2)
def slices(growth: Growth) -> Tensor | None:
    """Slice of one axis, forwards or backwards, with a step."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    draw, axis = growth.draw, growth.draw.integer(0, len(tensor.shape) - 1)
    size = tensor.shape[axis]
    start, end, step = draw.choice([(0, max(size - 1, 1), 1), (0, 99, 2), (-1, -99, -1), (size // 2, size, 1)])
    left = len(range(size)[start:end:step])
    inputs = [growth.integers([value]) for value in (start, end, axis, step)]
    return growth.moved(tensor, "Slice", inputs, (*tensor.shape[:axis], left, *tensor.shape[axis + 1 :]))


@operator("Split", 2, opset=13)
def split(growth: Growth) -> Tensor | None:
    """Split into two uneven pieces."""
    tensor = growth.pick(lowest=1, where=lambda tensor: max(tensor.shape, default=0) > 1)
    if tensor is None:
        return None
    shape = tensor.shape
    axis = growth.draw.choice([axis for axis, size in enumerate(shape) if size > 1])
    first = growth.draw.integer(1, shape[axis] - 1)
    sizes = [first, shape[axis] - first]
    pieces = growth.build.nodes_of("Split", [growth.real(tensor), growth.integers(sizes)], 2, axis=axis)
    made = [
        growth.moved_real(tensor, piece, (*shape[:axis], size, *shape[axis + 1 :]))
        for piece, size in zip(pieces, sizes, strict=True)
    ]
    return made[-1]


@operator("Gather", 2)
def gather(growth: Growth) -> Tensor | None:
    """Gather along any axis by constant indices of rank zero to two."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    draw, shape = growth.draw, tensor.shape
    axis = draw.integer(0, len(shape) - 1)
    picked = draw.rng.integers(-shape[axis], shape[axis], draw.choice([(), (3,), (2, 2)]))
    result = (*shape[:axis], *picked.shape, *shape[axis + 1 :])
    if not fits(result) or len(result) > 5:
        return None
    return growth.moved(tensor, "Gather", [growth.integers(picked)], result, axis=axis)


@operator("GatherElements", 1)
def gather_elements(growth: Growth) -> Tensor | None:
    """GatherElements by constant indices."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    draw, shape = growth.draw, list(tensor.shape)
    axis = draw.integer(0, len(shape) - 1)
    size = shape[axis]
    shape[axis] = draw.integer(1, 4)
    picked = growth.integers(draw.rng.integers(-size, size, shape))
    return growth.moved(tensor, "GatherElements", [picked], tuple(shape), axis=axis)


@operator("GatherND", 1)
def gather_nd(growth: Growth) -> Tensor | None:
    """GatherND of two axes by constant indices."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    shape, rng = tensor.shape, growth.draw.rng
    picked = np.stack([rng.integers(0, shape[axis], 3) for axis in range(2)], axis=1)
    return growth.moved(tensor, "GatherND", [growth.integers(picked)], (3, *shape[2:]))


@operator("Expand", 1)
def expand(growth: Growth) -> Tensor | None:
    """Expand of axes of size one, and of one more axis in front."""
    tensor = growth.pick(where=lambda tensor: 1 in tensor.shape or len(tensor.shape) < 4)
    if tensor is None:
        return None
    shape = [growth.draw.integer(1, 3) if size == 1 else size for size in tensor.shape]
    if len(shape) < 4 and growth.draw.chance():
        shape = [2, *shape]
    return growth.moved(tensor, "Expand", [growth.integers(shape)], tuple(shape)) if fits(tuple(shape)) else None


@operator("Tile", 1)
def tile(growth: Growth) -> Tensor | None:
    """Tile."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    repeats = growth.draw.integers(1, 2, len(tensor.shape))
    shape = tuple(size * count for size, count in zip(tensor.shape, repeats, strict=True))
    return growth.moved(tensor, "Tile", [growth.integers(repeats)], shape) if fits(shape) else None


@operator("DepthToSpace", 2)
def depth_to_space(growth: Growth) -> Tensor | None:
    """DepthToSpace in both orders."""
    tensor = growth.pick(4, where=lambda tensor: tensor.shape[1] % 4 == 0)
    if tensor is None:
        return None
    batch, channels, height, width = tensor.shape
    mode = growth.draw.choice(["DCR", "CRD"])
    shape = (batch, channels // 4, height * 2, width * 2)
    return growth.moved(tensor, "DepthToSpace", [], shape, blocksize=2, mode=mode)


@operator("SpaceToDepth", 2)
def space_to_depth(growth: Growth) -> Tensor | None:
    """SpaceToDepth."""
    tensor = growth.pick(4, where=lambda tensor: tensor.shape[2] % 2 == tensor.shape[3] % 2 == 0)
    if tensor is None:
        return None
    batch, channels, height, width = tensor.shape
    return growth.moved(tensor, "SpaceToDepth", [], (batch, channels * 4, height // 2, width // 2), blocksize=2)


@operator("Pad", 2)
def pad(growth: Growth) -> Tensor | None:
    """Pad of the last two axes with zero, a constant or the edges."""
    tensor = growth.pick(lowest=2)
    if tensor is None:
        return None
    draw, rank = growth.draw, len(tensor.shape)
    widths = [0] * (2 * rank)
    for axis in (rank - 2, rank - 1):
        widths[axis], widths[axis + rank] = draw.integers(0, 1, 2)
    mode = draw.choice([None, None, None, "constant", "edge", "reflect"])
    if mode == "reflect" and min(tensor.shape[-2:]) < 2:
        mode = None
    shape = tuple(size + widths[axis] + widths[axis + rank] for axis, size in enumerate(tensor.shape))
    inputs = [growth.integers(widths)]
    if mode in (None, "constant") and draw.chance():
        value = float(draw.choice([0.0, *tensor.sample[:2]]))
        inputs.append(growth.floats(value))
    if len(inputs) > 1:  # the constant is real, so the pad lies between Q/DQ
        name = growth.build.node("Pad", [growth.real(tensor), *inputs], mode=mode)
        return growth.moved_real(tensor, name, shape)
    return growth.moved(tensor, "Pad", inputs, shape, mode=mode)


@operator("Concat", 4)
def concatenate(growth: Growth) -> Tensor | None:
    """Concat of two or three tensors that agree in all other axes; scales equal or not."""
    tensor = growth.pick(lowest=1)
    if tensor is None:
        return None
    draw, shape = growth.draw, tensor.shape
    axis = draw.integer(0, len(shape) - 1)
    parts = [tensor]
    for _ in range(draw.integer(1, 2)):
        fitting = [
            other
            for other in growth.tensors
            if other.shape[:axis] == shape[:axis]
            and len(other.shape) == len(shape)
            and other.shape[axis + 1 :] == shape[axis + 1 :]
        ]
        close = Quantisation(tensor.code.dtype, draw.scale(float(tensor.code.scale)), tensor.code.zero_point)
        parts.append(draw.choice(fitting) if draw.chance(70) else growth.input(shape, close))
    total = (*shape[:axis], sum(part.shape[axis] for part in parts), *shape[axis + 1 :])
    if not fits(total):
        return None
    result = growth.build.node("Concat", [growth.real(part) for part in parts], axis=axis)
    sample = np.concatenate([part.sample for part in parts])
    sample = draw.rng.choice(sample, len(tensor.sample))
    code = tensor.code if all(part.code is tensor.code for part in parts) or draw.chance(20) else None
    return growth.result(result, total, sample, float(tensor.code.scale), code)


@operator("Resize", 3, opset=13)
def resize(growth: Growth) -> Tensor | None:
    """Resize to twice or an odd size: nearest or linear, all ways to map coordinates."""
    tensor = growth.pick(4)
    if tensor is None:
        return None
    draw, (batch, channels, height, width) = growth.draw, tensor.shape
    mode = draw.choice(["nearest", "nearest", "linear"])
    ways = ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"]
    attributes = {"mode": mode, "coordinate_transformation_mode": draw.choice(ways)}
    if mode == "nearest":
        attributes["nearest_mode"] = draw.choice(["floor", "round_prefer_floor", "round_prefer_ceil", "ceil"])
    if draw.chance(70):
        scales = [1.0, 1.0, float(draw.choice([2, 1])), 2.0]
        shape = (batch, channels, int(height * scales[2]), width * 2)
        inputs = ["", growth.floats(scales)]
    else:
        shape = (batch, channels, draw.integer(1, 9), draw.integer(1, 9))
        inputs = ["", "", growth.integers(shape)]
    if not fits(shape):
        return None
    if mode == "nearest":
        return growth.moved(tensor, "Resize", inputs, shape, **attributes)
    result = growth.build.node("Resize", [growth.real(tensor), *inputs], **attributes)
    code = tensor.code if draw.chance(60) else None
    return growth.result(result, shape, tensor.sample, float(tensor.code.scale), code)
