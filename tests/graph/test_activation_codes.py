"""The types of codes that activations are quantised to, however the file states them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import accelsim
from accelsim.graph.normalise.activation_codes import activation_types
from tests.strategies import MICROSOFT, Builder, Draw

SEED = 71_003
DEFAULT_TYPE = frozenset({TensorProto.UINT8})
SPELLINGS = ("initializer", "constant", "cast", "type", "codes", "view")


def activations(build: Builder, kind: str, spelling: str) -> str:
    """Add reals that were codes of a type, which the file states in one of several ways."""
    scale, element_type = build.constant(0.0002, np.float32), helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    zero = build.constant(np.zeros((), kind))
    if spelling in ("codes", "view"):
        codes = build.input(np.arange(24, dtype=kind).reshape(3, 8))
        codes = build.node("Reshape", [codes, build.constant([-1, 8])]) if spelling == "view" else codes
        return build.node("DequantizeLinear", [codes, scale, zero])
    real = build.input(build.draw.rng.normal(size=(3, 8)).astype(np.float32))
    if spelling == "type":
        codes = build.node("QuantizeLinear", [real, scale], output_dtype=element_type)
        return build.node("DequantizeLinear", [codes, scale])
    if spelling == "constant":
        zero = build.node("Constant", [], value=numpy_helper.from_array(np.zeros((), kind)))
    elif spelling == "cast":
        zero = build.node("Cast", [build.constant(np.array(0))], to=element_type)
    return build.node("DequantizeLinear", [build.node("QuantizeLinear", [real, scale, zero]), scale, zero])


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_types_are_found_however_they_are_stated(kind: str, spelling: str) -> None:
    """As zero point of any making, as an attribute, or as the type of an input."""
    build = Builder(Draw((SEED, 1), ties=False))
    build.output(activations(build, kind, spelling))
    assert activation_types(build.proto()) == {helper.np_dtype_to_tensor_dtype(np.dtype(kind))}


def test_types_of_weights_are_none_of_activations() -> None:
    """Weights are codes, or are quantised in the file; activations have the default type here."""
    build = Builder(Draw((SEED, 2), ties=False))
    scale, zero = build.constant(0.5, np.float32), build.constant(0, np.int16)
    weights = build.node("QuantizeLinear", [build.constant(np.ones((8, 4)), np.float32), scale, zero])
    weights = build.node("DequantizeLinear", [weights, scale, zero])
    reals = build.node("QuantizeLinear", [build.input(np.ones((3, 8), np.float32)), scale])
    build.output(build.node("MatMul", [build.node("DequantizeLinear", [reals, scale]), weights]))
    assert activation_types(build.proto()) == DEFAULT_TYPE


def test_types_behind_operators_that_onnx_does_not_know() -> None:
    """There the zero point of DequantizeLinear tells, in either domain."""
    for domain in ("", MICROSOFT):
        build = Builder(Draw((SEED, 3), ties=False))
        codes = build.node("QuickGelu", [build.input(np.ones((3, 8), np.int16))], MICROSOFT)
        parameters = [build.constant(0.5, np.float32), build.constant(0, np.int16)]
        build.output(build.node("DequantizeLinear", [codes, *parameters], domain), rank=2)
        assert activation_types(build.proto()) == {TensorProto.INT16}


def test_layers_and_verdict_do_not_depend_on_how_zero_points_are_stated() -> None:
    """A product of 16-bit activations, whose machine and whose word are one."""
    seen = set()
    for spelling in ("initializer", "constant", "cast", "type"):
        build = Builder(Draw((SEED, 4), ties=False))
        weights = build.dequantise(
            build.constant(build.draw.rng.integers(-99, 99, (8, 4)).astype(np.int8)),
            build.draw.activation(np.dtype("int8")),
        )
        build.output(build.node("MatMul", [activations(build, "int16", spelling), weights]))
        case = build.case()
        result = accelsim.run(accelsim.load(case.model), None, case.inputs)
        layers = tuple((layer.op, layer.placement, layer.arithmetic) for layer in result.layers)
        seen.add((layers, result.check.verdict, result.check.notes))
    assert len(seen) == 1
