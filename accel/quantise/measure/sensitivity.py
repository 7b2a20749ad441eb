"""Which layers suffer: the error at the outputs when one layer alone is quantised, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from accelsim.progress import Steps
from accelsim.quantise.calibrate.calibration import Calibration, whole_batches
from accelsim.quantise.calibrate.observe import run_batches
from accelsim.quantise.grid import Grid
from accelsim.quantise.measure.attempt import attempt
from accelsim.quantise.network.source import FloatLayer, FloatModel
from accelsim.quantise.pipeline import Quantised
from accelsim.quantise.write.storage import CODE_TYPES
from accelsim.results.quantisation import Sensitivity, sqnr_db

Outputs = Mapping[str, NDArray[np.generic]]

_SAMPLES = 32  # that are enough to rank layers


def rank_layers(
    quantised: Quantised, data: Calibration | None = None, steps: Steps | None = None
) -> tuple[Sensitivity, ...]:
    """Rank the quantised layers, the most sensitive first: candidates for `keep_float` or more bits.

    Args:
        quantised: a quantised model.
        data: samples to measure on; None takes calibration samples.
        steps: shows progress.
    """
    few = ranking_samples(quantised, data)
    model = quantised.model
    layers = [layer for layer in model.layers if layer.name in quantised.weights]
    exact, reason = attempt(lambda: run_batches(model, model.proto.SerializeToString(), few))
    if exact is None:
        return tuple(Sensitivity(layer.name, layer.kind, None, reason) for layer in layers)
    grids = {activation.tensor: activation.grid for activation in quantised.emission.activations}
    rows = []
    for index, layer in enumerate(layers):
        rows.append(_row(layer, model, _one_layer(quantised, layer, grids.get(layer.source)), few, exact))
        if steps is not None:
            steps("sensitivity", index + 1, len(layers))
    return tuple(sorted(rows, key=lambda row: (row.output_sqnr_db is None, row.output_sqnr_db or 0.0)))


def _row(layer: FloatLayer, model: FloatModel, proto: bytes, few: Calibration, exact: Outputs) -> Sensitivity:
    """Measure one layer; where the optimiser cannot cope with the lone quantiser, the network as it is spelled."""
    got, reason = attempt(lambda: run_batches(model, proto, few))
    if got is None:
        got, _ = attempt(lambda: run_batches(model, proto, few, literal=True))
    if got is None:
        return Sensitivity(layer.name, layer.kind, None, reason)
    signal = sum(float(np.square(array, dtype=np.float64).sum()) for array in exact.values())
    noise = sum(float(((got[name] - exact[name].astype(np.float64)) ** 2).sum()) for name in exact)
    return Sensitivity(layer.name, layer.kind, sqnr_db(signal, noise))


def ranking_samples(quantised: Quantised, data: Calibration | None = None) -> Calibration:
    """Return the samples that layers are ranked on: the first few.

    Args:
        quantised: a quantised model.
        data: samples to take them from; None takes calibration samples.
    """
    return (data or quantised.data).first(whole_batches(quantised.model, _SAMPLES))


def _one_layer(quantised: Quantised, layer: FloatLayer, grid: Grid | None) -> bytes:
    """Return the float model with one layer's weights and input quantised."""
    proto = ModelProto()
    proto.CopyFrom(quantised.model.proto)
    name = f"{layer.weight}_of_{layer.name}_restored"
    proto.graph.initializer.append(numpy_helper.from_array(quantised.weights[layer.name].restored, name))
    place, node = next((i, node) for i, node in enumerate(proto.graph.node) if node.name == layer.name)
    node.input[1] = name
    if grid is not None:
        kind = CODE_TYPES[grid.spec.bits, grid.spec.signed]
        scale, zero, codes, restored = (f"{layer.name}_input_{part}" for part in ("scale", "zero", "codes", "restored"))
        proto.graph.initializer.append(numpy_helper.from_array(grid.scales, scale))
        proto.graph.initializer.append(helper.make_tensor(zero, kind, [], [int(grid.zero_points)]))
        node.input[0] = restored
        pair = (
            helper.make_node("QuantizeLinear", [layer.source, scale, zero], [codes], f"{layer.name}_input_q"),
            helper.make_node("DequantizeLinear", [codes, scale, zero], [restored], f"{layer.name}_input_dq"),
        )
        for offset, fresh in enumerate(pair):
            proto.graph.node.insert(place + offset, fresh)
    return bytes(proto.SerializeToString())
