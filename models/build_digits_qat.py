"""Train the digits network for weights of 4 and of 2 bits, and quantise it to as many without training, to compare.

Run ``python models/build_digits_qat.py`` after build_digits.py, whose networks it starts from; with the same package
versions on the same machine the four output files come out byte-identical every time.

All networks share the graph and the 8-bit activations of digits_int8.onnx; only weights and biases differ. Weights are
symmetric with one scale per output channel, the largest weight of the channel being the largest code.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from accelsim.models.build_digits import (
    BATCH_SIZE,
    BEFORE_ADD,
    CONVOLUTIONS,
    POINTWISE1,
    POINTWISE2,
    POINTWISE3,
    POOL_SIZE,
    SEED,
    ConvolutionLayer,
    DataSplit,
    FloatArray,
    LabelArray,
    _shift_randomly,
    accuracy,
    load_split,
    make_deterministic,
    require,
)

EPOCHS = 40
EXPORT_TOLERANCE = 0.05  # mean steps of the logits: PyTorch sums in another order, so that a few codes fall differently
PEAK_LEARNING_RATE = 2e-3
WIDTHS = (4, 2)
LAYERS = (*(layer.name for layer in CONVOLUTIONS), "dense")
OPSET_VERSION, IR_VERSION = 21, 10  # the first with 4-bit tensors


@dataclass(frozen=True)
class Grid:
    """Scale and zero point of a tensor of uint8 codes."""

    scale: float
    zero_point: int


def pass_straight_through(reals: Tensor, quantised: Tensor) -> Tensor:
    """Return the quantised values; their gradient is handed to the reals as if nothing had been rounded."""
    return reals + (quantised - reals).detach()


def fake_quantise_layer(weight: Tensor, bias: Tensor, input_scale: float, bits: int) -> tuple[Tensor, Tensor]:
    """Round the parameters of a layer as `with_weights` does.

    Args:
        weight: output channels first; symmetric codes with a scale per output channel.
        bias: whole multiples of the products' unit, which is coarse where weights have few bits.
        input_scale: scale of the codes that the layer reads.
        bits: of a weight.
    """
    largest = 2 ** (bits - 1) - 1
    scale = weight.detach().abs().flatten(1).amax(1) / largest
    wide = scale.reshape(-1, *[1] * (weight.ndim - 1))
    codes = torch.round(weight / wide).clamp(-largest, largest)
    units = input_scale * scale
    return pass_straight_through(weight, codes * wide), pass_straight_through(bias, torch.round(bias / units) * units)


def fake_quantise_activation(values: Tensor, grid: Grid) -> Tensor:
    """Round activations to uint8 codes; what lies outside of their range is clipped and gets no gradient."""
    low, high = -grid.zero_point * grid.scale, (255 - grid.zero_point) * grid.scale
    inside = values.clamp(low, high)
    return pass_straight_through(inside, torch.round(inside / grid.scale) * grid.scale)


class QuantisedDigits(nn.Module):
    """The digits network, batch normalisation folded, whose weights and activations are rounded while it trains."""

    def __init__(self, weights: Mapping[str, FloatArray], grids: Mapping[str, Grid], bits: int) -> None:
        """Start from the weights of the float network."""
        super().__init__()
        self.parameters_by_name = nn.ParameterDict({name: torch.from_numpy(array) for name, array in weights.items()})
        self.grids = grids
        self.bits = bits

    def _parameters_of(self, name: str, source: str) -> tuple[Tensor, Tensor]:
        """Return the rounded weight and bias of a layer that reads a tensor."""
        weight, bias = (self.parameters_by_name[f"{name}_{part}"] for part in ("weight", "bias"))
        return fake_quantise_layer(weight, bias, self.grids[source].scale, self.bits)

    def _round(self, values: Tensor, name: str) -> Tensor:
        """Round an activation to the codes of the tensor of that name; ReLU is what its range does."""
        return fake_quantise_activation(values, self.grids[name])

    def _convolve(self, layer: ConvolutionLayer, inputs: Tensor) -> Tensor:
        """Apply one convolution and round what comes out."""
        weight, bias = self._parameters_of(layer.name, layer.source)
        result = nn.functional.conv2d(inputs, weight, bias, layer.stride, layer.padding, groups=layer.groups)
        return self._round(result, layer.output)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores of a batch of images."""
        tensors = {"image": self._round(image, "image")}
        for layer in BEFORE_ADD:
            tensors[layer.output] = self._convolve(layer, tensors[layer.source])
        residual = self._round(tensors[POINTWISE1.output] + tensors[POINTWISE2.output], "residual_relu_out")
        features = self._convolve(POINTWISE3, nn.functional.max_pool2d(residual, POOL_SIZE))
        pooled = self._round(features.mean(dim=(2, 3)), "global_pool_out")
        return self._round(nn.functional.linear(pooled, *self._parameters_of("dense", "global_pool_out")), "logits")


def train(network: QuantisedDigits, images: FloatArray, labels: LabelArray) -> None:
    """Train with rounding in the loop, from where the float network ended."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(network.parameters())
    steps = EPOCHS * (len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps)
    all_images, all_labels = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images) - BATCH_SIZE + 1, BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            logits = network(_shift_randomly(all_images[chosen], generator))
            loss = nn.functional.cross_entropy(logits, all_labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimizer.step()
            schedule.step()


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the initialisers of a model by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def read_grids(int8_model: onnx.ModelProto) -> dict[str, Grid]:
    """Return the codes of every activation that the 8-bit network quantises."""
    known = constants(int8_model)
    quantisers = [node for node in int8_model.graph.node if node.op_type == "QuantizeLinear"]
    grids = {node.input[0]: Grid(float(known[node.input[1]]), int(known[node.input[2]])) for node in quantisers}
    return grids | {"logits": grids["logits_QuantizeLinear_Input"]}


def encode_weight(weight: FloatArray, bits: int) -> tuple[np.ndarray, FloatArray]:
    """Return the symmetric codes of a weight and the scale of each output channel."""
    largest = 2 ** (bits - 1) - 1
    scale = (np.abs(weight).reshape(len(weight), -1).max(axis=1) / largest).astype(np.float32)
    codes = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(codes, -largest, largest).astype(np.int8), scale


def with_weights(int8_model: onnx.ModelProto, weights: Mapping[str, FloatArray], bits: int) -> onnx.ModelProto:
    """Return the 8-bit network with other weights in fewer bits, and biases in the units of their products.

    Weights of 2 bits lie in 4-bit tensors, too: onnxruntime's optimiser fuses 2-bit ones into a QLinearConv that does
    not take them.
    """
    model = onnx.ModelProto()
    model.CopyFrom(int8_model)
    model.ir_version, model.opset_import[0].version = IR_VERSION, OPSET_VERSION
    model.producer_name = "accelsim.models.build_digits_qat"
    known = constants(int8_model)
    changed: dict[str, onnx.TensorProto] = {}
    producers = {node.output[0]: node for node in model.graph.node}
    inputs = {node.name: node.input[0] for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    for name in LAYERS:
        codes, scale = encode_weight(weights[f"{name}_weight"], bits)
        units = (known[producers[inputs[name]].input[1]] * scale).astype(np.float32)
        zeros = np.zeros(len(scale), np.int8)
        changed |= {
            f"{name}_weight_quantized": _packed(f"{name}_weight_quantized", codes),
            f"{name}_weight_zero_point": _packed(f"{name}_weight_zero_point", zeros),
            f"{name}_weight_scale": numpy_helper.from_array(scale, f"{name}_weight_scale"),
            f"{name}_bias_quantized_scale": numpy_helper.from_array(units, f"{name}_bias_quantized_scale"),
            f"{name}_bias_quantized": numpy_helper.from_array(
                np.rint(weights[f"{name}_bias"] / units).astype(np.int32), f"{name}_bias_quantized"
            ),
        }
    kept = [changed.get(tensor.name, tensor) for tensor in model.graph.initializer]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    return model


def _packed(name: str, codes: np.ndarray) -> onnx.TensorProto:
    """Return a constant of 4-bit codes."""
    return numpy_helper.from_array(codes.astype(ml_dtypes.int4), name)


def predict(model: onnx.ModelProto, images: FloatArray) -> FloatArray:
    """Return the class scores that onnxruntime computes for a batch of images, literally as the file says."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": images})[0], dtype=np.float32)


def cross_entropy(logits: FloatArray, labels: LabelArray) -> float:
    """Return the mean of minus the logarithm of the probability given to the right class."""
    wide = logits.astype(np.float64)
    surplus = wide - wide.max(axis=1, keepdims=True)
    probabilities = np.exp(surplus) / np.exp(surplus).sum(axis=1, keepdims=True)
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def train_for(
    bits: int, start: Mapping[str, FloatArray], grids: Mapping[str, Grid], split: DataSplit
) -> QuantisedDigits:
    """Train a network whose weights have so many bits."""
    make_deterministic()
    network = QuantisedDigits({name: array.copy() for name, array in start.items()}, grids, bits)
    train(network, split.train_images, split.train_labels)
    return network


def main() -> None:
    """Train, quantise, compare and write the networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parent
    parser.add_argument("--output", type=Path, default=here, help="target directory")
    output: Path = parser.parse_args().output
    split = load_split()
    int8_model = onnx.load(here / "digits_int8.onnx")
    start, grids = constants(onnx.load(here / "digits_float.onnx")), read_grids(int8_model)
    models, scores = {}, {}
    for bits in WIDTHS:
        network = train_for(bits, start, grids, split)
        trained = {name: value.detach().numpy() for name, value in network.parameters_by_name.items()}
        for kind, weights in (("ptq", start), ("qat", trained)):
            name = f"digits_w{bits}_{kind}"
            models[name] = with_weights(int8_model, weights, bits)
            logits = predict(models[name], split.test_images)
            scores[name] = accuracy(logits, split.test_labels)
            right = round(scores[name] * len(split.test_labels))
            loss = cross_entropy(logits, split.test_labels)
            print(f"{name:16} {right} of {len(split.test_labels)}, cross-entropy {loss:.3f}")
        with torch.no_grad():
            difference = logits - network(torch.from_numpy(split.test_images)).numpy()
        distance = float(np.abs(difference).mean()) / grids["logits"].scale
        require(distance < EXPORT_TOLERANCE, f"{name} is {distance:.2f} steps of the logits away from PyTorch")
        require(scores[name] > scores[f"digits_w{bits}_ptq"], f"training did not help: {scores}")
    output.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        onnx.save(model, output / f"{name}.onnx")


if __name__ == "__main__":
    main()
