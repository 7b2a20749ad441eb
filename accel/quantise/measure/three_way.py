"""Three executions side by side: the float original, Q/DQ as spelled (fake quantisation), and the integer machine.

Simulated quantisation computes each operator in float32 between quantisers. The machine adds integers and rounds once,
where onnxruntime's fused kernels round. What differs is what simulated quantisation hides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.machine.arch import Arch
from accelsim.progress import Steps
from accelsim.quantise.calibrate.calibration import Calibration
from accelsim.quantise.calibrate.observe import joined, run_batches
from accelsim.quantise.measure.attempt import attempt
from accelsim.quantise.network.source import FloatModel
from accelsim.quantise.pipeline import Quantised
from accelsim.results.accumulators import bits_needed, overflow_events
from accelsim.results.quantisation import Execution, OutputDistance, ThreeWay, sqnr_db
from accelsim.simulation.model import Model, load
from accelsim.simulation.run import run

Array = NDArray[np.generic]
Outputs = Mapping[str, Array]

WIDEST_ACCUMULATOR = 64
_LEAST_CLASSES = 2
_NO_CLASSES = "there is no accuracy, because the first output is no vector of classes per sample"


@dataclass(frozen=True, eq=False)
class MachineRun:
    """What the machine gives for all samples."""

    outputs: Outputs
    """By name."""
    arch: Arch
    """The machine, its accumulators widened to what the sums of these samples need."""
    widened: bool
    """Whether they had to be."""
    safe_acc_bits: int | None
    """The bits that they need, None without sums."""


def run_machine(
    onnx: bytes | Model, model: FloatModel, data: Calibration, arch: Arch | None = None, steps: Steps | None = None
) -> MachineRun:
    """Run all samples on the machine, in the batches in which the float network runs them.

    Args:
        onnx: a quantised model, as a file or loaded.
        model: the float model with the same inputs.
        data: the samples.
        arch: the machine; None takes the default. Where its accumulators overflow, wider ones are taken.
        steps: shows progress.
    """
    loaded, given = load(onnx) if isinstance(onnx, bytes) else onnx, arch or Arch()
    machine = given
    while True:
        outputs, needed, overflows = _run_all(loaded, model, data, machine, steps)
        if not overflows or machine.acc_bits == WIDEST_ACCUMULATOR:
            return MachineRun(outputs, machine, machine is not given, needed or None)
        bits = min(needed, WIDEST_ACCUMULATOR)
        machine = Arch.model_validate(machine.model_dump() | {"acc_bits": bits})


def _run_all(
    loaded: Model, model: FloatModel, data: Calibration, arch: Arch, steps: Steps | None
) -> tuple[dict[str, Array], int, bool]:
    """Return the outputs over all samples, the bits that their sums need, and whether the machine has fewer."""
    batches = list(data.batches(model))
    found: dict[str, list[Array]] = {}
    needed, overflows = 0, False
    for index, feeds in enumerate(batches):
        result = run(loaded, arch, feeds, check=False)
        for name, array in result.outputs.items():
            found.setdefault(name, []).append(array)
        overflowed = overflow_events(result.layers) > 0
        needed = max(needed, bits_needed(result.layers) or (WIDEST_ACCUMULATOR if overflowed else 0))
        overflows = overflows or overflowed
        if steps is not None:
            steps("machine", index + 1, len(batches))
    return {name: joined(arrays) for name, arrays in found.items()}, needed, overflows


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
    original, no_float = attempt(lambda: float_outputs(model, data))
    literal, no_literal = attempt(lambda: run_batches(model, quantised.onnx, data, literal=True))
    machine, no_machine = attempt(lambda: run_machine(quantised.loaded, model, data, arch, steps))
    name = f"machine, {machine.arch.acc_bits}-bit accumulators" if machine and machine.widened else "machine"
    outputs = None if machine is None else machine.outputs
    return ThreeWay(
        data.samples,
        _judged("float", original, original, data, no_float),
        _judged("fake quantisation", literal, original, data, no_literal or no_float),
        _judged(name, outputs, original, data, no_machine or no_float),
        () if outputs is None or literal is None else _distances(quantised, outputs, literal),
        None if machine is None else machine.arch.acc_bits,
        None if machine is None else machine.safe_acc_bits,
    )


def _judged(
    name: str, outputs: Outputs | None, original: Outputs | None, data: Calibration, reason: str | None
) -> Execution:
    """Judge an execution, or say why it cannot be judged."""
    if outputs is None or original is None:
        return Execution(name, None, None, None, reason)
    return execution(name, outputs, original, data)


def _distances(quantised: Quantised, machine: Outputs, literal: Outputs) -> tuple[OutputDistance, ...]:
    """Measure how far the machine's outputs are from those of fake quantisation."""
    steps = output_steps(quantised)
    return tuple(_distance(name, machine[name], literal[name], steps.get(name)) for name in quantised.model.outputs)


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


def execution(name: str, outputs: Outputs, original: Outputs, data: Calibration) -> Execution:
    """Judge one execution against the float network, by all outputs, and by classes in the first.

    Args:
        name: of the execution.
        outputs: by name.
        original: the float network's.
        data: the samples, labelled or not.
    """
    signal = noise = 0.0
    for key, exact in original.items():
        signal += float(np.square(exact, dtype=np.float64).sum())
        noise += float(np.square(outputs[key].astype(np.float64) - exact.astype(np.float64)).sum())
    first = next(iter(original))
    classes, expected = classes_of(outputs[first], data), classes_of(original[first], data)
    accuracy = None if classes is None or data.labels is None else float(np.equal(classes, data.labels).mean())
    agreement = None if classes is None or expected is None else float(np.equal(classes, expected).mean())
    return Execution(name, None if outputs is original else sqnr_db(signal, noise), accuracy, agreement)


def unjudged(judged: Execution, data: Calibration) -> tuple[str, ...]:
    """Say why labelled samples have no accuracy, where they have none.

    Args:
        judged: an execution.
        data: the samples it is judged on.
    """
    without = data.labels is not None and judged.accuracy is None and judged.reason is None
    return (_NO_CLASSES,) if without else ()


def classes_of(output: Array, data: Calibration) -> NDArray[np.int64] | None:
    """Return the class of each sample, None where an output is no vector of classes per sample.

    What has the shape of a float input is a reconstruction of it, unless there are labels.

    Args:
        output: [samples, classes], other dimensions of size 1 between or behind.
        data: the samples.
    """
    long = [size for size in output.shape[1:] if size > 1]
    if output.ndim < _LEAST_CLASSES or len(long) != 1 or len(output) != data.samples:
        return None
    floats = (array for array in data.arrays.values() if array.dtype.kind == "f")
    if data.labels is None and any(output.shape == array.shape for array in floats):
        return None
    classes: NDArray[np.int64] = output.reshape(len(output), -1).argmax(axis=1)
    return classes
