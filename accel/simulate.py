"""The whole story of a run: load, lower, compute values, compute time, price, compare, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from accelsim.arch import Arch
from accelsim.assemble import assemble
from accelsim.check import Checker
from accelsim.contraction import AccumulatorFormat, AccumulatorUse
from accelsim.datapath import run_program
from accelsim.energy import load_table, price_layer
from accelsim.graph.lower import lower
from accelsim.inputs import check_inputs, draw_inputs
from accelsim.model import Model, load
from accelsim.result import CheckResult, Result
from accelsim.timing import time_program
from numpy.typing import NDArray

Array = NDArray[np.generic]
Progress = Callable[[str, int, int], None]


def run(
    model: Model | str | Path,
    arch: Arch | None = None,
    inputs: Mapping[str, Array] | None = None,
    *,
    seed: int = 0,
    check: bool = True,
    values: bool = True,
    progress: Progress | None = None,
) -> Result:
    """Run a model on a machine: exact integer outputs, cycles, energy and the verdict against onnxruntime.

    Args:
        model: a loaded model or the path of one.
        arch: the machine; None takes the default 16x16 array.
        inputs: one array per model input; None draws them from the seed with dynamic dimensions set to 1.
        seed: seed of the inputs when none are given.
        check: compare every tensor with onnxruntime.
        values: compute the outputs; without them only time and energy are computed, and nothing is checked.
        progress: called with (layer name, index, count) before each layer's values are computed.

    Raises:
        AccelSimError: anything the user can do something about; see accelsim.errors.
    """
    model = model if isinstance(model, Model) else load(model)
    arch = arch or Arch()
    declared = model.inputs()
    given = None if inputs is None else check_inputs(inputs, declared)
    bound = model.bind(None if given is None else {name: array.shape for name, array in given.items()})
    program = lower(bound.graph, arch)
    timings = time_program(program, arch)
    bills = [
        price_layer(layer, timing, arch, load_table()) for layer, timing in zip(program.layers, timings, strict=True)
    ]

    outputs: dict[str, Array] = {}
    uses: list[AccumulatorUse | None] = [None] * len(program.layers)
    checker, verdict = None, CheckResult("none", "skipped")
    if values:
        feeds = draw_inputs(program.inputs, seed) if given is None else given
        accumulator = AccumulatorFormat(arch.acc_bits, arch.overflow, arch.zp_mode)
        checker = Checker(bound.normalised, feeds, accumulator) if check else None
        outputs = {
            name: {**program.constants, **feeds}[name]
            for name in program.outputs
            if name in {**program.constants, **feeds}
        }
        for index, step in enumerate(run_program(program, feeds, accumulator)):
            if progress is not None:
                progress(step.layer.name, index + 1, len(program.layers))
            uses[index] = step.acc
            outputs |= {n: a for n, a in zip(step.layer.outputs, step.outputs, strict=True) if n in program.outputs}
            if checker is not None:
                checker.compare(step)
        if checker is not None:
            verdict = checker.verdict(program, outputs)
    return assemble(model, arch, program, timings, bills, uses, checker.layers if checker else None, verdict, outputs)
