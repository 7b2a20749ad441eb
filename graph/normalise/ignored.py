"""What the file says and the integer kernels that onnxruntime fused do not read: axes of weights, scales of biases.

onnxruntime replaces DequantizeLinear, operator, QuantizeLinear by one kernel. The kernel takes scales and zero points,
but no axis, and no scale of a bias: where the file says something else than the kernel assumes, the two compute
something else. Everything here is read off the graph that ran, so that nothing is said of groups that stayed in float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto

from accelsim.errors import printable
from accelsim.graph.load.constraints import node_label
from accelsim.graph.normalise.normalise import NormalisedModel
from accelsim.graph.normalise.source import Source, attribute

# Scales that are products of float32 scales differ by rounding; what is farther away was meant.
_ROUNDING = 1e-5

# Integer kernels that products are fused into: where they read the weights.
_WEIGHTS_AT: Mapping[str, int] = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3, "MatMulIntegerToFloat": 1}

# Those of them that add the codes of a bias as they are.
_ADDS_BIAS = ("QLinearConv", "QGemm")

_CODES = {
    TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4, TensorProto.INT16, TensorProto.UINT16,
}  # fmt: skip
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


@dataclass(frozen=True, eq=False)
class BiasScale:
    """A quantised bias whose scale is not the product of the others: its node, the ratio of both, tensors behind it."""

    node: NodeProto
    ratio: NDArray[np.float64]
    tensors: tuple[str, ...]


def bias_scales(source: Source) -> Iterator[BiasScale]:
    """Yield the quantised biases whose scale is not the product of the operands' scales.

    Args:
        source: the file.
    """
    for node in source.nodes:
        if node.op_type not in ("Gemm", "Conv") or len(node.input) < 3:
            continue
        makers = [source.maker(name, "DequantizeLinear") for name in node.input[:3]]
        scales = [None if maker is None else source.values(maker, 1) for maker in makers]
        if any(scale is None for scale in scales):
            continue
        first, second, bias = (np.asarray(scale, np.float64).reshape(-1) for scale in scales)
        if first.size != 1 or (bias.size != second.size and 1 not in (bias.size, second.size)):
            continue
        product = np.broadcast_to(first * second, np.broadcast_shapes(bias.shape, second.shape))
        ratio = np.where(bias == product, 1.0, np.inf)  # where both are 0, or the product alone
        np.divide(bias, product, out=ratio, where=product != 0)
        if np.abs(ratio - 1).max() <= _ROUNDING:
            continue
        tensors = (node.output[0], source.quantised.get(node.output[0], ""))
        yield BiasScale(node, ratio, tuple(filter(None, tensors)))


def ignored_parameters(model: NormalisedModel) -> tuple[str, ...]:
    """Return sentences on parameters of the file that onnxruntime's integer kernels do not read.

    Args:
        model: the file as it was checked and as onnxruntime executes it.
    """
    if not model.reference.optimised:  # then nothing is fused
        return ()
    source = Source.of(model)
    fused = _Fused(model, source)
    kinds: tuple[Callable[[Source, _Fused], Iterator[str]], ...] = (_weight_axes, _scales_of_biases, _zero_points)
    found = [list(kind(source, fused)) for kind in kinds]
    return tuple(_together(sentences) for sentences in found if sentences)


def _together(sentences: list[str]) -> str:
    """Return the first sentence, and how many more there are of its kind."""
    rest = len(sentences) - 1
    return sentences[0] + ("" if not rest else f"; likewise at {rest:,} more {'node' if rest == 1 else 'nodes'}")


class _Fused:
    """The integer kernels of the graph that ran, found by the node of the file that they replace."""

    def __init__(self, model: NormalisedModel, source: Source) -> None:
        kernels = [node for node in model.proto.graph.node if node.op_type in _WEIGHTS_AT]
        self._source = source
        self._by_name = {node.name: node for node in kernels if node.name}
        self._by_weights = {node.input[_WEIGHTS_AT[node.op_type]]: node for node in kernels}
        self._by_output = {node.output[0]: node for node in kernels}

    def kernel(self, node: NodeProto) -> NodeProto | None:
        """Return the integer kernel that stands for a product of the file, None where it stayed in float."""
        outputs = (node.output[0], self._source.quantised.get(node.output[0], ""))
        found = next((self._by_output[name] for name in outputs if name in self._by_output), None)
        weights = self._source.maker(node.input[1], "DequantizeLinear")
        if found is None and weights is not None:
            found = self._by_weights.get(weights.input[0])
        return found or (self._by_name.get(node.name) if node.name else None)


def _label(node: NodeProto) -> str:
    """Return an operator of the file with its name."""
    return f"{node.op_type} '{printable(node_label(node), 60)}'"


def _weight_axes(source: Source, fused: _Fused) -> Iterator[str]:
    """Say of which weights the scales belong to another axis than the one that the kernel reads them along."""
    for node in source.nodes:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2:
            continue
        weights = source.maker(node.input[1], "DequantizeLinear")
        if weights is None or fused.kernel(node) is None:
            continue
        tensor = source.constants.get(weights.input[0])
        if tensor is None or not _varies(source, weights):
            continue
        rank = len(tensor.dims)
        axis = attribute(weights, "axis", 1) % max(rank, 1)
        read = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else rank - 1
        if axis != read:
            yield (
                f"onnxruntime reads the scales of weights '{printable(weights.input[0], 60)}' along output channels "
                f"(axis {read}), although the file says axis {axis}, in {_label(node)}"
            )


def _varies(source: Source, weights: NodeProto) -> bool:
    """Tell whether weights have several scales or zero points, which are not all the same."""
    found = [source.values(weights, position) for position in (1, 2)]
    return any(values is not None and values.size > 1 and bool((values != values.flat[0]).any()) for values in found)


def _adding_kernel(node: NodeProto, fused: _Fused) -> bool:
    """Tell whether the kernel that stands for a node adds the codes of its bias as they are."""
    kernel = fused.kernel(node)
    return kernel is not None and kernel.op_type in _ADDS_BIAS


def _scales_of_biases(source: Source, fused: _Fused) -> Iterator[str]:
    """Say which biases have a scale that their kernel does not read."""
    for bias in bias_scales(source):
        if _adding_kernel(bias.node, fused):
            worst = float(np.abs(bias.ratio - 1).max())
            far = f"is {worst:.2%} off the" if np.isfinite(worst) else "is not 0 as is the"
            yield (
                f"onnxruntime ignores the scale of the bias of {_label(bias.node)}, which {far} product of the "
                f"operands' scales that its kernel takes"
            )


def _zero_points(source: Source, fused: _Fused) -> Iterator[str]:
    """Say which biases have a zero point that their kernel does not read."""
    for node in source.nodes:
        bias = source.maker(node.input[2], "DequantizeLinear") if len(node.input) > 2 else None
        if node.op_type not in ("Conv", "Gemm") or bias is None or not _adding_kernel(node, fused):
            continue
        zero = source.values(bias, 2)
        if zero is not None and zero.any():
            yield f"onnxruntime ignores the zero point of the bias of {_label(node)}"


def fuses_groups(model: NormalisedModel) -> bool:
    """Tell whether onnxruntime put integer kernels in the place of Q/DQ groups.

    Args:
        model: the file as it was checked and as onnxruntime executes it.
    """
    if not model.reference.optimised:
        return False
    return _integer_nodes(model.proto.graph) > _integer_nodes(model.source.graph)


def _integer_nodes(graph: GraphProto) -> int:
    """Count the nodes beside quantisers that read codes."""
    coded = {tensor.name for tensor in graph.initializer if tensor.data_type in _CODES}
    coded |= {value.name for value in graph.input if value.type.tensor_type.elem_type in _CODES}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") or (
            node.op_type not in _QUANTISERS and node.input and node.input[0] in coded
        ):
            coded.update(node.output)
    return sum(node.op_type not in _QUANTISERS and any(name in coded for name in node.input) for node in graph.node)
