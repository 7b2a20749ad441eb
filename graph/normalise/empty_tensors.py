"""Tensors without elements that end the process of the reference, so that it must not be run on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import NodeProto

from accelsim.errors import UnsupportedModelError, printable
from accelsim.graph.load.constraints import node_label
from accelsim.operators.tensors import TensorType

# Axes of the input of which one without elements aborts onnxruntime; with layout 1 the first two change places.
_FATAL_AXES = {"LSTM": (1,), "DynamicQuantizeLSTM": (1,), "GRU": (0, 1)}


def refuse_fatal(nodes: Iterable[NodeProto], types: Mapping[str, TensorType]) -> None:
    """Refuse what onnxruntime does not refuse but dies of: recurrent layers without samples or steps.

    Args:
        nodes: those of the graph that is about to run.
        types: of its tensors, as far as they are known.

    Raises:
        UnsupportedModelError: names the node and what it lacks.
    """
    for node in nodes:
        kind = types.get(next(iter(node.input), ""))
        axes = _FATAL_AXES.get(node.op_type, ())
        if kind is None or len(kind.shape) < 2:
            continue
        swapped = any(attribute.name == "layout" and attribute.i for attribute in node.attribute)
        for axis in axes:
            if not kind.shape[1 - axis if swapped else axis]:
                raise UnsupportedModelError(
                    f"{node.op_type} '{printable(node_label(node))}' gets no {('steps', 'samples')[axis]}, at which "
                    f"onnxruntime, the reference, ends the process: give at least one"
                )
