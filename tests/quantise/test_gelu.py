"""GELU however it is spelled, and Erf by itself, become tables of codes on the machine, and lose nothing by it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, numpy_helper

import accelsim
from accelsim.errors import UnsupportedModelError
from accelsim.operators import TableLookup
from accelsim.quantise.measure.three_way import compare_three
from accelsim.quantise.network import source
from accelsim.quantise.pipeline import Quantised, quantize
from accelsim.simulation.model import own_model
from tests.quantise.graphs import model, near, node, normal
from tests.tiers import deep, few

CONSTANTS = {
    "root": np.float32(2**0.5), "inverse": np.float32(0.5**0.5), "one": np.float32(1), "half": np.float32(0.5),
    "cubic": np.float32(0.044715), "three": np.float32(3), "outer_scale": np.float32((2 / np.pi) ** 0.5),
}  # fmt: skip
ROWS = {"x": normal(24, 6, 16)}


FORMS = [
    f"{order}, {core}"
    for core in ("divided", "multiplied", "cube by power", "cube by products", "square inside")
    for order in ("half last", "half first", "half of the sum")
]


def core_of(form: str, x: str, name: str) -> tuple[list[NodeProto], str]:
    """Return the nodes in front of 1 + ..., and their last tensor: Erf of a share of x, or Tanh of a polynomial."""

    def step(kind: str, inputs: list[str], output: str) -> NodeProto:
        return node(kind, inputs, [f"{name}_{output}"], name=f"{name}_{output}_node")

    def of(output: str) -> str:
        return f"{name}_{output}"

    if "divided" in form or "multiplied" in form:
        scale = step("Div", [x, "root"], "t") if "divided" in form else step("Mul", ["inverse", x], "t")
        return [scale, step("Erf", [of("t")], "f")], of("f")
    if "square" in form:
        nodes = [step("Mul", [x, x], "2"), step("Mul", [of("2"), "cubic"], "c"), step("Add", [of("c"), "one"], "p"),
                 step("Mul", [x, of("p")], "s")]  # fmt: skip
    else:
        cube = [step("Pow", [x, "three"], "3")]
        if "products" in form:
            cube = [step("Mul", [x, x], "2"), step("Mul", [of("2"), x], "3")]
        nodes = [*cube, step("Mul", ["cubic", of("3")], "c"), step("Add", [x, of("c")], "s")]
    return [*nodes, step("Mul", [of("s"), "outer_scale"], "t"), step("Tanh", [of("t")], "f")], of("f")


def spelled(form: str, x: str, y: str, name: str) -> list[NodeProto]:
    """Return the nodes of a GELU as exporters write it: around Erf or Tanh, and which of the products comes first."""
    first, core = core_of(form or "divided", x, name)
    nodes = [*first, node("Add", [core, "one"], [f"{name}_sum"], name=f"{name}_plus")]
    factors = {
        "half first": ([x, "half"], f"{name}_sum"),
        "half of the sum": (["half", f"{name}_sum"], x),
    }.get(form.partition(",")[0], ([x, f"{name}_sum"], "half"))
    return [
        *nodes,
        node("Mul", factors[0], [f"{name}_product"], name=f"{name}_times"),
        node("Mul", [f"{name}_product", factors[1]], [y], name=name),
    ]


def perceptron(form: str) -> bytes:
    """Return a product, a GELU and a product."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="inner"),
        *spelled(form, "h", "g", "gelu"),
        node("MatMul", ["g", "v"], ["y"], name="outer"),
    ]
    used = {name for each in nodes for name in each.input}
    constants = {name: np.asarray(value) for name, value in CONSTANTS.items() if name in used}
    return model(nodes, {"w": normal(16, 64, scale=0.25), "v": normal(64, 16), **constants}, {"x": ["N", 6, 16]},
                 {"y": ["N", 6, 16]})  # fmt: skip


def alone(place: str) -> bytes:
    """Return a network with an Erf that belongs to no GELU."""
    nodes = [node("MatMul", ["x", "w"], ["h"], name="first"), node("Erf", ["h"], ["e"], name="error")]
    last = {
        "in front of a product": [node("MatMul", ["e", "v"], ["y"], name="second")],
        "at the end": [node("Identity", ["e"], ["y"], name="end")],
        "in front of a sum": [node("Add", ["e", "h"], ["y"], name="sum")],
        "in front of a function": [node("Softplus", ["e"], ["y"], name="plus")],
    }[place]
    constants = {"w": normal(16, 16, scale=0.25)} | ({"v": normal(16, 16)} if "product" in place else {})
    return model([*nodes, *last], constants, {"x": ["N", 6, 16]}, {"y": ["N", 6, 16]})


def tables(quantised: Quantised) -> int:
    """Return how many tables the machine has."""
    return sum(isinstance(each.operator, TableLookup) for each in quantised.loaded.bind().graph.nodes)


@pytest.mark.parametrize("form", few(FORMS, FORMS[::4]))
@pytest.mark.parametrize("scheme", few(["int8-per-channel", "w8a16", "uint8", "w4a8"], 2))
def test_a_gelu_is_one_table(form: str, scheme: str) -> None:
    """Every spelling gives the one layer that the operator Gelu gives, exactly; nothing of it is in float."""
    quantised = near(perceptron(form), ROWS, scheme, 10 if scheme == "w4a8" else 25)
    assert quantised.float_layers == ()
    assert tables(quantised) == 1
    kinds = [each.kind for each in quantised.loaded.bind().graph.nodes]
    assert sorted(kinds) == ["DequantizeLinear", "Gelu", *kinds_of_products(kinds), "QuantizeLinear"]


def kinds_of_products(kinds: list[str]) -> list[str]:
    """Return the two products among operators, whatever onnxruntime calls them."""
    found = [kind for kind in kinds if "MatMul" in kind]
    assert len(found) == 2
    return sorted(found)


@pytest.mark.parametrize("change", ["one", "half", "root", "cubic", "read"])
def test_what_is_nearly_a_gelu_is_none(change: str) -> None:
    """Other constants give another function, and steps that something else reads stay for it."""
    form = "half last, cube by power" if change == "cubic" else "half last, divided"
    nodes = [*spelled(form, "h", "g", "gelu"), node("MatMul", ["g", "v"], ["y"], name="outer")]
    nodes.insert(0, node("MatMul", ["x", "w"], ["h"], name="inner"))
    constants = {"w": normal(16, 64, scale=0.25), "v": normal(64, 16)}
    constants |= {name: np.asarray(value) for name, value in CONSTANTS.items()}
    outputs = {"y": ["N", 6, 16]} | ({"gelu_f": ["N", 6, 64]} if change == "read" else {})
    if change != "read":
        constants[change] = np.asarray(constants[change] * np.float32(1.01))
    used = {name for each in nodes for name in each.input}
    constants = {name: value for name, value in constants.items() if name in used}
    data = model(nodes, constants, {"x": ["N", 6, 16]}, outputs)
    kinds = [each.op_type for each in quantize(data, "w4a8", ROWS).model.proto.graph.node]
    assert ("Gelu" in kinds) == (change == "read")
    assert "Tanh" in kinds if change == "cubic" else "Erf" in kinds
    near(data, ROWS, "int8-per-channel")


@pytest.mark.parametrize(
    "place", ["in front of a product", "at the end", "in front of a sum", "in front of a function"]
)
@pytest.mark.parametrize("scheme", few(["int8-per-channel", "w8a16", "int8-symmetric", "uint8", "w4a8"], 2))
def test_an_erf_by_itself_is_a_table(place: str, scheme: str) -> None:
    """It stands between quantisers, whatever follows."""
    quantised = near(alone(place), ROWS, scheme, 10 if scheme == "w4a8" else 25)
    assert "Erf" not in {kind for _, kind in quantised.float_layers}
    assert tables(quantised) >= 1


def test_an_erf_that_is_to_stay_in_float_does() -> None:
    """By its name and by its kind."""
    for name in ("error", "Erf"):
        quantised = quantize(alone("in front of a function"), f"int8-per-channel+keep_float={name}", ROWS)
        assert [kind for _, kind in quantised.float_layers] == ["Erf", "Softplus"]


def test_files_that_cannot_be_converted_keep_their_operator_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain is then quantised step by step, its Erf as a table."""
    real = source._converted

    def old_only(proto: ModelProto, name: str, opset: int) -> ModelProto:
        if opset >= 20:
            raise UnsupportedModelError("there is no adapter")
        return real(proto, name, opset)

    monkeypatch.setattr(source, "_converted", old_only)
    quantised = near(perceptron("half last, divided"), ROWS, "int8-per-channel")
    assert source.opset_of(quantised.emission.proto) < 20
    assert "Erf" not in {kind for _, kind in quantised.float_layers}
    assert tables(quantised) == 1


def decomposed(name: str) -> bytes:
    """Return one of our networks in operator set 17, its GELUs as chains around Erf."""
    proto = ModelProto.FromString(own_model(name))
    for entry in proto.opset_import:
        entry.version = 17 if entry.domain == "" else entry.version
    nodes = [
        part
        for each in proto.graph.node
        for part in (spelled("", each.input[0], each.output[0], each.name) if each.op_type == "Gelu" else [each])
    ]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in CONSTANTS.items())
    return bytes(proto.SerializeToString())


@deep
def test_the_spelling_of_a_network_does_not_matter() -> None:
    """Bert from an exporter without Gelu: the same quality, the same layers, the same cycles."""
    plain, chains = (
        quantize(data, "int8-per-channel") for data in ("models:bert-tiny-float", decomposed("bert-tiny-float"))
    )
    assert [kind for _, kind in plain.float_layers] == [kind for _, kind in chains.float_layers]
    ratios = [compare_three(each).machine.sqnr_db for each in (plain, chains)]
    assert ratios[0] == pytest.approx(ratios[1], abs=0.1)
    first, second = (accelsim.run(each.loaded, values=False).cycles for each in (plain, chains))
    assert first == second
