"""The whole story of a run: load, lower, compute time, price, compute values, compare, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accelsim.check.checker import Checker
from accelsim.check.dump import Dump
from accelsim.energy import price_layer
from accelsim.energy.options import EnergyOptions
from accelsim.errors import UsageError
from accelsim.graph.normalise.tensor_types import Feeds
from accelsim.machine.arch import Arch
from accelsim.machine.description import resolve_arch
from accelsim.operators.tensors import widened
from accelsim.program.layers import Program
from accelsim.results.result import Result
from accelsim.simulation.assemble import assemble
from accelsim.simulation.inputs import check_inputs, draw_inputs
from accelsim.simulation.layer_runs import Evaluation, LayerRun, LayerValue, Run
from accelsim.simulation.model import Model, load
from accelsim.simulation.timeline import TimelineRequest, check_request, record_timeline
from accelsim.timing.engines import check_engine, time_with
from accelsim.values.accumulators import AccumulatorFormat
from accelsim.values.exact_sums import behind_overflow, exact_uses
from accelsim.values.execute import LayerValues, run_program
from accelsim.values.zeros import busy_macs

Array = NDArray[np.generic]
Progress = Callable[[str, int, int], None]
Observer = Callable[[LayerValues], None]


def run(
    model: Model | str | Path,
    arch: Arch | str | Path | None = None,
    inputs: Mapping[str, Array] | None = None,
    *,
    seed: int = 0,
    check: bool = True,
    values: bool = True,
    engine: str = "recurrence",
    progress: Progress | None = None,
    dump: Dump | None = None,
    observe: Observer | None = None,
    energy: EnergyOptions | None = None,
    timeline: TimelineRequest | None = None,
) -> Result:
    """Run a model on a machine: exact integer outputs, cycles, energy and the verdict against onnxruntime.

    Args:
        model: a loaded model or the path of one.
        arch: the machine, or the name of a preset or TOML file; None takes the default 16x16 array.
        inputs: one array per model input, and for any constant that the file lists as an input too; None draws them
            from the seed with dynamic dimensions set to 1.
        seed: seed of the inputs when none are given.
        check: compare every tensor with onnxruntime.
        values: compute the outputs; without them only time and energy are computed, and nothing is checked.
        engine: what computes the cycles: "recurrence", or "event" for the SimPy model, which gives the same.
        progress: called with (layer name, number of the layer, count of layers) after each layer's values, and before
            after each layer's time where that takes long.
        dump: takes both sides of every compared tensor.
        observe: called with the values of each layer of the free run, after they were compared.
        energy: table, technology, leakage and gating; None takes the packaged table as it is.
        timeline: also keep what the engines did during one layer, as the event model sees it.

    Raises:
        AccelSimError: anything the user can do something about; see accelsim.errors.
    """
    model = (model if isinstance(model, Model) else load(model)).taking(inputs)
    arch, engine = resolve_arch(arch), check_engine(engine)
    if seed < 0:
        raise UsageError(f"the seed must not be negative, got {seed}")
    if dump is not None and not (check and values):
        raise UsageError("a dump writes what is compared with onnxruntime: leave --no-check out")
    energy = energy or EnergyOptions()
    table = energy.load()
    if energy.zero_gating and not values:
        raise UsageError("zero gating counts the zeros of a run: it needs values, compute them or leave it out")
    given = None if inputs is None else check_inputs(inputs, model.inputs())
    feeds = _feeds(model, given, seed)
    bound = model.bind(None if given is None else {name: array.shape for name, array in given.items()}, feeds)
    program = bound.planned(arch, table)
    if timeline is not None:
        check_request(timeline, program, model.name)
    timings = time_with(engine, program, arch, progress)
    evaluation = Evaluation.skipped(program)
    if values:
        accumulator = AccumulatorFormat(arch.acc_bits, arch.overflow, arch.zp_mode, arch.weight_zero_point)
        weights = model.checked.parameters_bytes
        decodings = bound.graph.decodings
        checker = Checker(bound.normalised, feeds(), accumulator, weights, decodings, dump) if check else None
        if dump is not None:
            dump.begin(program)
        counter = (lambda step: busy_macs(step.layer, step.inputs, arch)) if energy.zero_gating else None
        evaluation = _evaluate(program, feeds(), accumulator, checker, counter, _watching(program, progress, observe))
        if dump is not None:
            dump.finish(model.name, evaluation.verdict.reference)
    layers = tuple(
        LayerRun(layer, timing, price_layer(layer, timing, arch, table, value.busy_macs), value)
        for layer, timing, value in zip(program.layers, timings, evaluation.layers, strict=True)
    )
    bars = None if timeline is None else record_timeline(timeline, program, timings, arch)
    return assemble(Run(model, bound, arch, table, program, layers, evaluation, energy.zero_gating, bars))


def _feeds(model: Model, given: Mapping[str, Array] | None, seed: int) -> Feeds:
    """Return what gives the inputs of a run; they are drawn once, when somebody asks for them."""
    return cache(lambda: draw_inputs(model.inputs(), seed) if given is None else given)


def _watching(
    program: Program, progress: Progress | None, observe: Observer | None
) -> Callable[[int, LayerValues], None]:
    """Return one function that tells everybody who wants to know that a layer is done."""

    def watch(index: int, step: LayerValues) -> None:
        if observe is not None:
            observe(step)
        if progress is not None:
            progress(step.layer.name, index + 1, len(program.layers))

    return watch


def _evaluate(
    program: Program,
    feeds: Mapping[str, Array],
    accumulator: AccumulatorFormat,
    checker: Checker | None,
    counter: Callable[[LayerValues], int | None] | None,
    watch: Callable[[int, LayerValues], None],
) -> Evaluation:
    """Compute the values of every layer, comparing each with the reference as it comes, and counting where asked."""
    known = {**program.constants, **feeds}
    outputs = {name: known[name] for name in program.outputs if name in known}
    found: list[LayerValue] = []
    for index, step in enumerate(run_program(program, feeds, accumulator)):
        check = checker.compare(step) if checker is not None else None
        found.append(LayerValue(step.acc, check, None if counter is None else counter(step)))
        outputs |= {name: array for name, array in step.named_outputs() if name in program.outputs}
        watch(index, step)
    ordered = {name: outputs[name] for name in program.outputs}
    readable = {name: widened(array) for name, array in ordered.items()}
    verdict = Evaluation.skipped(program).verdict if checker is None else checker.verdict(program, ordered)
    used = [value.use for value in found]
    exact, behind = exact_uses(program, feeds, accumulator, used), behind_overflow(program, used)
    layers = tuple(
        replace(value, use=use, behind_overflow=late)
        for value, use, late in zip(found, exact or used, behind, strict=True)
    )
    return Evaluation(layers, verdict, readable, exact is not None)
