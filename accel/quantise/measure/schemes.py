"""What a scheme costs and what it buys: accuracy, bytes, cycles, energy and traffic under many schemes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from accelsim.errors import AccelSimError
from accelsim.files.json_writing import to_json
from accelsim.machine.arch import Arch
from accelsim.progress import Steps
from accelsim.quantise.calibrate.calibration import Calibration
from accelsim.quantise.calibrate.observe import run_batches
from accelsim.quantise.measure.attempt import attempt
from accelsim.quantise.measure.sensitivity import rank_layers
from accelsim.quantise.measure.three_way import Outputs, execution, float_outputs, run_machine, unjudged
from accelsim.quantise.network.floats import as_float16
from accelsim.quantise.network.source import FloatModel, opset_of, read_again, read_float_model
from accelsim.quantise.pipeline import Quantised, constants_bytes, quantize
from accelsim.quantise.scheme import Scheme, parse_scheme
from accelsim.results.plain import plain
from accelsim.results.quantisation import with_words
from accelsim.results.result import Result
from accelsim.simulation.model import load
from accelsim.simulation.run import run

SCHEMA_VERSION = 1
_MAPPED_LIKE = "int8-affine"
_FLOAT_UNITS = f"of an array of float units, mapped like {_MAPPED_LIKE}, whose scratchpads hold as many elements"


@dataclass(frozen=True)
class SchemeCost:
    """One row: a scheme on a network and a machine. None where a figure does not exist; `remarks` say why."""

    scheme: str
    accuracy: float | None = None
    """Agreement of the machine's classes with the labels."""
    agreement: float | None = None
    """Agreement of the machine's classes with the float network's."""
    sqnr_db: float | None = None
    """Of all outputs against the float network's."""
    worst_layer: str | None = None
    """The one whose quantisation alone hurts the outputs most."""
    worst_sqnr_db: float | None = None
    """Of the outputs, with that layer alone quantised."""
    model_bytes: int | None = None
    """All constants, packed."""
    effective_bits: float | None = None
    """Per weight, scales and zero points counted."""
    cycles: int | None = None
    """Of one run of one sample (or of the fixed batch), as the next two."""
    energy_pj: float | None = None
    dram_bytes: int | None = None
    acc_bits: int | None = None
    """Width of the accumulators of that run."""
    safe_acc_bits: int | None = None
    """Width that the sums of all samples need."""
    on_array: float | None = None
    """Share of the multiply-accumulates on the array."""
    integer: float | None = None
    """Share of the layers' multiply-accumulates done in integers."""
    verdict: str | None = None
    """Against onnxruntime."""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class SchemeTable:
    """Schemes side by side."""

    model: str
    machine: str
    calibration: str
    """Where the samples come from that ranges are chosen with."""
    measured_on: str
    """Where those come from that the figures are measured on."""
    samples: int
    """How many these are."""
    labelled: bool
    """Whether they have labels."""
    rows: tuple[SchemeCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain data."""
        return {"schema_version": SCHEMA_VERSION} | plain(self)

    def to_json(self) -> str:
        """Return the table as JSON: sorted keys, infinite ratios as "exact" and "no signal", null for NaN."""
        return to_json(with_words(self.to_dict()))


def compare_schemes(
    model: FloatModel,
    schemes: Sequence[Scheme],
    calibration: Calibration,
    test: Calibration | None = None,
    arch: Arch | None = None,
    progress: Steps | None = None,
) -> SchemeTable:
    """Measure schemes on one network.

    A scheme that cannot be applied keeps its row, with the reason.

    Args:
        model: the float model.
        schemes: what to compare.
        calibration: samples to choose ranges with.
        test: samples to measure on; None takes the calibration samples.
        arch: the machine; None takes the default.
        progress: called with (what is being done, how far, of how many).
    """
    arch, test = arch or Arch(), test or calibration
    original = float_outputs(model, test)
    rows, models = [], {opset_of(model.proto): model}
    for index, scheme in enumerate(schemes):
        if progress is not None:
            progress(scheme.name, index, len(schemes))
        try:
            if scheme.is_integer:
                if scheme.opset not in models:  # as `quantize` reads it, since operator sets spell some constants anew
                    models[scheme.opset] = read_again(model, scheme.opset)
                rows.append(_integer_row(models[scheme.opset], scheme, calibration, test, original, arch))
            else:
                rows.append(_float_row(model, scheme, calibration, test, original, arch))
        except AccelSimError as error:
            rows.append(SchemeCost(scheme.name, remarks=(" ".join(str(error).split()),)))
    if progress is not None:
        progress("done", len(schemes), len(schemes))
    machine = f"{arch.array[0]}x{arch.array[1]} {arch.dataflow}"
    labelled = test.labels is not None
    return SchemeTable(model.name, machine, calibration.origin, test.origin, test.samples, labelled, tuple(rows))


def _integer_row(
    model: FloatModel, scheme: Scheme, calibration: Calibration, test: Calibration, original: Outputs, arch: Arch
) -> SchemeCost:
    """Quantise, run and measure."""
    quantised = quantize(model, scheme, calibration)
    row = SchemeCost(
        scheme.name,
        model_bytes=quantised.parameters_bytes,
        effective_bits=quantised.effective_bits,
        remarks=quantised.remarks,
    )
    row, machine = _with_quality(row, quantised, test, original, arch)
    row = _with_cost(row, quantised, test, machine)
    ranking = rank_layers(quantised)
    for reason in dict.fromkeys(one.reason for one in ranking if one.reason is not None):
        row = _without(row, "sensitivity", reason)
    worst = ranking[0]
    return (
        row if worst.reason is not None else replace(row, worst_layer=worst.layer, worst_sqnr_db=worst.output_sqnr_db)
    )


def _without(row: SchemeCost, figures: str, reason: str | None) -> SchemeCost:
    """Return a row that says which figures it lacks, and why."""
    return replace(row, remarks=(*row.remarks, f"{figures}: n/a, {reason}"))


def _with_quality(
    row: SchemeCost, quantised: Quantised, test: Calibration, original: Outputs, arch: Arch
) -> tuple[SchemeCost, Arch]:
    """Add what the machine's outputs are worth; also return the machine, wide enough for all sums."""
    machine, reason = attempt(lambda: run_machine(quantised.loaded, quantised.model, test, arch))
    if machine is None:
        return _without(row, "accuracy", reason), arch
    judged = execution("machine", machine.outputs, original, test)
    wide = [f"accumulators of {arch.acc_bits} bits overflow: figures are for {machine.arch.acc_bits} bits"]
    row = replace(
        row,
        accuracy=judged.accuracy,
        agreement=judged.agreement,
        sqnr_db=judged.sqnr_db,
        acc_bits=machine.arch.acc_bits,
        safe_acc_bits=machine.safe_acc_bits,
        remarks=(*row.remarks, *unjudged(judged, test), *(wide if machine.widened else ())),
    )
    return row, machine.arch


def _with_cost(row: SchemeCost, quantised: Quantised, test: Calibration, arch: Arch) -> SchemeCost:
    """Add the cycles, the energy and the traffic of one run, and its verdict."""
    feeds = next(iter(test.batches(quantised.model, 1)))
    result, reason = attempt(lambda: run(quantised.loaded, arch, feeds))
    if result is None:
        return _without(row, "cycles and energy", reason)
    return replace(
        row,
        cycles=result.cycles,
        energy_pj=result.energy_pj,
        dram_bytes=result.dram_bytes,
        on_array=result.macs_on_array_share,
        integer=_integer_share(result),
        verdict=result.check.verdict,
    )


def _integer_share(result: Result) -> float | None:
    """Return the share of multiply-accumulates in integers; float products are priced on an array of float units."""
    total = sum(layer.macs + layer.off_array_macs for layer in result.layers)
    whole = sum(layer.macs for layer in result.layers if layer.computed_by == "machine")
    return whole / total if total else None


def _float_row(
    model: FloatModel, scheme: Scheme, calibration: Calibration, test: Calibration, original: Outputs, arch: Arch
) -> SchemeCost:
    """Measure a float format: accuracy and bytes; cycles and energy as those of an array of float units."""
    half = scheme.format == "fp16"
    proto = as_float16(model.proto) if half else model.proto
    row = SchemeCost(scheme.name, model_bytes=constants_bytes(proto), effective_bits=16.0 if half else 32.0)
    outputs, reason = (
        (original, None)
        if not half
        else attempt(lambda: run_batches(model, proto.SerializeToString(), test, advice="leave fp16 out of the table"))
    )
    if outputs is None:
        row = _without(row, "accuracy", reason)
    else:
        judged = execution(scheme.format, outputs, original, test)
        row = replace(
            row,
            accuracy=judged.accuracy,
            agreement=judged.agreement,
            sqnr_db=judged.sqnr_db,
            remarks=unjudged(judged, test),
        )
    costed, reason = attempt(lambda: _on_float_units(row, scheme, model, calibration, arch))
    return _without(row, "cycles and energy", reason) if costed is None else costed


def _on_float_units(
    row: SchemeCost, scheme: Scheme, model: FloatModel, calibration: Calibration, arch: Arch
) -> SchemeCost:
    """Add the baseline of a format: the mapping and the cycles of the network in int8, other widths and units."""
    result = run(load(quantize(model, parse_scheme(_MAPPED_LIKE), calibration).onnx), arch, values=False)
    (found,) = (baseline for baseline in result.energy.detail.baselines if baseline.format == scheme.format)
    return replace(
        row,
        cycles=result.cycles,
        energy_pj=found.energy_pj,
        dram_bytes=sum(line.count for line in found.charges if line.component == "dram"),
        remarks=(*row.remarks, f"cycles, energy and DRAM bytes: {_FLOAT_UNITS}"),
    )


def read_for(schemes: Sequence[Scheme], source: str, *, external_data: bool | None = None) -> FloatModel:
    """Read a float model once, in the newest operator set that any of some schemes needs.

    Args:
        schemes: what it will be quantised with.
        source: path of the model.
        external_data: False refuses tensors in other files; else they are read from the model's folder.
    """
    opset = max(scheme.opset for scheme in schemes)
    return read_float_model(source, None, opset, external_data=external_data)
