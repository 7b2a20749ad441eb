"""Train, export and quantise the small handwritten-digit network that ships as the example model.

Run ``python models/build_digits.py``; with the same package versions on the same machine the five
output files come out byte-identical every time.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

FloatArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.int64]

SEED = 20240
OPSET_VERSION = 17
IR_VERSION = 8
CLASSES = 10
TEST_IMAGES = 360
CALIBRATION_IMAGES = 200
SAMPLE_IMAGES = 4
EPOCHS = 50
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 8e-3
LARGEST_SHIFT = 2
MINIMUM_ACCURACY = 0.98
MAXIMUM_ACCURACY_LOSS = 0.01
EXPORT_TOLERANCE = 1e-4
POOL_SIZE = 2


@dataclass(frozen=True)
class ConvolutionLayer:
    """Describe one convolution together with its folded batch normalisation and optional ReLU."""

    name: str
    source: str
    in_channels: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    relu: bool = True

    @property
    def padding(self) -> int:
        """Return the symmetric padding that keeps the size at stride one."""
        return self.kernel // 2

    @property
    def output(self) -> str:
        """Return the name of the tensor that this layer hands on."""
        return f"{self.name}_relu_out" if self.relu else f"{self.name}_out"


STEM = ConvolutionLayer("stem", "image", 1, 16)
REDUCE = ConvolutionLayer("reduce", STEM.output, 16, 32, stride=2)
DEPTHWISE1 = ConvolutionLayer("depthwise1", REDUCE.output, 32, 32, groups=32)
POINTWISE1 = ConvolutionLayer("pointwise1", DEPTHWISE1.output, 32, 64, kernel=1)
DEPTHWISE2 = ConvolutionLayer("depthwise2", POINTWISE1.output, 64, 64, groups=64)
POINTWISE2 = ConvolutionLayer("pointwise2", DEPTHWISE2.output, 64, 64, kernel=1, relu=False)
POINTWISE3 = ConvolutionLayer("pointwise3", "pool_out", 64, 96, kernel=1)
BEFORE_ADD = (STEM, REDUCE, DEPTHWISE1, POINTWISE1, DEPTHWISE2, POINTWISE2)
CONVOLUTIONS = (*BEFORE_ADD, POINTWISE3)


class DataSplit(NamedTuple):
    """Hold the three disjoint parts of the data set."""

    train_images: FloatArray
    train_labels: LabelArray
    calibration: tuple[FloatArray, LabelArray]
    test_images: FloatArray
    test_labels: LabelArray


class DigitNetwork(nn.Module):
    """Classify 16x16 digits with strided, depthwise and pointwise convolutions and one residual sum."""

    def __init__(self) -> None:
        """Create all layers with freshly initialised weights."""
        super().__init__()
        self.convolutions = nn.ModuleDict({layer.name: _make_convolution(layer) for layer in CONVOLUTIONS})
        self.dense = nn.Linear(POINTWISE3.out_channels, CLASSES)

    def _convolve(self, layer: ConvolutionLayer, inputs: Tensor) -> Tensor:
        """Apply one convolution, its batch normalisation and its ReLU."""
        result: Tensor = self.convolutions[layer.name](inputs)
        return torch.relu(result) if layer.relu else result

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores of a batch of images."""
        tensors = {"image": image}
        for layer in BEFORE_ADD:
            tensors[layer.output] = self._convolve(layer, tensors[layer.source])
        residual = torch.relu(tensors[POINTWISE1.output] + tensors[POINTWISE2.output])
        pooled = nn.functional.max_pool2d(residual, POOL_SIZE)
        features = self._convolve(POINTWISE3, pooled)
        logits: Tensor = self.dense(features.mean(dim=(2, 3)))
        return logits


def _make_convolution(layer: ConvolutionLayer) -> nn.Sequential:
    """Build the trainable form of one convolution layer."""
    shape = (layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding)
    convolution = nn.Conv2d(*shape, groups=layer.groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(layer.out_channels))


def make_deterministic() -> None:
    """Fix every seed and restrict PyTorch to one thread and deterministic kernels."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def load_split() -> DataSplit:
    """Load the digits, double their resolution and split them, stratified by class."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 1, 8, 8) / 16.0).astype(np.float32)
    images = images.repeat(2, axis=2).repeat(2, axis=3)
    labels = labels.astype(np.int64)
    rest_images, test_images, rest_labels, test_labels = train_test_split(
        images, labels, test_size=TEST_IMAGES, random_state=SEED, stratify=labels
    )
    train_images, kept_images, train_labels, kept_labels = train_test_split(
        rest_images, rest_labels, test_size=CALIBRATION_IMAGES, random_state=SEED, stratify=rest_labels
    )
    return DataSplit(train_images, train_labels, (kept_images, kept_labels), test_images, test_labels)


def _shift_randomly(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move the whole batch by the same random number of pixels, filling with zeros."""
    offsets = torch.randint(0, 2 * LARGEST_SHIFT + 1, (2,), generator=generator)
    row, column = int(offsets[0]), int(offsets[1])
    padded = nn.functional.pad(images, (LARGEST_SHIFT,) * 4)
    return padded[:, :, row : row + images.shape[2], column : column + images.shape[3]]


def train(images: FloatArray, labels: LabelArray) -> DigitNetwork:
    """Train a network from scratch and return it in inference mode."""
    network = DigitNetwork()
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    steps = EPOCHS * (len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps)
    all_images, all_labels = torch.from_numpy(images), torch.from_numpy(labels)
    network.train()
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
    return network.eval()


def fold_batch_norm(block: nn.Sequential) -> tuple[FloatArray, FloatArray]:
    """Return the weight and bias of a convolution that includes the following batch normalisation."""
    convolution, norm = block[0], block[1]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = convolution.weight.detach().double() * scale.reshape(-1, 1, 1, 1)
    bias = norm.bias.detach().double() - norm.running_mean.double() * scale
    return weight.numpy().astype(np.float32), bias.numpy().astype(np.float32)


def _convolution_nodes(layer: ConvolutionLayer) -> Iterator[onnx.NodeProto]:
    """Yield the Conv node of a layer and its Relu node if it has one."""
    yield helper.make_node(
        "Conv",
        [layer.source, f"{layer.name}_weight", f"{layer.name}_bias"],
        [f"{layer.name}_out"],
        name=layer.name,
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 4,
        dilations=[1, 1],
        group=layer.groups,
    )
    if layer.relu:
        yield helper.make_node("Relu", [f"{layer.name}_out"], [layer.output], name=f"{layer.name}_relu")


def _graph_nodes() -> Iterator[onnx.NodeProto]:
    """Yield all nodes of the float network in execution order."""
    for layer in BEFORE_ADD:
        yield from _convolution_nodes(layer)
    summands = [POINTWISE1.output, POINTWISE2.output]
    yield helper.make_node("Add", summands, ["residual_add_out"], name="residual_add")
    yield helper.make_node("Relu", ["residual_add_out"], ["residual_relu_out"], name="residual_relu")
    window = [POOL_SIZE, POOL_SIZE]
    yield helper.make_node(
        "MaxPool", ["residual_relu_out"], ["pool_out"], name="pool", kernel_shape=window, strides=window
    )
    yield from _convolution_nodes(POINTWISE3)
    yield helper.make_node("GlobalAveragePool", [POINTWISE3.output], ["global_pool_out"], name="global_pool")
    yield helper.make_node("Flatten", ["global_pool_out"], ["flatten_out"], name="flatten", axis=1)
    dense = ["flatten_out", "dense_weight", "dense_bias"]
    yield helper.make_node("Gemm", dense, ["logits"], name="dense", transB=1)


def _initializers(network: DigitNetwork) -> Iterator[onnx.TensorProto]:
    """Yield the weights and biases of the float network."""
    for layer in CONVOLUTIONS:
        block = network.convolutions[layer.name]
        assert isinstance(block, nn.Sequential)
        weight, bias = fold_batch_norm(block)
        yield numpy_helper.from_array(weight, f"{layer.name}_weight")
        yield numpy_helper.from_array(bias, f"{layer.name}_bias")
    yield numpy_helper.from_array(network.dense.weight.detach().numpy(), "dense_weight")
    yield numpy_helper.from_array(network.dense.bias.detach().numpy(), "dense_bias")


def export_float(network: DigitNetwork, image_shape: Sequence[int]) -> onnx.ModelProto:
    """Write the trained network out as an ONNX model with batch normalisation folded."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *image_shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])
    nodes, weights = list(_graph_nodes()), list(_initializers(network))
    graph = helper.make_graph(nodes, "digits", [image], [logits], initializer=weights)
    opset = helper.make_opsetid("", OPSET_VERSION)
    return tidy(helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION))


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with shapes annotated and everything tool-specific or unordered removed."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    bare.graph.ClearField("value_info")
    result = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    for field in ("producer_version", "domain", "model_version", "doc_string", "metadata_props"):
        result.ClearField(field)
    result.producer_name = "accelsim.models.build_digits"
    graph = result.graph
    graph.name = "digits"
    graph.ClearField("doc_string")
    for item in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    for entries in (graph.initializer, graph.value_info):
        entries.sort(key=lambda entry: entry.name)
    used = {node.domain for node in graph.node}
    opsets = [opset for opset in result.opset_import if opset.domain in used]
    result.ClearField("opset_import")
    result.opset_import.extend(opsets)
    onnx.checker.check_model(result, full_check=True)
    return result


class ImageReader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
    """Feed the calibration images to the quantiser one at a time."""

    def __init__(self, images: FloatArray) -> None:
        """Start at the first image."""
        self._batches = iter(images[:, np.newaxis])

    def get_next(self) -> dict[str, FloatArray] | None:
        """Return the next input, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def quantise(model: onnx.ModelProto, calibration_images: FloatArray) -> onnx.ModelProto:
    """Quantise to uint8 activations (min-max ranges) and per-channel int8 weights in Q/DQ form."""
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "float.onnx"), Path(directory, "int8.onnx")
        onnx.save(model, source)
        quantize_static(
            str(source),
            str(target),
            ImageReader(calibration_images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return tidy(onnx.load(target))


def open_session(model: onnx.ModelProto, optimised_path: Path | None = None) -> ort.InferenceSession:
    """Open a single-threaded CPU session and optionally save the graph it really executes."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimised_path is not None:
        options.optimized_model_filepath = str(optimised_path)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def predict(model: onnx.ModelProto, images: FloatArray) -> FloatArray:
    """Return the class scores that onnxruntime computes for a batch of images."""
    return np.asarray(open_session(model).run(["logits"], {"image": images})[0], dtype=np.float32)


def accuracy(logits: FloatArray, labels: LabelArray) -> float:
    """Return the share of correctly classified images."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def require(condition: bool, message: str) -> None:
    """Stop the build with a message unless the condition holds."""
    if not condition:
        raise SystemExit(f"build_digits: {message}")


def check_integer_execution(model: onnx.ModelProto) -> Counter[str]:
    """Return the operator counts of the optimised graph after checking that it is all integer."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "optimised.onnx")
        open_session(model, path)
        found = Counter(node.op_type for node in onnx.load(path).graph.node)
    once = ["QuantizeLinear", "QLinearAdd", "MaxPool", "QLinearGlobalAveragePool", "Flatten", "QGemm"]
    expected = Counter([*once, "DequantizeLinear", *["QLinearConv"] * len(CONVOLUTIONS)])
    require(found == expected, f"not executed as integers: {dict(found)}")
    return found


def count_operations(model: onnx.ModelProto) -> tuple[int, int]:
    """Return the number of parameters and of multiply-accumulates per image of the float model."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    values = (*model.graph.value_info, *model.graph.output)
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}
    parameters = sum(int(np.prod(shape)) for shape in weights.values())
    operations = 0
    for node in model.graph.node:
        if node.op_type in {"Conv", "Gemm"}:
            positions = np.prod(shapes[node.output[0]][2:], dtype=np.int64)
            operations += int(positions * np.prod(weights[node.input[1]]))
    return parameters, operations


def write_files(directory: Path, models: dict[str, onnx.ModelProto], split: DataSplit) -> None:
    """Write the models under their names, the held-back digits and the small sample."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        onnx.save(model, directory / f"{name}.onnx")
    np.savez_compressed(directory / "digits_calibration.npz", image=split.calibration[0], labels=split.calibration[1])
    np.savez_compressed(directory / "digits_test.npz", image=split.test_images, labels=split.test_labels)
    np.savez_compressed(directory / "digits_sample.npz", image=split.test_images[:SAMPLE_IMAGES])


def main() -> None:
    """Build, check and write the example model and print its key figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parent
    parser.add_argument("--output", type=Path, default=here, help="target directory")
    output: Path = parser.parse_args().output
    logging.getLogger().setLevel(logging.ERROR)
    make_deterministic()
    split = load_split()
    network = train(split.train_images, split.train_labels)
    float_model = export_float(network, split.test_images.shape[1:])
    float_logits = predict(float_model, split.test_images)
    with torch.no_grad():
        error = np.abs(network(torch.from_numpy(split.test_images)).numpy() - float_logits).max()
    require(error < EXPORT_TOLERANCE, f"export differs from PyTorch by {error:.2e}")
    int8_model = quantise(float_model, split.calibration[0])
    executed = check_integer_execution(int8_model)
    float_accuracy = accuracy(float_logits, split.test_labels)
    int8_accuracy = accuracy(predict(int8_model, split.test_images), split.test_labels)
    require(float_accuracy >= MINIMUM_ACCURACY, f"float accuracy is only {float_accuracy:.4f}")
    loss = float_accuracy - int8_accuracy
    require(loss <= MAXIMUM_ACCURACY_LOSS, f"quantisation loses {loss:.4f} accuracy")
    write_files(output, {"digits_float": float_model, "digits_int8": int8_model}, split)
    parameters, operations = count_operations(float_model)
    print(f"parameters            {parameters}\nMACs per image        {operations}")
    print(f"largest export error  {error:.2e}")
    print(f"float accuracy        {float_accuracy:.4f} on {len(split.test_labels)} held-back digits")
    print(f"int8 accuracy         {int8_accuracy:.4f} on {len(split.test_labels)} held-back digits")
    print(f"executed int8 graph   {dict(sorted(executed.items()))}")


if __name__ == "__main__":
    main()
