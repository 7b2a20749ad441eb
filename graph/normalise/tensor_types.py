"""Types of all tensors of an optimised graph, once the sizes of a run are known: inferred, folded, or observed.

onnxruntime optimises the user's file with its dynamic dimensions open, so that the nodes that compute shapes are still
in the graph. With the sizes of a run they are constants: each is evaluated once, and onnxruntime infers again. What is
unknown then, one run of the reference on the run's own inputs shows. Whether it depends on data (NonZero), the graph
says, or a run on other data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from accelsim.errors import UnsupportedModelError, printable
from accelsim.graph.load.limits import Limits
from accelsim.graph.load.loader import Weights
from accelsim.graph.normalise.binding import Shapes, with_input_shapes
from accelsim.graph.normalise.data_shapes import shapes_by_data
from accelsim.graph.normalise.empty_tensors import refuse_fatal
from accelsim.graph.normalise.inference import scalars
from accelsim.graph.normalise.reference import Reference
from accelsim.graph.normalise.sessions import ExposedSession, expose
from accelsim.operators.tensors import TensorType
from accelsim.reference.session import open_session, run_session

Array = NDArray[np.generic]
Feeds = Callable[[], Mapping[str, Array]]

ORT_DTYPES: dict[str, str] = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(uint8)": "uint8",
    "tensor(int8)": "int8", "tensor(uint16)": "uint16", "tensor(int16)": "int16", "tensor(int32)": "int32",
    "tensor(uint32)": "uint32", "tensor(int64)": "int64", "tensor(uint64)": "uint64", "tensor(bool)": "bool",
    "tensor(int4)": "int4", "tensor(uint4)": "uint4", "tensor(int2)": "int2", "tensor(uint2)": "uint2",
}  # fmt: skip


# onnxruntime infers the caches that these give as large as those that they are given.
_CACHING = frozenset({"GroupQueryAttention", "DecoderMaskedMultiHeadAttention", "DecoderMaskedSelfAttention"})


@dataclass(frozen=True, eq=False)
class FoundTypes:
    """An optimised graph for the sizes of one run."""

    proto: ModelProto
    """Without the nodes that only compute shapes."""
    inputs: Mapping[str, TensorType]
    """Types of its inputs."""
    types: Mapping[str, TensorType]
    """Of what its nodes produce."""
    exposed: ExposedSession
    """Onnxruntime on it, every tensor an output."""
    by_data: tuple[str, ...]
    """Tensors whose shapes depend on data."""


def find_types(
    proto: ModelProto,
    weights: Weights,
    shapes: Shapes,
    name: str,
    reference: Reference,
    limits: Limits,
    feeds: Feeds | None = None,
) -> FoundTypes:
    """Bind the inputs of an optimised graph, fold the shapes that follow from them, and find all types.

    Args:
        proto: the graph that onnxruntime wrote, large constants declared as external.
        weights: data of those constants.
        shapes: shape of every input.
        name: of the model, for messages.
        reference: the reference configuration.
        limits: budgets for the tensors found.
        feeds: gives the inputs of the run; None takes zeros.

    Raises:
        UnsupportedModelError: a tensor's element type is not executed, or a run would end the process.
        ResourceLimitError: a tensor is too large.
    """
    graph = with_input_shapes(proto, shapes)
    while True:
        exposed = ExposedSession(expose(graph), weights, name, reference)
        inputs = {value.name: _type_of(value, limits) for value in exposed.session.get_inputs()}
        values = {value.name: value for value in exposed.session.get_outputs()}
        known = {label: _type_of(value, limits) for label, value in _static(values, graph)}
        folded = _fold_shapes(graph, {**inputs, **known})
        if not folded:
            break
        graph = _without(graph, folded)
    refuse_fatal(graph.graph.node, {**inputs, **known})
    # The optimiser off leaves shapes unknown that constants decide; ceil_mode may be inferred one window too large.
    literal = not reference.optimised or _rounds_up(graph)
    doubted = _behind_caches(graph)
    missing = [label for label in values if literal or label not in known or label in doubted]
    observed: dict[str, TensorType] = {}
    if missing:
        try:
            observed = _observed_types(exposed.session, missing, inputs, limits, feeds)
        except UnsupportedModelError:  # inputs that were drawn may contradict each other, as lengths of caches do
            if any(label not in known for label in missing):
                raise
            observed = known
    late = [label for label in missing if observed[label].shape and known.get(label) != observed[label]]
    by_data: set[str] = set()
    if reference.optimised:
        by_data = shapes_by_data(graph, late) | (doubted & set(missing if observed is known else late))
        others = [label for label in late if label not in by_data]
        if others:
            by_data |= _varying(exposed.session, others, observed, _zeros(inputs) if feeds is None else feeds())
    exposed.close()
    types = {label: observed.get(label) or known[label] for label in values}
    return FoundTypes(graph, inputs, types, exposed, tuple(label for label in missing if label in by_data))


def _static(values: Mapping[str, Any], graph: ModelProto) -> Iterator[tuple[str, Any]]:
    """Yield the tensors whose shapes were inferred; a session shows those of unknown rank as scalars."""
    certain = set() if all(value.shape for value in values.values()) else scalars(graph)
    for label, value in values.items():
        if all(isinstance(dimension, int) for dimension in value.shape) and (value.shape or label in certain):
            yield label, value


def _fold_shapes(proto: ModelProto, types: Mapping[str, TensorType]) -> dict[str, Array]:
    """Return the values that follow from the shapes of tensors alone, by name, as far as types are known."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    values: dict[str, Array] = {}
    for node in proto.graph.node:
        source = next(iter(node.input), "")
        if node.op_type in ("Shape", "Size") and source in types:
            values[node.output[0]] = _shape_value(node, types[source])
        elif any(name in values for name in node.input) and all(
            not name or name in values or name in constants for name in node.input
        ):
            values.update(_evaluate(proto, node, values))
    return values


def _shape_value(node: NodeProto, kind: TensorType) -> Array:
    """Return what Shape or Size gives."""
    if node.op_type == "Size":
        return np.array(kind.elements, np.int64)
    limits = {attribute.name: int(attribute.i) for attribute in node.attribute}
    return np.array(kind.shape[limits.get("start", 0) : limits.get("end", len(kind.shape))], np.int64)


def _evaluate(proto: ModelProto, node: NodeProto, values: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Yield the outputs of a node whose inputs are all known."""
    names = list(dict.fromkeys(name for name in node.input if name))
    constants = [tensor for tensor in proto.graph.initializer if tensor.name in names]
    constants += [numpy_helper.from_array(np.asarray(values[name]), name) for name in names if name in values]
    outputs = [name for name in node.output if name]
    graph = helper.make_graph([node], "fold", [], [helper.make_empty_tensor_value_info(n) for n in outputs], constants)
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=min(proto.ir_version, 10))
    yield from zip(outputs, run_session(open_session(model.SerializeToString()), outputs, {}), strict=True)


def _without(proto: ModelProto, values: Mapping[str, Array]) -> ModelProto:
    """Return the graph with constants in place of the nodes that compute them."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    kept = [node for node in copy.graph.node if not any(name in values for name in node.output if name)]
    read = {name for node in kept for name in node.input} | {value.name for value in copy.graph.output}
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    copy.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        for name, array in values.items()
        if name in read
    )
    return copy


def _behind_caches(proto: ModelProto) -> set[str]:
    """Return the tensors whose inferred shapes rest on a cache that grows by as much as an input says."""
    found: set[str] = set()
    for node in proto.graph.node:
        if node.op_type in _CACHING or any(name in found for name in node.input):
            found.update(name for name in node.output if name)
    return found


def _rounds_up(proto: ModelProto) -> bool:
    """Tell whether the output of a pool may be inferred otherwise than onnxruntime computes it.

    With ceil_mode onnx's shape inference may give one window too many, with auto_pad it takes no notice of dilations.
    """
    return any(
        (attribute.name == "ceil_mode" and attribute.i) or (attribute.name == "auto_pad" and "Pool" in node.op_type)
        for node in proto.graph.node
        for attribute in node.attribute
    )


def _observed_types(
    session: Any, names: list[str], declared: Mapping[str, TensorType], limits: Limits, feeds: Feeds | None
) -> dict[str, TensorType]:
    """Return the types of some tensors as one run shows them."""
    arrays = run_session(session, names, _zeros(declared) if feeds is None else feeds())
    for name, array in zip(names, arrays, strict=True):
        limits.check_shape(name, array.shape)
    return {name: TensorType.of(array.dtype, array.shape) for name, array in zip(names, arrays, strict=True)}


def _varying(
    session: Any, names: list[str], observed: Mapping[str, TensorType], feeds: Mapping[str, Array]
) -> set[str]:
    """Return the tensors that one more run, on other data, shows with other shapes; all of them where it fails."""
    other = {name: np.zeros_like(array) if array.any() else np.ones_like(array) for name, array in feeds.items()}
    try:
        arrays = run_session(session, names, other)
    except UnsupportedModelError:
        return set(names)
    return {name for name, array in zip(names, arrays, strict=True) if array.shape != observed[name].shape}


def _zeros(declared: Mapping[str, TensorType]) -> dict[str, Array]:
    """Return inputs of zeros."""
    return {name: np.zeros(kind.shape, kind.dtype) for name, kind in declared.items()}


def _type_of(value: Any, limits: Limits) -> TensorType:
    """Read the type that onnxruntime inferred for a tensor."""
    if value.type not in ORT_DTYPES:
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        remedy = "export it as float32 or float16" if value.type.startswith("tensor(") else "use dense tensors"
        raise UnsupportedModelError(
            f"tensor '{printable(value.name)}' has the type {kind}, which is not executed: {remedy}"
        )
    limits.check_shape(value.name, value.shape)
    return TensorType.of(np.dtype(ORT_DTYPES[value.type]), value.shape)
