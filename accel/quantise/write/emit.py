"""The Q/DQ model: onnxruntime's quantiser decides which tensors get one, our grids and codes go into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from accelsim.errors import UsageError, printable
from accelsim.quantise.calibrate.ranges import Ranges
from accelsim.quantise.grid import CodeSpec, Grid, fit, quantise
from accelsim.quantise.network.editing import GraphEditor, tensor_of
from accelsim.quantise.network.float_file import WEIGHT_AXES
from accelsim.quantise.network.source import FloatLayer, FloatModel
from accelsim.quantise.scheme import Scheme
from accelsim.quantise.write.storage import CODE_TYPES, packed, remarks, stored
from accelsim.quantise.write.structure import UsedRange, insert_quantisers
from accelsim.quantise.write.weights import QuantisedWeights, Weights
from accelsim.quantise.write.widths import ActivationSpecs, activation_specs, check_widths

Floats = NDArray[np.float32]

_FUSED_BITS = 8  # onnxruntime's integer kernels want a zero point even where it is 0
_CODES_SUFFIX = "_quantized"
_LARGEST_BIAS_BITS = 30
_WIDE_BITS = 16
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, eq=False)
class QuantisedActivation:
    """A quantised activation."""

    tensor: str
    """Its name in the float model."""
    codes: str
    """The tensor of codes in the quantised model."""
    restored: str
    """The tensor behind its DequantizeLinear, "" if there is none."""
    grid: Grid = field(repr=False)
    clamped: bool
    """A Relu or Clip follows, whose range it has taken."""
    source: str
    """The tensor of the float model whose chosen range gives the grid, "" where there is no choice."""
    scale: str
    zero_point: str
    """scale and zero_point: the constants' names, which several quantisers may share."""


@dataclass(frozen=True, eq=False)
class Emission:
    """The Q/DQ model with what stands in it; remarks: sentences for the user."""

    proto: ModelProto = field(repr=False)
    activations: tuple[QuantisedActivation, ...]
    weights: Weights
    remarks: tuple[str, ...]


def emit(model: FloatModel, scheme: Scheme, ranges: Ranges, weights: Weights, biases: Mapping[str, Floats]) -> Emission:
    """Write the Q/DQ model of a scheme.

    Args:
        model: the float model.
        scheme: how to quantise.
        ranges: of all float activations.
        weights: quantised weights by layer; layers without stay in float.
        biases: by layer, where they differ from the model's (bias correction).

    Raises:
        UnsupportedModelError: onnxruntime's quantiser cannot work on the model.
        UsageError: a tensor to quantise takes NaN or infinity.
    """
    proto, used = insert_quantisers(model, scheme, ranges, weights)
    graph = GraphEditor(proto)
    specs = activation_specs(model, scheme)
    activations = tuple(_place_activations(graph, specs, used))
    _check_finite(activations, ranges)
    check_widths(specs, {activation.tensor: activation.grid.spec.bits for activation in activations})
    fixed, widened = _with_room_for_biases(model, scheme, graph, weights, biases)
    biased = {layer.name for layer in model.layers if layer.bias or layer.name in biases}
    fixed = stored(graph, fixed, biased)
    for layer in model.layers:
        if layer.name in fixed:
            source = graph.scale_of(graph.nodes[layer.name].input[0])
            _place_weights(graph, layer, fixed[layer.name])
            _place_bias(graph, layer, fixed[layer.name], source, _bias(model, layer, biases))
    graph.drop_unused()
    del proto.graph.value_info[:]  # shapes can be inferred again
    _stamp(proto, model, scheme)
    return Emission(
        proto,
        activations,
        fixed,
        (*_remarks(widened), *remarks(fixed), *_wide_sums(graph, fixed)),
    )


def _remarks(widened: Mapping[str, int]) -> Iterator[str]:
    """Say in how many channels the bias has decided the scale."""
    layers = [name for name, channels in widened.items() if channels]
    if layers:
        yield (
            f"{sum(widened.values())} channel(s) in {len(layers)} layer(s) have weights so small beside their bias "
            f"that the bias decides their scale, first in '{printable(layers[0], 60)}'"
        )


def _wide_sums(graph: GraphEditor, weights: Weights) -> Iterator[str]:
    """Say that products of two 16-bit codes do not fit the usual accumulator."""
    for node in graph.graph.node:
        if node.op_type not in WEIGHT_AXES or graph.bits_of(node.input[0], 0) < _WIDE_BITS:
            continue
        layer = weights.get(node.name)
        if (graph.bits_of(node.input[1], 0) if layer is None else layer.grid.spec.bits) == _WIDE_BITS:
            yield (
                "sums of products of 16-bit codes may need more than 32 bits: accel-sim run says how many, "
                "give them with --acc-bits"
            )
            return


def _place_activations(
    graph: GraphEditor, specs: ActivationSpecs, ranges: Mapping[str, UsedRange]
) -> Iterator[QuantisedActivation]:
    """Write our scales and zero points; quantisers that share them with another tensor follow it."""
    owners = graph.range_owners()
    grids: dict[str, Grid] = {}
    sources: dict[str, str] = {}
    for node in graph.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        tensor = tensor_of(node.input[0])
        owner = node.input[1].removesuffix("_scale")
        owner = owners.get(owner, owner)
        if node.input[1] not in grids and owner not in ranges:
            grids[node.input[1]] = _grid_of_table(graph, node)
        elif node.input[1] not in grids:
            used, spec = ranges[owner], specs.of(owner)
            stored = replace(spec, narrow=False)  # Q saturates at the type's own ends
            scale, zero_point = fit(np.asarray([used.low]), np.asarray([used.high]), spec)
            sources[node.input[1]] = used.source
            grids[node.input[1]] = Grid(stored, scale.reshape(()), zero_point.reshape(()))
            graph.put(numpy_helper.from_array(scale.reshape(()), node.input[1]))
            graph.put(helper.make_tensor(node.input[2], CODE_TYPES[spec.bits, spec.signed], [], [int(zero_point[0])]))
        readers = graph.readers.get(node.output[0], ())
        restored = next((reader.output[0] for reader in readers if reader.op_type == "DequantizeLinear"), "")
        name, zeros = node.input[1:3]
        source = sources.get(name, "")
        yield QuantisedActivation(tensor, node.output[0], restored, grids[name], tensor in owners, source, name, zeros)


def _grid_of_table(graph: GraphEditor, node: NodeProto) -> Grid:
    """Return the grid of what a Gather reads from a constant table: the table's, as onnxruntime's quantiser chose."""
    zero_point = graph.array(node.input[2])
    spec = CodeSpec(8 * zero_point.dtype.itemsize, zero_point.dtype.kind == "i", not zero_point.any(), narrow=False)
    return Grid(spec, np.asarray(graph.array(node.input[1]), np.float32).reshape(()), zero_point.astype(np.int64))


def _check_finite(activations: Iterable[QuantisedActivation], ranges: Ranges) -> None:
    """Refuse quantisers of tensors that take NaN or infinity; those that stay in float may."""
    for activation in activations:
        found = ranges.get(activation.source)
        if found is not None and not np.isfinite(found.smallest):
            raise UsageError(
                f"the float model computes NaN or infinity in '{printable(found.tensor)}' on the calibration data: "
                f"check the model and how the samples are scaled, or keep the operators around it in float with "
                f"keep_float"
            )


def _bias(model: FloatModel, layer: FloatLayer, biases: Mapping[str, Floats]) -> Floats | None:
    """Return the bias of a layer, corrected or not, if it has one."""
    if layer.name in biases:
        return biases[layer.name]
    return model.constant(layer.bias) if layer.bias else None


def _with_room_for_biases(
    model: FloatModel, scheme: Scheme, graph: GraphEditor, weights: Weights, biases: Mapping[str, Floats]
) -> tuple[Weights, dict[str, int]]:
    """Widen scales of weights so small beside their bias that it would fill the accumulator in steps of s_x s_w.

    Weights that several layers share have room for the biases of all. Returns also how many scales were widened, by
    layer.
    """
    least: dict[str, NDArray[np.float64]] = {}
    layers = [layer for layer in model.layers if layer.name in weights]
    for layer in layers:
        read = graph.nodes[layer.name].input[0]
        source, bits = graph.scale_of(read), graph.bits_of(read, scheme.activation_bits)
        needed = _least_scales(weights[layer.name].grid, source, _bias(model, layer, biases), bits)
        if needed is not None:
            least[layer.weight] = np.maximum(least.get(layer.weight, 0.0), needed)
    fixed = {layer.name: _widened(weights[layer.name], least.get(layer.weight)) for layer in layers}
    changed = {name: int((one.grid.scales > weights[name].grid.scales).sum()) for name, one in fixed.items()}
    return fixed, changed


def _least_scales(
    grid: Grid, source: Floats | None, bias: Floats | None, activation_bits: int
) -> NDArray[np.float64] | None:
    """Return the scales below which a bias would fill the accumulator.

    With 8-bit codes a bias of 2^24 steps is as large as the sum of hundreds of largest products; weights that need a
    finer scale than that hardly change the result. With wider codes there is room for fewer, since a bias has 32 bits.
    """
    if bias is None or source is None or grid.block:
        return None
    bits = min(activation_bits + max(grid.spec.bits, 8) + 8, _LARGEST_BIAS_BITS)
    least = np.abs(bias.reshape(-1).astype(np.float64)) / (source.astype(np.float64) * (1 << bits))
    if grid.axis is None or least.size == 1:
        return np.asarray(least.max(initial=0.0))
    worst: NDArray[np.float64] = least.reshape(-1, grid.scales.size).max(axis=0)  # groups share the scales of a channel
    return worst


def _widened(weights: QuantisedWeights, least: NDArray[np.float64] | None) -> QuantisedWeights:
    """Return weights whose scales are not below some, with new codes where they were."""
    if least is None or not (weights.grid.scales < least).any():
        return weights
    scales = np.maximum(weights.grid.scales, least).astype(np.float32).reshape(weights.grid.scales.shape)
    grid = replace(weights.grid, scales=scales)
    return replace(weights, grid=grid, codes=quantise(weights.values, grid))


def _place_weights(graph: GraphEditor, layer: FloatLayer, weights: QuantisedWeights) -> None:
    """Put codes, scales and zero points of a layer's weights behind its DequantizeLinear."""
    node = graph.producers[graph.nodes[layer.name].input[1]]
    grid, bits, name = weights.grid, weights.code_bits, layer.weight
    graph.put(packed(f"{name}{_CODES_SUFFIX}", bits, weights.codes))
    graph.put(numpy_helper.from_array(grid.scales, f"{name}_scale"))
    inputs = [f"{name}{_CODES_SUFFIX}", f"{name}_scale"]
    if not grid.spec.symmetric or bits == _FUSED_BITS:
        graph.put(packed(f"{name}_zero_point", bits, grid.zero_points))
        inputs.append(f"{name}_zero_point")
    del node.input[:]
    node.input.extend(inputs)
    del node.attribute[:]
    if grid.axis is not None:
        node.attribute.append(helper.make_attribute("axis", grid.axis))
    if grid.block:
        node.attribute.append(helper.make_attribute("block_size", grid.block))


def _place_bias(
    graph: GraphEditor, layer: FloatLayer, weights: QuantisedWeights, source: Floats | None, bias: Floats | None
) -> None:
    """Write the bias: int32 in steps of s_x s_w; float where groups leave no such step, or the input is float."""
    if bias is None:
        return
    node = graph.nodes[layer.name]
    old = graph.producers.get(node.input[2]) if len(node.input) > 2 else None
    if source is None or weights.grid.block:
        name = f"{layer.name}_float_bias"
        graph.put(numpy_helper.from_array(bias.astype(np.float32), name))
        _set_input(node, 2, name)
    else:
        name = _put_int32_bias(graph, layer, weights.grid, source, bias)
        node = graph.nodes[layer.name]
        _set_input(node, 2, name)
    graph.index()
    if old is not None and not graph.readers.get(old.output[0]):
        graph.graph.node.remove(old)
        graph.index()


def _put_int32_bias(graph: GraphEditor, layer: FloatLayer, grid: Grid, source: Floats, bias: Floats) -> str:
    """Write a bias in steps of s_x s_w; returns the tensor behind its DequantizeLinear."""
    name, one = f"{layer.name}_int32_bias", grid.axis is None
    scales = np.atleast_1d(source * grid.scales).astype(np.float32)
    scales = np.tile(scales, 1 if one else max(bias.size // scales.size, 1))  # groups share the scales of a channel
    steps = np.rint(bias.reshape(-1).astype(np.float64) / scales.astype(np.float64))
    codes = np.clip(steps, _INT32.min, _INT32.max).astype(np.int32)
    graph.put(numpy_helper.from_array(codes, name))
    graph.put(numpy_helper.from_array(scales.reshape(()) if one else scales, f"{name}_scale"))
    graph.put(numpy_helper.from_array(np.zeros(() if one else scales.shape, np.int32), f"{name}_zero_point"))
    inputs = [name, f"{name}_scale", f"{name}_zero_point"]
    fresh = helper.make_node("DequantizeLinear", inputs, [f"{name}_dequantized"], f"{name}_DequantizeLinear")
    if not one:
        fresh.attribute.append(helper.make_attribute("axis", 0))
    graph.graph.node.insert(0, fresh)  # it reads constants only
    graph.nodes = {node.name: node for node in graph.graph.node}
    return f"{name}_dequantized"


def _set_input(node: NodeProto, position: int, name: str) -> None:
    """Set an input of a node that may have fewer."""
    while len(node.input) <= position:
        node.input.append("")
    node.input[position] = name


def _stamp(proto: ModelProto, model: FloatModel, scheme: Scheme) -> None:
    """Say who made the file, from what and how."""
    proto.producer_name, proto.producer_version = "accel-sim", ""
    del proto.metadata_props[:]
    helper.set_model_props(proto, {"quantisation_scheme": scheme.name, "float_sha256": model.sha256})
