"""QONNX nodes outside of their domain: one sentence that names the node, or the list of all that cannot run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper

from tests.cli.command import assert_refused, run_model
from tests.qonnx_models import QonnxGraph


def _quant(scale: object = 0.5, zero_point: object = 0.0, bits: object = 4, **flags: object) -> bytes:
    graph = QonnxGraph()
    output = graph.quant(graph.add_input("x", 2, 3), scale, zero_point, bits, **flags)  # type: ignore[arg-type]
    return graph.model(output)


def _trunc(*parameters: float, **flags: object) -> bytes:
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 2, 3), 0.5, 0, 8)
    constants = [graph.constant(value) for value in parameters]
    return graph.model(graph.node("Trunc", x, *constants, domain=graph.domain, **flags))


def _float_scale_of_type(dtype: type) -> bytes:
    graph = QonnxGraph()
    x = graph.add_input("x", 2, 3)
    parameters = [graph.constant(1, dtype), graph.constant(0), graph.constant(4)]
    return graph.model(graph.node("Quant", x, *parameters, domain=graph.domain))


def _with_inputs(count: int) -> bytes:
    graph = QonnxGraph()
    x = graph.add_input("x", 2, 3)
    names = [graph.constant(1.0) for _ in range(count - 1)]
    return graph.model(graph.node("Quant", x, *names, domain=graph.domain, signed=1, narrow=0))


INVALID: dict[str, tuple[bytes, str]] = {
    "signed": (_quant(signed=2), "has signed=2, which must be 0 or 1"),
    "narrow": (_quant(narrow=-1), "has narrow=-1, which must be 0 or 1"),
    "rounding": (_quant(mode="NEAREST"), "has the rounding mode 'NEAREST', not one of ROUND, HALF_EVEN"),
    "control characters": (_quant(mode="\x1b[31m"), "has the rounding mode '?[31m'"),
    "zero scale": (_quant(scale=0.0), "has a scale that is not finite, positive"),
    "negative scale": (_quant(scale=[[1.0, -1.0, 1.0]]), "has a scale that is not finite, positive"),
    "infinite scale": (_quant(scale=np.inf), "has a scale that is not finite, positive"),
    "subnormal scale": (_quant(scale=1e-40), "has a scale that is not finite, positive"),
    "empty scale": (_quant(scale=np.zeros(0)), "has a scale that holds no numbers"),
    "nan zero point": (_quant(zero_point=np.nan), "has a zero point that is no integer"),
    "fractional zero point": (_quant(zero_point=0.5), "has a zero point that is no integer"),
    "huge zero point": (_quant(zero_point=1e9), "has a zero point that is no integer below 32,768"),
    "no bits": (_quant(bits=0), "has a bit width 0, which must be one integer"),
    "negative bits": (_quant(bits=-3), "has a bit width -3, which must be one integer"),
    "fractional bits": (_quant(bits=3.5), "has a bit width 3.5, which must be one integer"),
    "nan bits": (_quant(bits=np.nan), "has a bit width nan, which must be one integer"),
    "bits per channel": (_quant(bits=[2, 3, 4]), "has a bit width of shape [3], which must be one integer"),
    "integer scale": (_float_scale_of_type(np.int32), "has a scale of type int32, which must be float32"),
    "double scale": (_float_scale_of_type(np.float64), "has a scale of type float64, which must be float32"),
    "three inputs": (_with_inputs(3), "has 3 inputs and 1 outputs"),
    "five inputs": (_with_inputs(5), "has 5 inputs and 1 outputs"),
    "growing truncation": (_trunc(0.5, 0, 4, 6), "truncates 4 bits to 6, which are more"),
    "upward truncation": (_trunc(0.5, 0, 8, 0.125, 4), "has an output scale 0.25 times its input scale"),
    "truncation mode": (_trunc(0.5, 0, 8, 4, rounding_mode="up and down"), "has the rounding mode 'up and down'"),
}


@pytest.mark.parametrize(("data", "words"), INVALID.values(), ids=INVALID)
def test_attributes_and_parameters_outside_of_their_domain(tmp_path: Path, data: bytes, words: str) -> None:
    """Exit 5 and one sentence with operator, node and what is wrong."""
    outcome = run_model(tmp_path, data)
    assert_refused(outcome, 5, words)
    assert len(outcome.stderr.splitlines()) == 1


def _changed(change: Callable[[ModelProto], object], data: bytes | None = None) -> bytes:
    model = ModelProto.FromString(data or _quant())
    change(model)
    return bytes(model.SerializeToString())


def _renamed(operator: str) -> bytes:
    return _changed(lambda model: setattr(model.graph.node[0], "op_type", operator))


def _computed_scale() -> bytes:
    graph = QonnxGraph()
    x = graph.add_input("x", 2, 3)
    scale = graph.node("ReduceMax", x, keepdims=0)
    return graph.model(graph.node("Quant", x, scale, graph.constant(0), graph.constant(4), domain=graph.domain))


UNSUPPORTED: dict[str, tuple[bytes, str]] = {
    "minifloat": (_renamed("FloatQuant"), "FloatQuant 'Quant_0': minifloat codes are not integers"),
    "multithreshold": (_renamed("MultiThreshold"), "MultiThreshold 'Quant_0': this QONNX operator is not executed"),
    "wide activation": (_quant(bits=16), "Quant 'Quant_0': codes of 16 bits are wider than 8"),
    "wide truncation": (_trunc(0.5, 0, 16, 12), "Trunc 'Trunc_1': codes of 12 bits are wider than 8"),
    "computed scale": (_computed_scale(), "its parameter 'ReduceMax_0_out' is computed at run time"),
    "another domain": (
        _changed(lambda model: setattr(model.graph.node[0], "domain", "qonnx.custom_op.channels_last")),
        "its domain 'qonnx.custom_op.channels_last' is unknown",
    ),
    "opset 8": (_changed(lambda model: setattr(model.opset_import[0], "version", 8)), "opset 8 is outside of 9..25"),
}


@pytest.mark.parametrize(("data", "words"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_is_not_executed(tmp_path: Path, data: bytes, words: str) -> None:
    """Exit 4, with node, operator, reason and remedy."""
    assert_refused(run_model(tmp_path, data), 4, "1 reason(s)", words, "; ")


def test_all_unsupported_quantisers_are_listed_at_once(tmp_path: Path) -> None:
    """Quantisers and other nodes that cannot run appear in one list."""
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 2, 3), 0.5, 0, 12)
    x = graph.node("FloatQuant", x, domain=graph.domain)
    x = graph.node("Foo", x, domain="my.ops")
    x = graph.node("RandomNormalLike", x)
    outcome = run_model(tmp_path, graph.model(graph.quant(x, 0.5, 0, 9)))
    names = ("'Quant_0'", "'FloatQuant_1'", "'Foo_2'", "'RandomNormalLike_3'", "'Quant_4'")
    assert_refused(outcome, 4, "5 reason(s)", *names)


def test_scales_that_do_not_broadcast(tmp_path: Path) -> None:
    """A scale per channel of another number of channels is refused before anything runs."""
    assert run_model(tmp_path, _quant(scale=np.full((1, 5), 0.5))).code in (4, 5)


def test_scale_that_enlarges_its_tensor(tmp_path: Path) -> None:
    """A scale of more dimensions than the tensor would change its shape, which a quantiser does not."""
    outcome = run_model(tmp_path, _quant(scale=np.full((4, 2, 3), 0.5)))
    assert_refused(outcome, 5, "Quant 'Quant_0'", "changes the shape")


def test_names_that_the_expansion_would_use(tmp_path: Path) -> None:
    """Tensors of the file keep their names: the expansion finds others."""
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 2, 3), 0.5, 0, 4)
    for part in ("Div", "Add", "Clip", "Round", "constant", "node"):
        graph.nodes.append(helper.make_node("Neg", [x], [f"{x}/Quant/{part}"], name=f"{x}/Quant/{part}/node"))
    outcome = run_model(tmp_path, graph.model(*(node.output[0] for node in graph.nodes)))
    assert outcome.code == 0, outcome.stderr


def test_a_quantised_and_a_qonnx_part_in_one_file(tmp_path: Path) -> None:
    """QuantizeLinear beside Quant: executed literally, like everything in a QONNX file."""
    graph = QonnxGraph()
    x = graph.quant(graph.add_input("x", 2, 3), 0.5, 0, 4)
    codes = graph.node("QuantizeLinear", x, graph.constant(0.25), graph.constant(3, np.uint8))
    y = graph.node("DequantizeLinear", codes, graph.constant(0.25), graph.constant(3, np.uint8))
    outcome = run_model(tmp_path, graph.model(y))
    assert outcome.code == 0, outcome.stderr
    assert "exact" in outcome.stdout
