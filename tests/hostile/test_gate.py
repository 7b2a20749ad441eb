"""What onnxruntime runs is loaded, or refused for a true reason: functions, branches, integers, other spellings."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

import accelsim
from accelsim import Arch, load
from accelsim.graph.load.float_models import is_quantised
from accelsim.graph.load.limits import Limits
from accelsim.regression.record import record, verify

Array = NDArray[Any]
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 16])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)


def constants(**arrays: Any) -> list[Any]:
    """Return initialisers by name."""
    return [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


def close(
    nodes: list[Any], tensors: list[Any], opset: int = 18, inputs: Any = None, outputs: Any = None, **extra: Any
) -> bytes:
    """Close a model."""
    graph = helper.make_graph(nodes, "g", inputs or [X], outputs or [Y], tensors)
    imports = [helper.make_opsetid("", opset), *extra.pop("imports", [])]
    data: bytes = helper.make_model(graph, opset_imports=imports, ir_version=9, **extra).SerializeToString()
    return data


def judged(model: bytes, inputs: dict[str, Array], **options: Any) -> accelsim.Result:
    """Run a model, and demand the outputs of a plain session on its bytes, but for rounding of float sums."""
    result = accelsim.run(accelsim.load(model), Arch(), inputs)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"], **options)
    for mine, theirs in zip(result.outputs.values(), session.run(None, inputs), strict=True):
        assert mine.shape == theirs.shape
        assert np.abs(mine.astype(float) - theirs).max(initial=0) < 1e-5
    return result


def draw() -> dict[str, Array]:
    """Draw the input."""
    return {"x": np.random.default_rng(0).normal(0, 1, (4, 16)).astype(np.float32)}


PARAMETERS = {"s": np.float32(0.03), "z": np.int8(0), "ws": np.float32(0.01), "wz": np.int8(0),
              "w": np.arange(-64, 64, dtype=np.int8).reshape(16, 8)}  # fmt: skip
LINEAR = [
    helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
    helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
    helper.make_node("MatMul", ["d", "wd"], ["y"]),
]


def function(name: str, body: list[Any], domain: str = "mine") -> Any:
    """Make a local function of x and the parameters."""
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    return helper.make_function(domain, name, ["x", *PARAMETERS], ["y"], body, imports)


def call(name: str) -> Any:
    """Call a local function."""
    return helper.make_node(name, ["x", *PARAMETERS], ["y"], domain="mine")


def test_local_functions_are_put_in_place() -> None:
    """A quantised layer in a function that another function calls runs on the array."""
    functions = [function("Linear", LINEAR), function("Outer", [call("Linear")])]
    imports = [helper.make_opsetid("mine", 1)]
    model = close([call("Outer")], constants(**PARAMETERS), imports=imports, functions=functions)
    assert judged(model, draw()).macs_on_array_share == 1


def slope_function(name: str, body: Any, parameter: str, handed_on: str, **more: Any) -> Any:
    """Make a function whose one node gets its attribute from the caller."""
    node = helper.make_node(body, ["x"], ["y"], domain="" if body == "LeakyRelu" else "mine")
    node.attribute.append(AttributeProto(name=parameter, type=AttributeProto.FLOAT, ref_attr_name=handed_on))
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    return helper.make_function("mine", name, ["x"], ["y"], [node], imports, **more)


def test_calls_take_the_default_attributes_of_local_functions() -> None:
    """In the graph, handed on by a function that was given none, and in a branch; a given one wins."""
    functions = [
        slope_function("Inner", "LeakyRelu", "alpha", "slope", attribute_protos=[helper.make_attribute("slope", 0.5)]),
        slope_function("Outer", "Inner", "slope", "beta", attributes=["beta"]),
    ]
    inside = helper.make_node("Inner", ["d"], ["inside"], domain="mine")
    graph = helper.make_graph([inside], "g", [], [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)])
    nodes = [
        *LINEAR[:2],
        helper.make_node("Inner", ["d"], ["plain"], domain="mine"),
        helper.make_node("Outer", ["d"], ["handed"], domain="mine"),
        helper.make_node("Outer", ["d"], ["given"], domain="mine", beta=0.25),
        helper.make_node("If", ["yes"], ["taken"], then_branch=graph, else_branch=graph),
        helper.make_node("Concat", ["plain", "handed", "given", "taken"], ["y"], axis=0),
    ]
    tensors = constants(s=np.float32(0.03), z=np.int8(0), yes=np.bool_(True))
    model = close(nodes, tensors, imports=[helper.make_opsetid("mine", 1)], functions=functions)
    outputs = judged(model, draw()).outputs["y"].reshape(4, -1)
    assert (outputs[0] == outputs[1]).all()
    assert (outputs[0] == outputs[3]).all()
    assert (outputs[0] != outputs[2]).any()


def test_functions_that_call_themselves_are_refused() -> None:
    """No inliner sees a circle."""
    functions = [function("A", [call("B")]), function("B", [call("A")])]
    model = close([call("A")], constants(**PARAMETERS), imports=[helper.make_opsetid("mine", 1)], functions=functions)
    with pytest.raises(accelsim.InvalidModelError, match="calls itself"):
        accelsim.load(model)


def test_functions_that_explode_are_refused_before_they_do() -> None:
    """Thirty levels of ten calls each would be more nodes than any memory holds."""
    levels = 30
    functions = []
    for level in range(levels):
        inner = "Identity" if level == levels - 1 else f"F{level + 1}"
        domain = "" if inner == "Identity" else "mine"
        names = ["x", *[f"t{place}" for place in range(9)], "y"]
        body = [helper.make_node(inner, [a], [b], domain=domain) for a, b in pairwise(names)]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
        functions.append(helper.make_function("mine", f"F{level}", ["x"], ["y"], body, imports))
    node = helper.make_node("F0", ["x"], ["y"], domain="mine")
    model = close([node], [], imports=[helper.make_opsetid("mine", 1)], functions=functions)
    with pytest.raises(accelsim.ResourceLimitError, match="once its functions are put in place"):
        accelsim.load(model, Limits())


def branch(factor: float, name: str) -> Any:
    """Make a branch that scales the product; inner names are those of the other branch."""
    nodes = [helper.make_node("Constant", [], ["f"], value=numpy_helper.from_array(np.float32(factor))),
             helper.make_node("Mul", ["p", "f"], ["inner"])]  # fmt: skip
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])


def chosen(condition: list[Any], name: str, **arrays: Any) -> bytes:
    """Make a product and an If behind it."""
    nodes = [*LINEAR[:3], helper.make_node("MatMul", ["d", "wd"], ["p"]), *condition]
    nodes.append(helper.make_node("If", [name], ["y"], then_branch=branch(2, "t"), else_branch=branch(3, "e")))
    return close(nodes, constants(**PARAMETERS, **arrays))


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_constant_condition_chooses_its_branch(rate: int) -> None:
    """The branch that is taken stands in the place of the If, whichever it is."""
    condition = [helper.make_node("Equal", ["rate", "wanted"], ["c"])]
    model = chosen(condition, "c", rate=np.int64(rate), wanted=np.int64(16000))
    assert judged(model, draw()).macs_on_array_share == 1


def test_a_condition_may_be_a_constant_itself() -> None:
    """Without any node that computes it."""
    judged(chosen([], "c", c=np.array(True)), draw())


def test_two_ifs_may_use_the_same_inner_names() -> None:
    """Names inside of branches are their own."""
    nodes = [*LINEAR[:3], helper.make_node("MatMul", ["d", "wd"], ["p"])]
    for output in ("a", "b"):
        nodes.append(helper.make_node("If", ["c"], [output], then_branch=branch(2, "t"), else_branch=branch(3, "e")))
    nodes.append(helper.make_node("Add", ["a", "b"], ["y"]))
    judged(close(nodes, constants(**PARAMETERS, c=np.array(False))), draw())


def measured(shape: list[Any], place: int, wanted: int) -> bytes:
    """Make an If on a size of the product of an input of some shape."""
    model = ModelProto.FromString(chosen([
        helper.make_node("Shape", ["p"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "place"], ["size"]),
        helper.make_node("Equal", ["size", "wanted"], ["c"]),
    ], "c", place=np.int64(place), wanted=np.int64(wanted)))  # fmt: skip
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize("wanted", [8, 1])
@pytest.mark.parametrize("shape", [[4, 16], ["n", 16]])
def test_a_size_that_the_file_states_chooses_its_branch(shape: list[Any], wanted: int) -> None:
    """As in what PyTorch exports for a squeeze; other axes may be open."""
    assert judged(measured(shape, -1, wanted), draw()).macs_on_array_share == 1


@pytest.mark.parametrize(("shape", "place"), [(["n", 16], 0), ([4, 16], 2), ([4, 16], -3)])
def test_a_size_that_the_file_leaves_open_decides_nothing(shape: list[Any], place: int) -> None:
    """Nor one of an axis that does not exist."""
    with pytest.raises(accelsim.UnsupportedModelError) as refused:
        accelsim.load(measured(shape, place, 4))
    assert "subgraphs" in str(refused.value.findings)


def test_a_condition_that_an_input_decides_is_refused() -> None:
    """Which branch runs is not known before the run."""
    nodes = [helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0), helper.make_node("Greater", ["m", "s"], ["c"])]
    with pytest.raises(accelsim.UnsupportedModelError) as refused:
        accelsim.load(chosen(nodes, "c"))
    assert "subgraphs" in str(refused.value.findings)


def test_a_condition_that_cannot_be_computed_is_refused_with_the_reason() -> None:
    """Two values are no condition, and a Reshape that does not fit gives none."""
    for nodes, name, reason in (
        ([], "two", "it has 2 values"),
        ([helper.make_node("Reshape", ["two", "shape"], ["c"])], "c", "eshape"),
    ):
        with pytest.raises(accelsim.UnsupportedModelError) as refused:
            accelsim.load(chosen(nodes, name, two=np.array([True, True]), shape=np.array([3])))
        found = str(refused.value.findings[0])
        assert "(its condition: " in found
        assert reason in found


@pytest.mark.parametrize("imported", ["", "ai.onnx"])
def test_the_standard_domain_has_two_names(imported: str) -> None:
    """Nodes of the main graph may spell it "ai.onnx", an If included, whichever of the two the file imports."""
    condition = [helper.make_node("Equal", ["rate", "wanted"], ["c"])]
    model = ModelProto.FromString(chosen(condition, "c", rate=np.int64(1), wanted=np.int64(1)))
    for node in model.graph.node:
        node.domain = "ai.onnx"
    model.opset_import[0].domain = imported
    assert judged(model.SerializeToString(), draw()).macs_on_array_share == 1


def test_integer_graphs_are_no_float_models() -> None:
    """Codes that are only moved need no quantiser."""
    values = [helper.make_tensor_value_info("x", TensorProto.INT8, [2, 6])]
    ends = [helper.make_tensor_value_info("y", TensorProto.INT8, None)]
    nodes = [helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
             helper.make_node("Concat", ["b", "a"], ["y"], axis=1)]  # fmt: skip
    model = close(nodes, [], inputs=values, outputs=ends)
    assert judged(model, {"x": np.arange(12, dtype=np.int8).reshape(2, 6)}).check.verdict == "exact"


def test_float_models_are_still_refused() -> None:
    """With the offer to quantise them."""
    with pytest.raises(accelsim.UnsupportedModelError, match="accel-sim quantize"):
        accelsim.load(close([helper.make_node("MatMul", ["x", "w"], ["y"])], constants(w=np.ones((16, 3), np.float32))))


def test_quantisers_that_are_spelled_out_make_no_float_model() -> None:
    """Div, Round, Clip, Mul are a quantiser; quantising the model once more would be wrong."""
    nodes = [
        helper.make_node("Div", ["x", "s"], ["a"]), helper.make_node("Round", ["a"], ["b"]),
        helper.make_node("Clip", ["b", "low", "high"], ["c"]), helper.make_node("Mul", ["c", "s"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["d", "t"], ["y"]),
    ]  # fmt: skip
    arrays = {"s": np.float32(0.05), "low": np.float32(-128), "high": np.float32(127)}
    result = judged(close(nodes, constants(**arrays)), draw())
    assert {layer.arithmetic for layer in result.layers if layer.macs} == {"integer"}


def test_operators_of_onnxruntimes_own_in_the_standard_domain_run() -> None:
    """SimplifiedLayerNormalization as onnxruntime-genai writes it."""
    nodes = [helper.make_node("SimplifiedLayerNormalization", ["x", "gain"], ["n"], axis=-1, epsilon=1e-5)]
    nodes += [helper.make_node("QuantizeLinear", ["n", "s", "z"], ["q"]), *LINEAR[1:]]
    judged(close(nodes, constants(**PARAMETERS, gain=np.ones(16, np.float32)), 21), draw())


def test_a_type_in_place_of_a_zero_point_runs_without_the_optimiser_that_breaks_it() -> None:
    """QuantizeLinear with output_dtype: the reference leaves one optimiser out, and its description says so."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=TensorProto.INT8),
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["wd"]),
        helper.make_node("MatMul", ["d", "wd"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "s"], ["c"], output_dtype=TensorProto.INT8),
        helper.make_node("DequantizeLinear", ["c", "s"], ["y"]),
    ]  # fmt: skip
    model = close(nodes, constants(**{name: PARAMETERS[name] for name in ("s", "ws", "w")}), 21)
    try:
        result = judged(model, draw())
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
        result = judged(model, draw(), disabled_optimizers=["QDQSelectorActionTransformer"])
        assert "without QDQSelectorActionTransformer" in result.check.reference
        assert result.check.subject.startswith("the file as it is, without onnxruntime's QDQSelectorActionTransformer")
    assert result.macs_on_array_share == 1


BIASED = [
    *LINEAR[:3],
    helper.make_node("MatMul", ["d", "wd"], ["product"]),
    helper.make_node("Add", ["product", "bias"], ["sum"]),
    helper.make_node("Relu", ["sum"], ["y"]),
]
BIAS = helper.make_tensor_value_info("bias", TensorProto.FLOAT, [8])


def test_constants_that_are_inputs_take_what_is_given(tmp_path: Path) -> None:
    """A constant that the file lists as an input is what it is, until an array is given for it."""
    model = close(BIASED, constants(**PARAMETERS, bias=np.linspace(-2, 2, 8, dtype=np.float32)), inputs=[X, BIAS])
    kept = judged(model, draw()).outputs["y"]
    given = draw() | {"bias": np.linspace(2, -2, 8, dtype=np.float32)}
    assert (judged(model, given).outputs["y"] != kept).any()
    record(load(model), tmp_path / "golden", inputs=given)
    assert verify(tmp_path / "golden", load(model)).equal


def test_a_bias_that_is_an_input_is_added_before_what_clips() -> None:
    """The product itself must not clip, though onnxruntime fuses all three into one node."""
    given = draw() | {"bias": np.linspace(-2, 2, 8, dtype=np.float32)}
    assert (judged(close(BIASED, constants(**PARAMETERS), inputs=[X, BIAS]), given).outputs["y"] >= 0).all()


def block_quantised() -> Any:
    """Look up rows of 4-bit codes."""
    codes = helper.make_tensor("codes", TensorProto.UINT4, [10, 32], np.random.default_rng(0).integers(0, 16, 320))
    node = helper.make_node(
        "GatherBlockQuantized", ["codes", "ids", "scales"], ["y"], domain="com.microsoft", block_size=16,
        quantize_axis=1,
    )  # fmt: skip
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    return [node], [codes, *constants(scales=np.full((10, 2), 0.1, np.float32))], [ids], {"ids": np.array([1, 3])}


def experts() -> Any:
    """Mix two experts of 4-bit weights."""
    rng = np.random.default_rng(0)
    tensors = constants(
        w1=rng.integers(0, 256, (2, 32, 8)).astype(np.uint8), w2=rng.integers(0, 256, (2, 16, 16)).astype(np.uint8),
        s1=np.full((2, 32), 0.01, np.float32), s2=np.full((2, 16), 0.01, np.float32),
        router=rng.normal(0, 1, (4, 2)).astype(np.float32),
    )  # fmt: skip
    node = helper.make_node(
        "QMoE", ["x", "router", "w1", "s1", "", "w2", "s2"], ["y"], domain="com.microsoft", k=1, expert_weight_bits=4
    )
    return [node], tensors, [X], draw()


@pytest.mark.parametrize(("model", "uncounted"), [(block_quantised, {}), (experts, {"QMoE": 1})])
def test_operators_on_codes_are_no_float_models(model: Any, uncounted: dict[str, int]) -> None:
    """They carry their codes themselves; what multiplies in them and has no counter is named."""
    nodes, tensors, inputs, feeds = model()
    data = close(nodes, tensors, 21, inputs, imports=[helper.make_opsetid("com.microsoft", 1)])
    assert dict(judged(data, feeds).uncounted_operators) == uncounted


@pytest.mark.parametrize("name", ["QLinearAdd", "QGemm", "NhwcMaxPool", "DequantizeBFP", "QuantizeBFP"])
def test_operators_on_codes_are_known_by_name_or_schema(name: str) -> None:
    """Of onnxruntime's own ones; FusedMatMul and Gelu are not among them."""
    assert is_quantised(helper.make_node(name, [], [], domain="com.microsoft"))
    assert not any(
        is_quantised(helper.make_node(other, [], [], domain="com.microsoft")) for other in ("FusedMatMul", "Gelu")
    )


@pytest.mark.parametrize("behind", [[], [helper.make_node("Abs", ["noise"], ["more"])]])
def test_random_values_that_reach_no_output_do_not_matter(behind: list[Any]) -> None:
    """With what only they feed."""
    noise = helper.make_node("RandomNormal", [], ["noise"], shape=[2, 3])
    assert judged(close([*LINEAR, noise, *behind], constants(**PARAMETERS)), draw()).check.verdict == "exact"


def test_functions_of_other_versions_are_refused_for_one_reason() -> None:
    """The domain of the function is not unknown."""
    old = helper.make_function("mine", "Old", ["x"], ["y"], [helper.make_node("Abs", ["x"], ["y"])],
                               [helper.make_opsetid("", 13)])  # fmt: skip
    nodes = [*LINEAR[:2], helper.make_node("Old", ["d"], ["y"], domain="mine")]
    model = close(nodes, constants(**PARAMETERS), imports=[helper.make_opsetid("mine", 1)], functions=[old])
    with pytest.raises(accelsim.UnsupportedModelError) as refused:
        accelsim.load(model)
    assert [finding.operator for finding in refused.value.findings] == ["function"]


def test_a_graph_needs_no_name() -> None:
    """The reference asks for none."""
    model = ModelProto.FromString(close(LINEAR, constants(**PARAMETERS)))
    model.graph.name = ""
    judged(model.SerializeToString(), draw())


def test_a_foreign_element_type_is_named_with_a_remedy_for_it() -> None:
    """To use dense tensors would be none."""
    cast = helper.make_node("Cast", ["product"], ["y"], to=TensorProto.BFLOAT16)
    ends = [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, None)]
    nodes = [*LINEAR[:3], helper.make_node("MatMul", ["d", "wd"], ["product"]), cast]
    with pytest.raises(accelsim.UnsupportedModelError, match="bfloat16, which is not executed: export it as float32"):
        accelsim.run(accelsim.load(close(nodes, constants(**PARAMETERS), outputs=ends)))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("requantised", [False, True])
@pytest.mark.parametrize("scales", [np.array([0, 0.01, 0.02, 0.01], np.float32), np.zeros(4, np.float32)])
def test_weights_may_be_scaled_by_nothing(scales: Array, requantised: bool, biased: bool) -> None:
    """A channel that pruning emptied gives zeros, with the scale of its bias at 0 as well."""
    rng = np.random.default_rng(0)
    tensors = constants(
        s=np.float32(0.03), z=np.int8(0), w=rng.integers(-9, 9, (16, 4)).astype(np.int8), ws=scales,
        wz=np.zeros(4, np.int8), b=np.arange(-20, 20, 10, dtype=np.int32), bs=scales * np.float32(0.03),
        bz=np.zeros(4, np.int32),
    )  # fmt: skip
    last = "sums" if requantised else "y"
    nodes = [
        *LINEAR[:2],
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=1),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], axis=0),
        helper.make_node("Gemm", ["d", "wd", "bd"] if biased else ["d", "wd"], [last]),
    ]
    if requantised:
        nodes += [helper.make_node("QuantizeLinear", ["sums", "s", "z"], ["codes"]),
                  helper.make_node("DequantizeLinear", ["codes", "s", "z"], ["y"])]  # fmt: skip
    assert judged(close(nodes, tensors), draw()).check.verdict in ("exact", "near")


def test_activations_are_not_scaled_by_nothing() -> None:
    """A division by the scale is nowhere defined."""
    with pytest.raises(accelsim.InvalidModelError, match="its scale 's' holds 0"):
        accelsim.load(close(LINEAR, constants(**(PARAMETERS | {"s": np.float32(0)}))))
