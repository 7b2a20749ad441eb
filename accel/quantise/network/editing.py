"""A Q/DQ graph under construction: who writes and reads what, constants by name, the order of the nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from accelsim.errors import UnsupportedModelError, printable

Floats = NDArray[np.float32]

INPUT_SUFFIX = "_QuantizeLinear_Input"  # what onnxruntime's quantiser calls an output in front of its quantiser


class GraphEditor:
    """A graph under construction: who writes what, and constants by name."""

    def __init__(self, proto: ModelProto) -> None:
        self.proto = proto
        self.graph = proto.graph
        self.sort()
        self.nodes = {node.name: node for node in self.graph.node}
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self.index()

    def index(self) -> None:
        """Note producers and consumers."""
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def sort(self) -> None:
        """Order the nodes so that every value is written before it is read, and otherwise as they are."""
        missing = {value for node in self.graph.node for value in node.output}
        waiting, ordered = list(self.graph.node), []
        while waiting:
            later: list[NodeProto] = []
            for node in waiting:
                if missing.isdisjoint(node.input):
                    ordered.append(node)
                    missing.difference_update(node.output)
                else:
                    later.append(node)
            if len(later) == len(waiting):
                raise UnsupportedModelError(
                    f"the quantisers of '{printable(waiting[0].name, 60)}' and others would feed each other, because "
                    f"of names that they share: rename the tensors of the model"
                )
            waiting = later
        copies = [NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del self.graph.node[:]
        self.graph.node.extend(copies)

    def array(self, name: str) -> NDArray[np.generic]:
        """Return a constant."""
        values: NDArray[np.generic] = numpy_helper.to_array(self.tensors[name])
        return values

    def put(self, tensor: TensorProto) -> None:
        """Add a constant, or replace the one of that name."""
        if tensor.name in self.tensors:
            self.tensors[tensor.name].CopyFrom(tensor)
        else:
            self.graph.initializer.append(tensor)
            self.tensors[tensor.name] = self.graph.initializer[-1]

    def scale_of(self, dequantised: str) -> Floats | None:
        """Return the scale of an activation behind a DequantizeLinear, None for a float one."""
        node = self.producers.get(dequantised)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        return np.asarray(self.array(node.input[1]), np.float32)

    def bits_of(self, dequantised: str, usual: int) -> int:
        """Return the width of the codes of an activation behind a DequantizeLinear; `usual` of a float one."""
        node = self.producers.get(dequantised)
        if node is None or node.op_type != "DequantizeLinear":
            return usual
        return int(8 * helper.tensor_dtype_to_np_dtype(self.tensors[node.input[2]].data_type).itemsize)

    def range_owners(self) -> dict[str, str]:
        """Tell whose range a tensor takes: in front of a Relu or Clip that alone reads it, the one behind.

        Values outside of that range are clamped anyway; with one scale the clamp costs nothing and rounds nothing.
        """
        owners: dict[str, str] = {}
        outputs = {value.name for value in self.graph.output}
        for node in self.graph.node:
            if node.op_type in ("Relu", "Clip"):
                dequantise = self.producers.get(node.input[0])
                quantise = None if dequantise is None else self.producers.get(dequantise.input[0])
                if quantise is None or quantise.op_type != "QuantizeLinear":
                    continue
                between = (*quantise.output, node.input[0])
                if outputs.isdisjoint(between) and all(len(self.readers[name]) == 1 for name in between):
                    owners[tensor_of(quantise.input[0])] = tensor_of(node.output[0])
        return owners

    def drop_unused(self) -> None:
        """Remove constants that nothing reads."""
        self.index()
        outputs = {value.name for value in self.graph.output}
        kept = [t for t in self.graph.initializer if t.name in self.readers or t.name in outputs]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}


def tensor_of(name: str) -> str:
    """Return the float model's name of a tensor in front of a quantiser."""
    return name.removesuffix(INPUT_SUFFIX)
