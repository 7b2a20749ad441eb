"""The float model with chosen tensors exposed, run over calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from accelsim.errors import UnsupportedModelError, UsageError, reason_of
from accelsim.progress import Steps
from accelsim.quantise.calibrate.calibration import BATCH, Calibration
from accelsim.quantise.network.source import FloatModel
from accelsim.reference.session import open_session

Array = NDArray[np.generic]
Floats = NDArray[np.float32]

# Without it the optimiser makes int8 quantisers uint8 on x86, some only in part, and then refuses what it has written.
_KEEP_INT8 = (("session.qdqisint8allowed", "1"),)

KEEP_FLOAT = "keep what it stumbles over in float with keep_float"


def float_tensors(model: FloatModel) -> tuple[str, ...]:
    """Return the names of all float activations: inputs, what nodes write, outputs."""
    graph = model.proto.graph
    floats = {
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    written = [name for node in graph.node for name in node.output]
    return tuple(name for name in (*model.inputs, *filter(None, written)) if name in floats)


def with_outputs(proto: ModelProto, names: Sequence[str]) -> bytes:
    """Return a model whose outputs are the named tensors that nodes write.

    Args:
        proto: the model; it is left as it is.
        names: of the tensors.
    """
    copy = ModelProto()
    copy.CopyFrom(proto)
    known = {value.name: value for value in (*proto.graph.value_info, *proto.graph.output)}
    del copy.graph.output[:]
    for name in names:
        value = known.get(name)
        if value is None:
            value = helper.make_empty_tensor_value_info(name)
        copy.graph.output.append(value)
    return bytes(copy.SerializeToString())


class FloatSession:
    """A session that computes in float, with errors that speak of the samples."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.outputs: tuple[str, ...] = tuple(value.name for value in session.get_outputs())

    def run(self, names: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """Return outputs by name.

        Args:
            names: of the outputs.
            feeds: arrays by input name.

        Raises:
            UsageError: onnxruntime cannot compute the network on these samples.
        """
        try:
            return list(self._session.run(list(names), dict(feeds)))
        except Exception as error:  # onnxruntime's errors have no common base class
            raise UsageError(
                f"onnxruntime cannot run the float network on these samples ({reason_of(error, 160)}): check that "
                f"their values and sizes are what it expects"
            ) from None


def open_float(data: bytes, *, literal: bool = False, advice: str = KEEP_FLOAT) -> FloatSession:
    """Open a session that computes in float: optimised, or each node for itself.

    Args:
        data: the model.
        literal: each node for itself.
        advice: what to do if onnxruntime refuses it.

    Raises:
        UnsupportedModelError: onnxruntime refuses the network.
    """
    try:
        return FloatSession(open_session(data, optimise="none" if literal else "all", entries=_KEEP_INT8))
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise UnsupportedModelError(f"onnxruntime refuses the network ({reason_of(error, 160)}): {advice}") from None


def observe(
    model: FloatModel,
    data: Calibration,
    names: Sequence[str],
    steps: Steps | None = None,
    label: str = "observe",
    size: int = BATCH,
) -> Iterator[dict[str, Floats]]:
    """Yield the named tensors of the float model, batch by batch; inputs stand for themselves.

    Args:
        model: the float model.
        data: the samples.
        names: float tensors.
        steps: shows progress.
        label: what is being done.
        size: samples of a batch where the model leaves it open.
    """
    written = [name for name in names if name not in model.inputs]
    session = open_float(with_outputs(model.proto, written)) if written else None
    batches = list(data.batches(model, size))
    for index, feeds in enumerate(batches):
        values: Mapping[str, Array] = dict(zip(written, session.run(written, feeds), strict=True)) if session else {}
        yield {name: np.asarray(values[name] if name in values else feeds[name]) for name in names}
        if steps is not None:
            steps(label, index + 1, len(batches))


def run_batches(
    model: FloatModel, proto: bytes, data: Calibration, *, literal: bool = False, advice: str = KEEP_FLOAT
) -> dict[str, Array]:
    """Return the outputs of a model with the float model's inputs over all samples, joined as `joined` says.

    Args:
        model: gives the inputs.
        proto: the model to run.
        data: the samples.
        literal: execute each node for itself, so that quantisers stay what they are.
        advice: what to do if onnxruntime refuses it.
    """
    session = open_float(proto, literal=literal, advice=advice)
    names = session.outputs
    runs = [session.run(names, feeds) for feeds in data.batches(model)]
    return {name: joined([run[at] for run in runs]) for at, name in enumerate(names)}


def joined(parts: Sequence[Array]) -> Array:
    """Return the outputs of batches in one array: along the first axis, or flat where the batch is not the first one.

    Args:
        parts: one array per batch.
    """
    if len({part.shape[1:] for part in parts}) == 1 and parts[0].ndim:
        return np.concatenate(parts)
    return np.concatenate([part.reshape(-1) for part in parts])
