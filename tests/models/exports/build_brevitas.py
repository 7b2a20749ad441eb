"""Train a small network with Brevitas and let it write it twice: as QONNX, and as Q/DQ with Clip (QCDQ).

Run ``python tests/models/exports/build_brevitas.py`` with brevitas==0.13.4, qonnx==1.0.0, torch==2.13.0, onnxoptimizer,
onnxscript and scikit-learn installed. The files are committed as Brevitas wrote them, beside what it computes for 64
digits.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import onnx
import torch
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Int32Bias, Uint8ActPerTensorFloat
from sklearn.datasets import load_digits
from torch import Tensor, nn

SEED, EPOCHS, HELD_BACK = 7, 10, 64
WEIGHT_BITS, ACTIVATION_BITS = 4, 4


class Network(nn.Module):
    """Two convolutions and a classifier for 8x8 digits: 4-bit weights, 4-bit activations, 8-bit input and output."""

    def __init__(self) -> None:
        super().__init__()
        weight = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": WEIGHT_BITS, "bias_quant": Int32Bias}
        act = {"act_quant": Uint8ActPerTensorFloat, "bit_width": ACTIVATION_BITS, "return_quant_tensor": True}
        self.input = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=8, return_quant_tensor=True)
        self.first = qnn.QuantConv2d(1, 16, 3, padding=1, **weight)
        self.first_relu = qnn.QuantReLU(**act)
        self.second = qnn.QuantConv2d(16, 16, 3, stride=2, padding=1, **weight)
        self.second_relu = qnn.QuantReLU(**act)
        self.dense = qnn.QuantLinear(256, 10, bias=True, **weight)
        self.output = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=8)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores."""
        x = self.first_relu(self.first(self.input(image)))
        x = self.second_relu(self.second(x))
        return self.output(self.dense(x.flatten(1)))


def strip(path: Path) -> None:
    """Remove what names lines of this script and where it lay."""
    model = onnx.load(path)
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    onnx.save(model, path)


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
    held_back = images[-HELD_BACK:]
    with torch.no_grad():
        logits = network(held_back).numpy()
    here = Path(__file__).parent
    names = {"input_names": ["image"], "output_names": ["logits"], "dynamo": False}
    free = {"dynamic_axes": {"image": {0: "N"}, "logits": {0: "N"}}}
    for export, name in ((export_qonnx, "brevitas_qonnx"), (export_onnx_qcdq, "brevitas_qcdq")):
        path = here / f"{name}.onnx"
        export(network, args=held_back[:1], export_path=str(path), **names, **free)
        strip(path)
    np.savez_compressed(here / "brevitas.npz", image=held_back.numpy(), logits=logits, labels=labels[-HELD_BACK:])
    print((logits.argmax(1) == labels[-HELD_BACK:]).mean())


if __name__ == "__main__":
    main()
