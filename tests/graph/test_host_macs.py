"""Multiply-accumulates of operators outside of the array, counted again from their definitions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import FunctionProto, NodeProto, TensorProto, defs, helper

import accelsim
from accelsim.graph.context import Context
from accelsim.graph.importers.host_macs import host_macs
from accelsim.graph.importers.without_macs import WITHOUT_MACS
from accelsim.operators.tensors import TensorType
from accelsim.reference.session import open_session
from tests.cli.harness import lines_of
from tests.strategies import Builder, Draw

MICROSOFT = "com.microsoft"
Shapes = Sequence[Sequence[int] | None]


def counted(
    kind: str, inputs: Shapes, output: Sequence[int] = (), domain: str = "", opset: int = 23, **attributes: Any
) -> int | None:
    """Return what is counted for a node whose inputs have these shapes (None: absent)."""
    names = ["" if shape is None else f"i{number}" for number, shape in enumerate(inputs)]
    node = helper.make_node(kind, names, ["out"], domain=domain, **attributes)
    types = {name: TensorType.of(np.float32, shape) for name, shape in zip(names, inputs, strict=True) if shape}
    types["out"] = TensorType.of(np.float32, output)
    graph = helper.make_graph([node], "g", [], [])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return host_macs(Context.build(proto, types, {}), node)


def steps(operands: str, **sizes: int) -> int:
    """Count the innermost statements of the loops that define a product: one per combination of all indices."""
    indices = sorted(set(operands.replace(",", "")))
    return sum(1 for _ in itertools.product(*(range(sizes[index]) for index in indices)))


def standard(shapes: Mapping[str, Sequence[int]], **attributes: Any) -> tuple[int | None, int]:
    """Count the standard Attention, and the MatMul nodes of the function that ONNX defines it by."""
    order = ("Q", "K", "V", "attn_mask", "past_key", "past_value")
    names = [name if name in shapes else "" for name in order]
    outputs = ["Y", "present_key", "present_value"] if "past_key" in shapes else ["Y"]
    node = helper.make_node("Attention", names, outputs, **attributes)
    kinds = [helper.make_tensor_type_proto(TensorProto.FLOAT, shapes[name]) for name in order if name in shapes]
    schema = defs.get_schema("Attention", 23, "")
    empty = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    by_name = dict(zip([name for name in order if name in shapes], kinds, strict=True))
    listed = [by_name.get(name, empty).SerializeToString() for name in names]
    while names and not names[-1]:
        names.pop()
        listed.pop()
    node = helper.make_node("Attention", names, outputs, **attributes)
    body = schema.get_context_dependent_function_with_opset_version(23, node.SerializeToString(), listed)
    function = FunctionProto.FromString(body)
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in order if name in shapes]
    products = [inner for inner in function.node if inner.op_type == "MatMul"]
    wanted = [name for inner in products for name in (inner.input[0], inner.output[0])]
    graph = helper.make_graph(
        list(function.node), "g", given, [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(wanted)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    session = open_session(model.SerializeToString())
    feeds = {value.name: np.zeros(shapes[value.name], np.float32) for value in given}
    found = dict(zip(dict.fromkeys(wanted), session.run(list(dict.fromkeys(wanted)), feeds), strict=True))
    expanded = sum(found[inner.output[0]].size * found[inner.input[0]].shape[-1] for inner in products)
    inputs = [shapes.get(name) for name in names]
    return counted("Attention", inputs, (1,), **attributes), expanded


@pytest.mark.parametrize(
    ("shapes", "attributes"),
    [
        ({"Q": (2, 3, 5, 8), "K": (2, 3, 7, 8), "V": (2, 3, 7, 6)}, {}),
        ({"Q": (1, 6, 5, 4), "K": (1, 2, 7, 4), "V": (1, 2, 7, 4)}, {}),
        ({"Q": (2, 5, 24), "K": (2, 7, 24), "V": (2, 7, 12)}, {"q_num_heads": 3, "kv_num_heads": 3}),
        ({"Q": (1, 5, 24), "K": (1, 5, 8), "V": (1, 5, 8)}, {"q_num_heads": 6, "kv_num_heads": 2, "is_causal": 1}),
        (
            {"Q": (1, 2, 3, 4), "K": (1, 2, 3, 4), "V": (1, 2, 3, 6), "past_key": (1, 2, 9, 4),
             "past_value": (1, 2, 9, 6)},
            {},
        ),
    ],
)  # fmt: skip
def test_standard_attention_is_its_function_body(shapes: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Every form of ai.onnx Attention: as many as the MatMul nodes that ONNX expands it into."""
    found, expanded = standard(shapes, **attributes)
    assert found == expanded > 0


def test_attention_before_opset_23_is_unknown() -> None:
    """The standard domain had no such operator."""
    assert counted("Attention", [(1, 2, 3, 4)] * 3, (1, 2, 3, 4), opset=22) is None


PROJECTION = steps("bsd,dn", b=2, s=5, d=12, n=36)


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes", "expected"),
    [
        ("Attention", [(2, 5, 12), (12, 36)], {"num_heads": 3},
         PROJECTION + 2 * steps("bhsd,bhtd", b=2, h=3, s=5, t=5, d=4)),
        ("Attention", [(2, 5, 12), (12, 36), None, None, (2, 2, 3, 6, 4)], {"num_heads": 3},
         PROJECTION + 2 * steps("bhsd,bhtd", b=2, h=3, s=5, t=11, d=4)),
        ("Attention", [(2, 5, 12), (12, 18)], {"num_heads": 3, "qkv_hidden_sizes": [6, 6, 6]},
         steps("bsd,dn", b=2, s=5, d=12, n=18) + 2 * steps("bhsd,bhtd", b=2, h=3, s=5, t=5, d=2)),
        ("Attention", [(2, 5, 12), (12, 24)], {"num_heads": 3, "qkv_hidden_sizes": [6, 6, 12]},
         steps("bsd,dn", b=2, s=5, d=12, n=24) + steps("bhsd,bhtd", b=2, h=3, s=5, t=5, d=2)
         + steps("bhst,bhtd", b=2, h=3, s=5, t=5, d=4)),
        ("QAttention", [(2, 5, 12), (12, 36), (36,), (1,), (1,), None, (1,), (1,)], {"num_heads": 3},
         PROJECTION + 2 * steps("bhsd,bhtd", b=2, h=3, s=5, t=5, d=4)),
        ("QAttention", [(2, 5, 12), (12, 36), (36,), (1,), (1,), None, (1,), (1,), (2, 2, 3, 2, 4)], {"num_heads": 3},
         PROJECTION + 2 * steps("bhsd,bhtd", b=2, h=3, s=5, t=7, d=4)),
        ("MultiHeadAttention", [(2, 5, 12), (2, 7, 12), (2, 7, 18)], {"num_heads": 3},
         steps("bhsd,bhtd", b=2, h=3, s=5, t=7, d=4) + steps("bhst,bhtd", b=2, h=3, s=5, t=7, d=6)),
        ("MultiHeadAttention", [(2, 5, 3, 3, 4)], {"num_heads": 3}, 2 * steps("bhsd,bhtd", b=2, h=3, s=5, t=5, d=4)),
        ("MultiHeadAttention", [(2, 5, 12), (2, 7, 3, 2, 4)], {"num_heads": 3},
         2 * steps("bhsd,bhtd", b=2, h=3, s=5, t=7, d=4)),
        ("MultiHeadAttention", [(2, 5, 12), (2, 3, 7, 4), (2, 3, 7, 4)], {"num_heads": 3},
         2 * steps("bhsd,bhtd", b=2, h=3, s=5, t=7, d=4)),
        ("MultiHeadAttention",
         [(2, 1, 12), (2, 1, 12), (2, 1, 12), None, None, None, (2, 3, 8, 4), (2, 3, 8, 4)], {"num_heads": 3},
         2 * steps("bhsd,bhtd", b=2, h=3, s=1, t=9, d=4)),
        ("GroupQueryAttention", [(2, 1, 24), (2, 1, 8), (2, 1, 8), (2, 2, 9, 4), (2, 2, 9, 4), (2,), (1,)],
         {"num_heads": 6, "kv_num_heads": 2}, 2 * steps("bhsd,bhtd", b=2, h=6, s=1, t=10, d=4)),
        ("GroupQueryAttention", [(2, 3, 40), None, None, (2, 2, 9, 4), (2, 2, 9, 4), (2,), (1,)],
         {"num_heads": 6, "kv_num_heads": 2}, 2 * steps("bhsd,bhtd", b=2, h=6, s=3, t=12, d=4)),
        ("DecoderMaskedSelfAttention", [(2, 1, 12), (12, 36), None, None, (2, 2, 3, 8, 4), None, (1,)],
         {"num_heads": 3, "past_present_share_buffer": 0},
         steps("bsd,dn", b=2, s=1, d=12, n=36) + 2 * steps("bhsd,bhtd", b=2, h=3, s=1, t=8, d=4)),
        ("DecoderMaskedMultiHeadAttention",
         [(2, 1, 12), (2, 1, 12), (2, 1, 12), None, None, (2, 3, 8, 4), (2, 3, 8, 4)], {"num_heads": 3},
         2 * steps("bhsd,bhtd", b=2, h=3, s=1, t=8, d=4)),
        ("DecoderMaskedMultiHeadAttention", [(2, 1, 12), (2, 3, 7, 4), (2, 3, 7, 4)], {"num_heads": 3},
         2 * steps("bhsd,bhtd", b=2, h=3, s=1, t=7, d=4)),
    ],
)  # fmt: skip
def test_macs_of_contributed_attention_are_those_of_its_loops(
    kind: str, inputs: Shapes, attributes: Mapping[str, Any], expected: int
) -> None:
    """Projection, scores and their product with the values, each by the loops that define it."""
    assert counted(kind, inputs, (1,), MICROSOFT, **attributes) == expected


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_macs_of_recurrent_nodes_count_steps_directions_and_gates(kind: str, gates: int, directions: int) -> None:
    """Per step, direction, gate and unit: one row of the input and one of the state."""
    shapes = [(6, 2, 5), (directions, gates * 3, 5), (directions, gates * 3, 3)]
    loops = steps("tbdghi", t=6, b=2, d=directions, g=gates, h=3, i=5)
    loops += steps("tbdghj", t=6, b=2, d=directions, g=gates, h=3, j=3)
    assert counted(kind, shapes, (6, directions, 2, 3), hidden_size=3) == loops
    if kind == "LSTM":
        turned = [(6, 2, 5), (directions, 5, 12), (directions, 3, 12)]
        assert counted("DynamicQuantizeLSTM", turned, (1,), MICROSOFT, hidden_size=3) == loops


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)], steps("bijk", b=2, i=3, j=4, k=5)),
        ("bij,bjk", [(2, 3, 4), (2, 4, 5)], steps("bijk", b=2, i=3, j=4, k=5)),
        ("...ij,...jk->...ik", [(2, 6, 3, 4), (2, 6, 4, 5)], 12 * steps("ijk", i=3, j=4, k=5)),
        ("ij,ij->ij", [(3, 4), (3, 4)], 0),
        ("ij->ji", [(3, 4)], 0),
        ("ij,jk,kl->il", [(3, 4), (4, 5), (5, 6)], steps("ijk", i=3, j=4, k=5) + steps("ikl", i=3, k=5, l=6)),
        ("bhid,bhjd->bhij", [(2, 3, 4, 8), (2, 3, 5, 8)], steps("bhijd", b=2, h=3, i=4, j=5, d=8)),
    ],
)
def test_macs_of_einsum_are_those_of_its_contracted_pairs(equation: str, shapes: Shapes, expected: int) -> None:
    """One per combination of the indices of each pair that contracts some; elementwise products are none."""
    assert counted("Einsum", shapes, (1,), equation=equation) == expected


def windows(x: Sequence[int], w: Sequence[int], y: Sequence[int]) -> int:
    """Loops of a convolution: every output, every channel of its group, every tap."""
    return steps("bmhwcij", b=y[0], m=y[1], h=y[2], w=y[3], c=w[1], i=w[2], j=w[3])


def test_macs_of_convolutions_are_outputs_times_filter_weights() -> None:
    """Channels first or last, quantised or fused: outputs times the weights of a filter."""
    x, w, y = (1, 4, 6, 6), (8, 2, 3, 3), (1, 8, 4, 4)
    expected = windows(x, w, y)
    last = (1, 4, 4, 8)
    quantised = [x, (1,), (1,), w, (1,), (1,), (1,), (1,)]
    assert counted("Conv", [x, w], y, group=2) == expected
    assert counted("ConvInteger", [x, w], y, group=2) == expected
    assert counted("QLinearConv", quantised, y, group=2) == expected
    assert counted("FusedConv", [x, w], y, MICROSOFT, group=2) == expected
    assert counted("QLinearConv", quantised, last, MICROSOFT, group=2, channels_last=1) == expected
    assert counted("NhwcFusedConv", [(1, 6, 6, 4), w], last, MICROSOFT, group=2) == expected
    assert counted("Conv", [x, w], y, "com.microsoft.nchwc", group=2) == expected
    assert counted("DeformConv", [x, w, (1, 18, 4, 4)], y, group=2) == expected
    spread = steps("bcijmhw", b=1, c=4, i=6, j=6, m=5, h=3, w=3)
    assert counted("ConvTranspose", [x, (4, 5, 3, 3)], (1, 5, 8, 8)) == spread


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "domain", "attributes", "expected"),
    [
        ("MatMul", [(2, 3, 4), (4, 5)], (2, 3, 5), "", {}, steps("bijk", b=2, i=3, j=5, k=4)),
        ("MatMul", [(4,), (4,)], (), "", {}, 4),
        ("Gemm", [(4, 3), (4, 5)], (3, 5), "", {"transA": 1}, steps("ijk", i=3, j=5, k=4)),
        ("FusedMatMul", [(2, 4, 3), (2, 4, 5)], (2, 3, 5), MICROSOFT, {"transA": 1},
         steps("bijk", b=2, i=3, j=5, k=4)),
        ("FusedMatMul", [(3, 2, 4), (2, 4, 5)], (2, 3, 5), MICROSOFT, {"transBatchA": 1},
         steps("bijk", b=2, i=3, j=5, k=4)),
        ("FusedMatMul", [(4, 2, 3), (2, 4, 5)], (2, 3, 5), MICROSOFT, {"transA": 1, "transBatchA": 1},
         steps("bijk", b=2, i=3, j=5, k=4)),
        ("QGemm", [(3, 4), (1,), (1,), (4, 5)], (3, 5), MICROSOFT, {}, steps("ijk", i=3, j=5, k=4)),
        ("QLinearMatMul", [(3, 4), (1,), (1,), (4, 5)], (3, 5), "", {}, steps("ijk", i=3, j=5, k=4)),
        ("MatMulNBits", [(3, 32), (5, 1, 16), (5,)], (3, 5), MICROSOFT, {"K": 32, "N": 5, "bits": 4, "block_size": 32},
         steps("ijk", i=3, j=5, k=32)),
        ("MatMulBnb4", [(3, 32), (80,), (5,)], (3, 5), MICROSOFT, {"K": 32, "N": 5, "block_size": 32},
         steps("ijk", i=3, j=5, k=32)),
        ("DynamicQuantizeMatMul", [(3, 4), (4, 5), (5,)], (3, 5), MICROSOFT, {}, steps("ijk", i=3, j=5, k=4)),
        ("MatMulIntegerToFloat", [(3, 4), (4, 5), (1,), (1,)], (3, 5), MICROSOFT, {}, steps("ijk", i=3, j=5, k=4)),
    ],
)  # fmt: skip
def test_macs_of_products_are_rows_times_columns_times_depth(
    kind: str, inputs: Shapes, output: Sequence[int], domain: str, attributes: Mapping[str, Any], expected: int
) -> None:
    """Rows, columns and depth, wherever the attributes put them."""
    assert counted(kind, inputs, output, domain, **attributes) == expected


@pytest.mark.parametrize(
    ("kind", "domain"),
    [("DFT", ""), ("STFT", ""), ("GridSample", ""), ("QMoE", MICROSOFT), ("MoE", MICROSOFT),
     ("SparseAttention", MICROSOFT), ("CausalConvWithState", MICROSOFT), ("NewestOperator", MICROSOFT),
     ("MatMul", "org.example")],
)  # fmt: skip
def test_what_nobody_counts_is_unknown(kind: str, domain: str) -> None:
    """Unknown is None, and not none."""
    assert counted(kind, [(1, 2, 3)], (1, 2, 3), domain) is None


def test_elementwise_operators_have_none() -> None:
    """The table says 0; nothing that contracts is in it."""
    assert counted("Softmax", [(3, 4)], (3, 4)) == 0
    assert counted("SkipLayerNormalization", [(3, 4)], (3, 4), MICROSOFT) == 0
    contracting = ("MatMul", "Conv", "Attention", "LSTM", "Einsum", "DFT", "GridSample", "MoE")
    assert not {name for _, name in WITHOUT_MACS} & set(contracting)


def dft_model() -> tuple[bytes, dict[str, Any]]:
    """Build an integer product with a DFT behind it."""
    build = Builder(Draw((90_210,), ties=False))
    rng = np.random.default_rng(1)
    product = build.node("MatMulInteger", [build.input(rng.integers(0, 255, (4, 8)).astype(np.uint8)),
                                           build.constant(rng.integers(-9, 9, (8, 6)).astype(np.int8))])  # fmt: skip
    real = build.node("Cast", [product], to=TensorProto.FLOAT)
    wide = build.node("Unsqueeze", [real, build.constant(np.array([2]))])
    none, axis = "", build.constant(np.array(1))
    build.output(build.node("DFT", [wide, none, axis]), np.float32)
    case = build.case()
    return case.model, dict(case.inputs)


def test_no_share_is_printed_where_something_is_not_counted() -> None:
    """The line names the operator; the result has no share; the file keeps it so."""
    model, inputs = dft_model()
    result = accelsim.run(accelsim.load(model), None, inputs)
    assert result.macs_on_array_share is None
    assert result.uncounted_operators == {"DFT": 1}
    text = " ".join(lines_of(result))
    assert "MACs of DFT are not counted" in text
    assert "%" not in text.split("MACs of DFT")[1]
    row = next(layer for layer in result.to_dict()["layers"] if layer["op"] == "DFT")
    assert (row["off_array_macs"], row["macs_counted"]) == (0, False)


def test_nodes_are_spelled_with_either_name_of_the_standard_domain() -> None:
    """ai.onnx and the empty domain are one."""
    node: NodeProto = helper.make_node("MatMul", ["a", "b"], ["out"], domain="ai.onnx")
    types = {name: TensorType.of(np.float32, (2, 2)) for name in ("a", "b", "out")}
    proto = helper.make_model(helper.make_graph([node], "g", [], []))
    assert host_macs(Context.build(proto, types, {}), node) == 8
