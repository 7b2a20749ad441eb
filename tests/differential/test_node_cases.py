"""The conformance cases of ONNX for quantised operators: published results, or a refusal with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import accelsim
from accelsim.graph.load.float_models import float_model_error

Array = NDArray[Any]

FLOAT8 = r"element type float8\w+ cannot be fed"
FLOAT4 = r"element type float4e2m1 cannot be fed"

# Cases that are refused, with exit code 4, and a pattern of the reason.
REFUSED = {
    # onnxruntime executes one zero point per tensor only, so there is nothing to compare with.
    "convinteger_with_padding": r"onnxruntime, the reference, fails .* ConvInteger",
    "dequantizelinear_e4m3fn": FLOAT8,
    "dequantizelinear_e4m3fn_float16": FLOAT8,
    "dequantizelinear_e4m3fn_zero_point": FLOAT8,
    "dequantizelinear_e5m2": FLOAT8,
    "quantizelinear_e4m3fn": FLOAT8,
    "quantizelinear_e5m2": FLOAT8,
    "dequantizelinear_float4e2m1": FLOAT4,
    "quantizelinear_float4e2m1": FLOAT4,
}
EXECUTED = (
    "convinteger_without_padding",
    "dequantizelinear",
    "dequantizelinear_axis",
    "dequantizelinear_blocked",
    "dequantizelinear_int16",
    "dequantizelinear_uint16",
    "dynamicquantizelinear",
    "dynamicquantizelinear_expanded",
    "dynamicquantizelinear_max_adjusted",
    "dynamicquantizelinear_max_adjusted_expanded",
    "dynamicquantizelinear_min_adjusted",
    "dynamicquantizelinear_min_adjusted_expanded",
    "matmulinteger",
    "qlinearconv",
    "qlinearmatmul_2D_int8_float16",
    "qlinearmatmul_2D_int8_float32",
    "qlinearmatmul_2D_uint8_float16",
    "qlinearmatmul_2D_uint8_float32",
    "qlinearmatmul_3D_int8_float16",
    "qlinearmatmul_3D_int8_float32",
    "qlinearmatmul_3D_uint8_float16",
    "qlinearmatmul_3D_uint8_float32",
    "quantizelinear",
    "quantizelinear_axis",
    "quantizelinear_blocked_asymmetric",
    "quantizelinear_blocked_symmetric",
    "quantizelinear_int16",
    "quantizelinear_uint16",
)
# Cases whose tensors are narrower than a byte.
NARROW = (
    "dequantizelinear_int2",
    "dequantizelinear_int4",
    "dequantizelinear_uint2",
    "dequantizelinear_uint4",
    "quantizelinear_int2",
    "quantizelinear_int4",
    "quantizelinear_uint2",
    "quantizelinear_uint4",
)
# With constant parameters these run on the machine itself and not on the host.
ON_THE_MACHINE = {
    "dequantizelinear": "vector",
    "dequantizelinear_int16": "vector",
    "dequantizelinear_uint16": "vector",
    "qlinearconv": "array",
    "qlinearmatmul_2D_int8_float32": "array",
    "qlinearmatmul_2D_uint8_float32": "array",
    "qlinearmatmul_3D_int8_float32": "array",
    "qlinearmatmul_3D_uint8_float32": "array",
    "quantizelinear": "vector",
    "quantizelinear_int16": "vector",
    "quantizelinear_uint16": "vector",
}


def folder(shared_models: Path) -> Path:
    """Return where the cases lie."""
    return shared_models / "node_tests"


def published(models: Path, name: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return inputs and expected outputs of a case."""
    with np.load(folder(models) / f"{name}.io.npz") as archive:
        arrays = dict(archive)
    if name in NARROW:  # codes of less than a byte are kept as floats, and fed as bytes
        kind = np.uint8 if "uint" in name else np.int8
        narrow = ("in.x", "in.x_zero_point") if name.startswith("de") else ("in.y_zero_point", "out.y")
        arrays |= {key: arrays[key].astype(kind) for key in narrow if key in arrays}
    return (
        {key.removeprefix("in."): array for key, array in arrays.items() if key.startswith("in.")},
        {key.removeprefix("out."): array for key, array in arrays.items() if key.startswith("out.")},
    )


def assert_published(result: accelsim.Result, expected: dict[str, Array]) -> None:
    """Compare a run with onnxruntime and with what was published."""
    assert result.check.verdict == "exact"
    assert result.check.mismatched_elements == result.check.output_mismatched == 0
    assert result.outputs.keys() == expected.keys()
    for name, array in expected.items():
        assert result.outputs[name].dtype == array.dtype
        assert result.outputs[name].shape == array.shape
        assert result.outputs[name].tobytes() == array.tobytes(), name


def test_the_tables_name_every_case(shared_models: Path) -> None:
    """All 45 published cases are either executed or refused, none is both."""
    names = sorted(path.stem for path in folder(shared_models).glob("*.onnx"))
    assert len(names) == 45
    assert names == sorted([*EXECUTED, *REFUSED, *NARROW])


@pytest.mark.parametrize("name", EXECUTED + NARROW)
def test_a_case_gives_the_published_result(shared_models: Path, name: str) -> None:
    """Every output equals the published one and onnxruntime's, bit for bit."""
    inputs, expected = published(shared_models, name)
    assert_published(accelsim.run(accelsim.load(folder(shared_models) / f"{name}.onnx"), inputs=inputs), expected)


@pytest.mark.parametrize("name", ON_THE_MACHINE)
def test_a_case_with_constant_parameters_runs_on_the_machine(shared_models: Path, name: str) -> None:
    """With everything but the data as constants, as in a real model, no host operator is needed."""
    inputs, expected = published(shared_models, name)
    proto = onnx.load(folder(shared_models) / f"{name}.onnx")
    data = {proto.graph.input[0].name}
    if name.startswith("qlinearmatmul"):
        data.add("b")
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, key) for key, array in inputs.items() if key not in data
    )
    kept = [value for value in proto.graph.input if value.name in data]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    result = accelsim.run(
        accelsim.load(proto.SerializeToString()), inputs={key: array for key, array in inputs.items() if key in data}
    )
    assert_published(result, expected)
    placements = {layer.placement for layer in result.layers}
    assert ON_THE_MACHINE[name] in placements
    assert "host" not in placements


@pytest.mark.parametrize("name", REFUSED)
def test_a_case_is_refused_with_its_reason(shared_models: Path, name: str) -> None:
    """One sentence, or one line per input, and exit code 4."""
    inputs, _ = published(shared_models, name)
    with pytest.raises(accelsim.UnsupportedModelError, match=REFUSED[name]) as caught:
        accelsim.run(accelsim.load(folder(shared_models) / f"{name}.onnx"), inputs=inputs)
    assert caught.value.exit_code == 4
    assert float_model_error(onnx.load(folder(shared_models) / f"{name}.onnx"), name) is None


@pytest.mark.parametrize("kind", ["int4", "uint2"])
def test_codes_of_less_than_a_byte_must_fit(shared_models: Path, kind: str) -> None:
    """Codes that the type lacks are refused, and so are floats; drawn inputs fit."""
    model = accelsim.load(folder(shared_models) / f"dequantizelinear_{kind}.onnx")
    inputs, _ = published(shared_models, f"dequantizelinear_{kind}")
    for wrong in (np.full_like(inputs["x"], 9), inputs["x"].astype(np.float32)):
        with pytest.raises(accelsim.UsageError, match=f"the model wants {kind}"):
            accelsim.run(model, inputs=inputs | {"x": wrong})
    assert accelsim.run(model, seed=3).check.verdict == "exact"
