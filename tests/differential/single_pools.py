"""Random models of one pool."""

from __future__ import annotations

from typing import Any

from tests.differential.registry import operator
from tests.strategies import MICROSOFT, Builder, Case, Draw, Quantisation


def pool_target(draw: Draw, source: Quantisation) -> Quantisation:
    """Draw an output quantisation a few powers of two around the input's."""
    factor = 2.0 ** draw.integer(-2, 1) if draw.ties else float(draw.rng.uniform(0.3, 2))
    return Quantisation(source.dtype, draw.beside(float(source.scale) * factor), draw.zero_point(source.dtype))


def pool_attributes(draw: Draw, rank: int, *, average: bool) -> dict[str, Any]:
    """Draw kernel, strides, pads smaller than the kernel, ceil_mode, and what else a pool of that kind takes.

    Automatic padding of windows with gaps between them has a test of its own.
    """
    kernel, strides = draw.integers(1, 3, rank), draw.integers(1, 3, rank)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if average:
        attributes["count_include_pad"] = draw.integer(0, 1)
    if draw.chance(25):
        attributes["strides"] = [min(pair) for pair in zip(kernel, strides, strict=True)]
        attributes["auto_pad"] = draw.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
        return attributes
    if not average:
        attributes["dilations"] = draw.integers(1, 2, rank)
    attributes["pads"] = [draw.integer(0, kernel[axis % rank] - 1) for axis in range(2 * rank)]
    attributes["ceil_mode"] = draw.integer(0, 1)
    return attributes


@operator("average_pool", "QLinearAveragePool")
@operator("average_pool_1d", "QLinearAveragePool", rank=1)
@operator("qlinear_average_pool", "QLinearAveragePool", written=True)
def average_pool(draw: Draw, rank: int = 2, *, written: bool = False) -> Case:
    """Q/DQ around AveragePool with pads, ceil_mode and count_include_pad."""
    build, source = Builder(draw), draw.activation()
    spatial = tuple(draw.integers(4, 9, rank))
    attributes = pool_attributes(draw, rank, average=True)
    shape, target = (draw.integer(1, 2), draw.integer(1, 16), *spatial), pool_target(draw, source)
    if written:
        inputs = [build.codes(shape, source), *build.parameters(source), *build.parameters(target)]
        build.output(build.node("QLinearAveragePool", inputs, MICROSOFT, **attributes), target.dtype, rank + 2)
        return build.case()
    return build.finish(build.node("AveragePool", [build.activation(shape, source)], **attributes), target)


@operator("global_average_pool", "QLinearGlobalAveragePool")
@operator("average_pool_of_the_image", "QLinearAveragePool", whole=True)
@operator("qlinear_global_average_pool", "QLinearGlobalAveragePool", written=True)
def global_average_pool(draw: Draw, *, whole: bool = False, written: bool = False) -> Case:
    """Q/DQ around GlobalAveragePool of any rank, or AveragePool with a window as large as the image.

    Images of 4, 8 and 16 pixels, whose means lie on ties, are frequent.
    """
    build, source = Builder(draw), draw.activation()
    image = draw.choice([(2, 2), (4, 2), (4, 4), draw.shape(2, 9), draw.shape(1 if whole else 3, 5)])
    shape, target = (draw.integer(1, 2), draw.integer(1, 80), *image), pool_target(draw, source)
    if whole:
        attributes = {"kernel_shape": list(image), "count_include_pad": draw.integer(0, 1)}
        return build.finish(build.node("AveragePool", [build.activation(shape, source)], **attributes), target)
    if written:
        inputs = [build.codes(shape, source), *build.parameters(source), *build.parameters(target)]
        build.output(
            build.node("QLinearGlobalAveragePool", inputs, MICROSOFT, channels_last=0), target.dtype, len(shape)
        )
        return build.case()
    return build.finish(build.node("GlobalAveragePool", [build.activation(shape, source)]), target)


@operator("max_pool", "MaxPool")
@operator("max_pool_1d", "MaxPool", rank=1)
def max_pool(draw: Draw, rank: int = 2) -> Case:
    """Q/DQ around MaxPool with pads, dilations and ceil_mode."""
    build, code = Builder(draw), draw.activation()
    spatial = tuple(draw.integers(5, 9, rank))
    attributes = pool_attributes(draw, rank, average=False)
    real = build.activation((draw.integer(1, 2), draw.integer(1, 5), *spatial), code)
    return build.finish(build.node("MaxPool", [real], **attributes), code)
