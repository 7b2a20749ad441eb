"""Whether MatMulNBits quantises its activations to int8, block by block, on this CPU: asked of onnxruntime itself.

Accuracy level 4 asks for it; a CPU, a width or a block size without such a kernel falls back to float32. Levels below 4
compute in float32 on every x86-64 CPU.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from accelsim.graph.context import attributes
from accelsim.reference.session import open_session

INT8_LEVEL = 4
_FLOAT_LEVEL = 1
_DEPTH, _COLUMNS = 512, 16


def asks_for_int8(node: NodeProto) -> bool:
    """Tell whether a MatMulNBits node asks for int8 activations."""
    return int(attributes(node).get("accuracy_level", 0)) == INT8_LEVEL


def multiply_in_float(proto: ModelProto, outputs: frozenset[str]) -> None:
    """Let some MatMulNBits of a graph compute in float32, whatever level they ask for.

    Args:
        proto: the graph, which is changed.
        outputs: of the nodes.
    """
    for node in proto.graph.node:
        if node.output[0] in outputs:
            kept = [attribute for attribute in node.attribute if attribute.name != "accuracy_level"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("accuracy_level", _FLOAT_LEVEL)])


def runs_in_int8(node: NodeProto, kind: str) -> bool:
    """Tell whether onnxruntime quantises the activations of a MatMulNBits node on this CPU.

    Args:
        node: the node.
        kind: type of its activations, "float32" or "float16".
    """
    attribute = attributes(node)
    zero_points = len(node.input) > 3 and bool(node.input[3])
    return asks_for_int8(node) and _differs(
        int(attribute.get("bits", 4)), int(attribute["block_size"]), zero_points, kind
    )


@cache
def _differs(bits: int, block: int, zero_points: bool, kind: str) -> bool:
    """Run one product at the level of int8 and at that of float32: they give the same bits where both are float32."""
    first, second = (_product(bits, block, zero_points, kind, level) for level in (_FLOAT_LEVEL, INT8_LEVEL))
    return not np.array_equal(first, second)


def _product(bits: int, block: int, zero_points: bool, kind: str, level: int) -> np.typing.NDArray[np.generic]:
    """Run one product of seeded operands at an accuracy level."""
    rng, blocks = np.random.default_rng(0), -(-_DEPTH // block)
    packed = [
        rng.integers(0, 256, (_COLUMNS, blocks, block * bits // 8)).astype(np.uint8),
        rng.uniform(0.01, 0.1, _COLUMNS * blocks).astype(kind),
        rng.integers(0, 256, _COLUMNS * -(-blocks * bits // 8)).astype(np.uint8),
    ][: 3 if zero_points else 2]
    constants = [numpy_helper.from_array(array, f"constant{number}") for number, array in enumerate(packed)]
    node = helper.make_node(
        "MatMulNBits", ["a", *(tensor.name for tensor in constants)], ["y"], domain="com.microsoft",
        K=_DEPTH, N=_COLUMNS, bits=bits, block_size=block, accuracy_level=level,
    )  # fmt: skip
    element = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[kind]
    ends = [
        helper.make_tensor_value_info(name, element, shape)
        for name, shape in (("a", [2, _DEPTH]), ("y", [2, _COLUMNS]))
    ]
    graph = helper.make_graph([node], "probe", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    session = open_session(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    result: np.typing.NDArray[np.generic] = session.run(None, {"a": rng.normal(size=(2, _DEPTH)).astype(kind)})[0]
    return result
