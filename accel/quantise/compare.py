"""Three executions side by side: the float original, Q/DQ as spelled (fake quantisation), and the integer machine.

Simulated quantisation computes each operator in float32 between quantisers. The machine adds integers and rounds once,
where onnxruntime's fused kernels round. What differs is what simulated quantisation hides.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from accelsim.arch import Arch
from accelsim.model import load
from accelsim.quantisation_result import Execution, OutputDistance, ThreeWay, sqnr_db
from accelsim.quantise.calibration import Calibration
from accelsim.quantise.observe import run_batches
from accelsim.quantise.pipeline import Quantised
from accelsim.quantise.progress import Steps
from accelsim.quantise.source import FloatModel
from accelsim.simulate import run

Array = NDArray[np.generic]
Outputs = Mapping[str, Array]

_BATCH = 32
_LEAST_CLASSES = 2


def machine_outputs(
    onnx: bytes, model: FloatModel, data: Calibration, arch: Arch | None = None, steps: Steps | None = None
) -> dict[str, Array]:
    """Return the machine's outputs over all samples, joined along the first axis.

    Args:
        onnx: a quantised model.
        model: the float model with the same inputs.
        data: the samples.
        arch: the machine; None takes the default.
        steps: shows progress.
    """
    loaded = load(onnx)
    batches = list(data.batches(model, _BATCH))
    found: dict[str, list[Array]] = {}
    for index, feeds in enumerate(batches):
        for name, array in run(loaded, arch, feeds, check=False).outputs.items():
            found.setdefault(name, []).append(np.atleast_1d(array))
        if steps is not None:
            steps("machine", index + 1, len(batches))
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def float_outputs(model: FloatModel, data: Calibration) -> dict[str, Array]:
    """Return the outputs of the file as it came."""
    return run_batches(model, model.original, data)


def compare_three(
    quantised: Quantised, data: Calibration | None = None, arch: Arch | None = None, steps: Steps | None = None
) -> ThreeWay:
    """Execute a network in three ways and compare.

    Args:
        quantised: the quantised model.
        data: samples, labelled or not; None takes the calibration samples.
        arch: the machine; None takes the default.
        steps: shows progress.
    """
    data = data or quantised.data
    model = quantised.model
    original = float_outputs(model, data)
    literal = run_batches(model, quantised.onnx, data, literal=True)
    machine = machine_outputs(quantised.onnx, model, data, arch, steps)
    steps_of = output_steps(quantised)
    distances = tuple(_distance(name, machine[name], literal[name], steps_of.get(name)) for name in original)
    return ThreeWay(
        data.samples,
        execution("float", original, original, data.labels),
        execution("fake quantisation", literal, original, data.labels),
        execution("machine", machine, original, data.labels),
        distances,
    )


def output_steps(quantised: Quantised) -> dict[str, float]:
    """Return the scale of every quantised output."""
    grids = {activation.tensor: activation.grid for activation in quantised.emission.activations}
    return {name: float(grids[name].scales) for name in quantised.model.outputs if name in grids}


def _distance(name: str, mine: Array, other: Array, step: float | None) -> OutputDistance:
    """Measure how far an output is from another execution's."""
    apart = np.abs(mine.astype(np.float64) - other.astype(np.float64))
    largest = float(apart.max(initial=0.0))
    lsb = None if step is None else round(largest / step, 3)
    return OutputDistance(name, step, lsb, float((apart > 0).mean()) if apart.size else 0.0, largest)


def execution(name: str, outputs: Outputs, original: Outputs, labels: NDArray[np.int64] | None) -> Execution:
    """Judge one execution against the float network, by all outputs, and by classes in the first.

    Args:
        name: of the execution.
        outputs: by name.
        original: the float network's.
        labels: the class of each sample, or None.
    """
    signal = noise = 0.0
    for key, exact in original.items():
        signal += float(np.square(exact, dtype=np.float64).sum())
        noise += float(np.square(outputs[key].astype(np.float64) - exact.astype(np.float64)).sum())
    classes, expected = (classes_of(outputs[next(iter(original))]), classes_of(next(iter(original.values()))))
    accuracy = None if labels is None else _same(classes, labels)
    agreement = None if expected is None else _same(classes, expected)
    return Execution(name, None if outputs is original else sqnr_db(signal, noise), accuracy, agreement)


def _same(classes: NDArray[np.int64] | None, others: NDArray[np.int64]) -> float | None:
    """Return the share of equal classes, None where there are none or not as many."""
    if classes is None or len(classes) != len(others):
        return None
    return float(np.equal(classes, others).mean())


def classes_of(output: Array) -> NDArray[np.int64] | None:
    """Return the class of each sample, None where an output is no vector of classes per sample.

    Args:
        output: [samples, classes], other dimensions of size 1 between or behind.
    """
    long = [size for size in output.shape[1:] if size > 1]
    if output.ndim < _LEAST_CLASSES or len(long) != 1:
        return None
    classes: NDArray[np.int64] = output.reshape(len(output), -1).argmax(axis=1)
    return classes
