"""Float graphs written in a line each, and what is demanded of their quantised outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import accelsim
from accelsim.quantise.measure.three_way import compare_three
from accelsim.quantise.pipeline import Quantised, quantize
from accelsim.results.quantisation import ThreeWay

Array = NDArray[np.generic]
Floats = NDArray[np.float32]
node = helper.make_node


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> Floats:
    """Return normal numbers."""
    return np.random.default_rng(seed + len(shape)).normal(0, scale, shape).astype(np.float32)


def model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Array],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str] | None],
    kinds: Mapping[str, int] | None = None,
) -> bytes:
    """Return a model; kinds: element types of inputs and outputs that are not float32."""
    of = {**dict.fromkeys((*inputs, *outputs), TensorProto.FLOAT), **(kinds or {})}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "odd",
        [value(name, of[name], list(shape)) for name, shape in inputs.items()],
        [value(name, of[name], None if shape is None else list(shape)) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    made: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def near(
    data: bytes, samples: Mapping[str, Array], scheme: str = "int8-per-channel", least_db: float = 25.0
) -> Quantised:
    """Quantise, and demand outputs near the float network's, the same from the machine and from the file as spelled."""
    quantised = quantize(data, scheme, dict(samples))
    found = compare_three(quantised)
    assert sqnr(found) > least_db
    assert found.machine.sqnr_db == pytest.approx(found.literal.sqnr_db, abs=1.0)
    first = next(iter(quantised.data.batches(quantised.model, 1)))
    result = accelsim.run(quantised.onnx, accelsim.Arch(acc_bits=48), first)
    assert result.check.verdict == ("near" if result.check.output_mismatched else "exact"), result.check.first_mismatch
    return quantised


def sqnr(found: ThreeWay) -> float:
    assert found.machine.sqnr_db is not None
    return found.machine.sqnr_db


X = {"x": normal(40, 16)}
