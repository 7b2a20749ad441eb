"""Train a small network with PyTorch's own fake quantisation and let PyTorch's exporter write it as Q/DQ ONNX.

Run ``python tests/models/exports/build_pytorch.py`` with torch==2.13.0, scikit-learn and onnx installed. The file is
committed as PyTorch wrote it, with what PyTorch computes for the 64 digits beside it.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver

SEED, EPOCHS, HELD_BACK = 7, 8, 64


def activation_rounding() -> FakeQuantize:
    """Return what rounds an activation: uint8, affine, one scale."""
    return FakeQuantize(MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8)


def weight_rounding() -> FakeQuantize:
    """Return what rounds a weight: int8, symmetric, a scale per output channel."""
    return FakeQuantize(
        MovingAveragePerChannelMinMaxObserver,
        quant_min=-128,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
    )


class Rounded(nn.Module):
    """A layer whose weight and whose output are rounded."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, *, relu: bool = True) -> None:
        super().__init__()
        self.layer, self.relu = layer, relu
        self.weight_rounding, self.output_rounding = weight_rounding(), activation_rounding()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        weight = self.weight_rounding(self.layer.weight)
        if isinstance(self.layer, nn.Conv2d):
            y = nn.functional.conv2d(x, weight, self.layer.bias, self.layer.stride, self.layer.padding)
        else:
            y = nn.functional.linear(x, weight, self.layer.bias)
        return self.output_rounding(torch.relu(y) if self.relu else y)


class Network(nn.Module):
    """Two convolutions with a shortcut, a pooling and a classifier for 8x8 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.input_rounding, self.sum_rounding = activation_rounding(), activation_rounding()
        self.first = Rounded(nn.Conv2d(1, 16, 3, padding=1))
        self.second = Rounded(nn.Conv2d(16, 16, 3, padding=1), relu=False)
        self.dense = Rounded(nn.Linear(256, 10), relu=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores."""
        x = self.first(self.input_rounding(image))
        x = self.sum_rounding(torch.relu(x + self.second(x)))
        return self.dense(nn.functional.max_pool2d(x, 2).flatten(1))


def main() -> None:
    """Train, export and write."""
    warnings.simplefilter("ignore")
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy((pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8))
    targets = torch.from_numpy(labels)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images) - HELD_BACK).split(64):
            loss = nn.functional.cross_entropy(network(images[chosen]), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
    for module in network.modules():
        if isinstance(module, FakeQuantize):
            module.disable_observer()
    held_back = images[-HELD_BACK:]
    with torch.no_grad():
        logits = network(held_back).numpy()
    buffer = io.BytesIO()
    torch.onnx.export(
        network,
        (held_back[:1],),
        buffer,
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
    )
    model = onnx.load_from_string(buffer.getvalue())
    for node in model.graph.node:
        node.ClearField("doc_string")  # lines of this script and where it lay
    here = Path(__file__).parent
    onnx.save(model, here / "pytorch_qdq.onnx")
    np.savez_compressed(here / "pytorch_qdq.npz", image=held_back.numpy(), logits=logits, labels=labels[-HELD_BACK:])
    print((logits.argmax(1) == labels[-HELD_BACK:]).mean())


if __name__ == "__main__":
    main()
