"""Convolutional networks and the autoencoder, with the layers and shapes of their publications."""

from __future__ import annotations

from accelsim.models.sketch import Drawing, Sketch, Tensor

IMAGE = (1, 3, 224, 224)
CLASSES = 1000


def _basic_block(draw: Drawing, x: Tensor, name: str, filters: int, stride: int) -> Tensor:
    """Add the two 3x3 convolutions of ResNet-18 and -34."""
    y = draw.convolve(x, f"{name}_conv1", filters, 3, stride, activation="relu")
    y = draw.convolve(y, f"{name}_conv2", filters, 3)
    return _residual(draw, x, y, name, stride)


def _bottleneck(draw: Drawing, x: Tensor, name: str, filters: int, stride: int) -> Tensor:
    """Add the 1x1, 3x3, 1x1 convolutions of ResNet-50; the stride is that of the 3x3 (the variant called v1.5)."""
    y = draw.convolve(x, f"{name}_conv1", filters, 1, activation="relu")
    y = draw.convolve(y, f"{name}_conv2", filters, 3, stride, activation="relu")
    y = draw.convolve(y, f"{name}_conv3", 4 * filters, 1)
    return _residual(draw, x, y, name, stride)


def _residual(draw: Drawing, x: Tensor, y: Tensor, name: str, stride: int) -> Tensor:
    """Add the shortcut of a block, a 1x1 convolution where shapes differ, and the sum."""
    if x.shape != y.shape:
        x = draw.convolve(x, f"{name}_shortcut", y.shape[1], 1, stride)
    return draw.add(y, x, f"{name}_sum", "relu")


def resnet(depth: int) -> Sketch:
    """Draw ResNet-18 or ResNet-50 for 224x224 images (He et al., CVPR 2016, table 1)."""
    block, repeats = {18: (_basic_block, (2, 2, 2, 2)), 50: (_bottleneck, (3, 4, 6, 3))}[depth]
    draw = Drawing(f"resnet{depth}")
    x = draw.convolve(draw.floats("image", *IMAGE), "stem", 64, 7, 2, activation="relu")
    x = draw.max_pool(x, "stem_pool", 3, 2, 1)
    for stage, count in enumerate(repeats):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            x = block(draw, x, f"stage{stage + 1}_block{index + 1}", 64 << stage, stride)
    x = draw.global_average(x, "global_pool")
    return draw.finish(draw.dense(x, "logits", CLASSES), free_batch=True)


def mobilenet_v1() -> Sketch:
    """Draw MobileNet 1.0 for 224x224 images (Howard et al., arXiv:1704.04861, table 1)."""
    draw = Drawing("mobilenetv1")
    x = draw.convolve(draw.floats("image", *IMAGE), "stem", 32, 3, 2, activation="relu")
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for index, (filters, stride) in enumerate(blocks, 1):
        x = draw.convolve(x, f"depthwise{index}", x.shape[1], 3, stride, groups=x.shape[1], activation="relu")
        x = draw.convolve(x, f"pointwise{index}", filters, 1, activation="relu")
    x = draw.global_average(x, "global_pool")
    return draw.finish(draw.dense(x, "logits", CLASSES), free_batch=True)


def mobilenet_v2() -> Sketch:
    """Draw MobileNetV2 1.0 for 224x224 images (Sandler et al., CVPR 2018, table 2)."""
    draw = Drawing("mobilenetv2")
    x = draw.convolve(draw.floats("image", *IMAGE), "stem", 32, 3, 2, activation="relu6")
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    number = 0
    for expansion, filters, repeats, first_stride in rows:
        for index in range(repeats):
            number += 1
            x = _inverted(draw, x, f"block{number}", expansion, filters, first_stride if index == 0 else 1)
    x = draw.convolve(x, "head", 1280, 1, activation="relu6")
    x = draw.global_average(x, "global_pool")
    return draw.finish(draw.dense(x, "logits", CLASSES), free_batch=True)


def _inverted(draw: Drawing, x: Tensor, name: str, expansion: int, filters: int, stride: int) -> Tensor:
    """Add an inverted residual block: wider, depthwise, narrower without activation, and a shortcut if shapes agree."""
    y, wide = x, x.shape[1] * expansion
    if expansion > 1:
        y = draw.convolve(y, f"{name}_expand", wide, 1, activation="relu6")
    y = draw.convolve(y, f"{name}_depthwise", wide, 3, stride, groups=wide, activation="relu6")
    y = draw.convolve(y, f"{name}_project", filters, 1)
    return draw.add(x, y, f"{name}_sum") if x.shape == y.shape else y


def ds_cnn() -> Sketch:
    """Draw the keyword-spotting network of MLPerf Tiny (DS-CNN S of Zhang et al., arXiv:1711.07128)."""
    draw = Drawing("ds-cnn")
    x = draw.floats("features", 1, 1, 49, 10)  # 49 frames of 10 cepstral coefficients
    x = draw.convolve(x, "stem", 64, (10, 4), 2, pads=(4, 1, 5, 1), activation="relu")
    for index in range(1, 5):
        x = draw.convolve(x, f"depthwise{index}", 64, 3, groups=64, activation="relu")
        x = draw.convolve(x, f"pointwise{index}", 64, 1, activation="relu")
    x = draw.global_average(x, "global_pool")
    return draw.finish(draw.dense(x, "logits", 12), free_batch=True)


def autoencoder() -> Sketch:
    """Draw the anomaly detector of MLPerf Tiny: 640 spectral features through a waist of 8 and back."""
    draw = Drawing("autoencoder")
    x = draw.floats("features", 1, 640)
    for index, width in enumerate((128, 128, 128, 128, 8, 128, 128, 128, 128), 1):
        x = draw.dense(x, f"dense{index}", width, activation="relu", normalised=True)
    return draw.finish(draw.dense(x, "reconstruction", 640), free_batch=True)
