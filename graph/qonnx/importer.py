"""A QONNX graph to the integer graph: codes of few bits in memory, integer sums on the array, thresholds behind them.

The reference executes the file in float32. Here every quantised tensor is a tensor of codes with a decoding, a
contraction of codes and quantised weights is an integer one, and what stands between it and the next quantiser becomes
thresholds. Whatever does not fit runs on decoded floats, node by node, as in any other graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from accelsim.errors import InvalidModelError, printable
from accelsim.graph.context import Context, Imported
from accelsim.graph.importers.host import import_host
from accelsim.graph.importers.movement import VIEWS, import_transpose
from accelsim.graph.ir import Graph, Node, verify
from accelsim.graph.load.constraints import node_label
from accelsim.graph.normalise.normalise import NormalisedModel
from accelsim.graph.qonnx.chain import Follower
from accelsim.graph.qonnx.codes import MOVES, code_name, codes_of, move_codes
from accelsim.graph.qonnx.expand import ExpandedQuantiser
from accelsim.graph.qonnx.grid import Codes, ConstantGrid
from accelsim.graph.qonnx.import_sums import import_convolution, import_gemm, import_product
from accelsim.graph.qonnx.import_vector import as_sums, import_addition, import_average
from accelsim.graph.qonnx.sums import AllCodes, AllGrids, Summed, fuse
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import CodeFormat, HostOperator, Transpose
from accelsim.operators.tensors import TensorType
from accelsim.operators.thresholds import DequantiseUniform, QuantiseUniform
from accelsim.reference.host import run_host_operator

Array = NDArray[np.generic]
Importer = Callable[[Context, NodeProto], Imported]

SUMMED: dict[str, Callable[[Context, NodeProto, AllCodes, AllGrids], Summed]] = {
    "Conv": import_convolution,
    "MatMul": import_product,
    "Gemm": import_gemm,
    "Add": import_addition,
    "AveragePool": import_average,
    "GlobalAveragePool": import_average,
}

# Constant nodes that only rearrange; a quantised constant keeps its integers through them.
_REARRANGING = frozenset(VIEWS) | {"Transpose"}


def import_qonnx_graph(model: NormalisedModel, importers: Mapping[str, Importer]) -> Graph:
    """Turn the expanded graph of a QONNX model into a verified graph of machine operators.

    Args:
        model: the literal graph and its quantisers.
        importers: of single nodes that have nothing to do with QONNX.

    Raises:
        InvalidModelError: a quantiser's parameters change the shape of what it quantises.
        GraphError: the result contradicts onnxruntime's types.
    """
    plain = Context.build(model.proto, {**model.types, **model.inputs}, model.exposed.weights)
    for quantiser in model.quantisers:
        before, after = (plain.types[name].shape for name in (quantiser.source, quantiser.output))
        if before != after:
            raise InvalidModelError(
                f"{quantiser.operator} '{printable(quantiser.label)}' changes the shape of its input from "
                f"{list(before)} to {list(after)}, since its parameters are larger: export the model again"
            )
    builder = _Builder(model, plain, importers)
    for node in model.proto.graph.node:
        builder.take(node)
    return builder.graph()


@dataclass
class _Builder:
    """Walks the literal graph in its order and emits nodes of the integer graph.

    plain: constants are those of the file; known: constants are also those that only depend on them, which the
    reference computes while it runs.
    """

    model: NormalisedModel
    plain: Context
    importers: Mapping[str, Importer]
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._constants: dict[str, Array] = dict(self.plain.constants)
        self.known = replace(self.plain, constants=self._constants)
        self._grids: dict[str, ConstantGrid] = {}
        self._codes: dict[str, Codes] = {}
        self._floats = set(self.model.inputs)
        self._types: dict[str, TensorType] = dict(self.plain.types)
        self._outputs = tuple(value.name for value in self.model.proto.graph.output)
        self._quantisers = {quantiser.output: quantiser for quantiser in self.model.quantisers}
        self._skipped = {
            name for quantiser in self.model.quantisers if quantiser.quantiser.clips for name in quantiser.inside
        }
        self._follower = Follower(self.known, self.model.quantisers, self._readers(), self._outputs)

    def _readers(self) -> dict[str, list[NodeProto]]:
        readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.model.proto.graph.node:
            for name in dict.fromkeys(filter(None, node.input)):
                readers[name].append(node)
        return readers

    def take(self, node: NodeProto) -> None:
        """Import one node of the literal graph."""
        output = node.output[0]
        if output in self._skipped:
            return
        quantiser = self._quantisers.get(output)
        if quantiser is not None and quantiser.source in self._constants:
            self._take_constant_quantiser(quantiser)
        elif quantiser is not None and quantiser.quantiser.clips:
            if not self._take_stepped([quantiser.source], quantiser.label, quantiser.operator):
                self._take_quantiser(quantiser)
        elif node.op_type == "Shape" and not node.attribute:
            self._constants[output] = np.array(self.plain.types[node.input[0]].shape, np.int64)
        elif node.input and all(name in self._constants for name in node.input if name):
            self._fold(node)
        elif not self._take_fused(node) and not self._take_moved(node):
            self._take_plain(node)

    def _take_constant_quantiser(self, quantiser: ExpandedQuantiser) -> None:
        """Quantise a constant: weights and biases."""
        values = self._constants[quantiser.source]
        codes = quantiser.quantiser.codes(values)
        self._constants[quantiser.output] = quantiser.quantiser.values(codes)
        try:
            self._grids[quantiser.output] = ConstantGrid.of(quantiser.quantiser, values)
        except NotOnTheMachineError:
            return

    def _take_quantiser(self, quantiser: ExpandedQuantiser) -> None:
        """Quantise floats: at the border, and behind what runs in float."""
        uniform = quantiser.quantiser
        source = self._float(quantiser.source)
        shape = self.plain.types[quantiser.output].shape
        codes = codes_of(quantiser.output, uniform)
        operator = QuantiseUniform(uniform, CodeFormat(codes.decoding.dtype, 0, codes.limits, codes.bits))
        self._emit_codes(codes, shape)
        self.nodes.append(Node(quantiser.label, quantiser.operator, operator, (source,), (codes.name,)))

    def _fold(self, node: NodeProto) -> None:
        """Evaluate a node whose inputs are all known; rearranged weights keep their integers."""
        grid = self._grids.get(node.input[0])
        if grid is not None and node.op_type in _REARRANGING:
            self._grids[node.output[0]] = grid.moved(lambda array: self._rearranged(node, array))
        operator, names = import_host(self.plain, node).operator, list(filter(None, node.output))
        if isinstance(operator, HostOperator):
            values = run_host_operator(operator, [self._constants[name] for name in operator.inputs])
            self._constants.update(zip(names, values, strict=True))

    def _rearranged(self, node: NodeProto, array: Array) -> Array:
        """Move the elements of a constant as a node does."""
        operator = import_transpose(self.plain, node).operator if node.op_type == "Transpose" else None
        if isinstance(operator, Transpose):
            return array.transpose(operator.permutation)
        return array.reshape(self.plain.types[node.output[0]].shape)

    def _take_fused(self, node: NodeProto) -> bool:
        """Put a contraction, a sum or a pooling of codes on the machine, with the quantiser that follows it."""
        label = node_label(node)
        try:
            if node.op_type in SUMMED:
                source = SUMMED[node.op_type](self.known, node, self._codes, self._grids)
                return self._emit_fused(source, label, node.op_type)
        except NotOnTheMachineError:
            pass
        return self._take_stepped(node.input, label, node.op_type)

    def _take_stepped(self, names: Sequence[str], label: str, kind: str) -> bool:
        """Step from codes to codes, where a chain of functions begins that a quantiser ends."""
        source = next((self._codes[name] for name in names if name in self._codes), None)
        try:
            return source is not None and self._emit_fused(as_sums(self.known, source), label, kind)
        except NotOnTheMachineError:
            return False

    def _emit_fused(self, source: Summed, label: str, kind: str) -> bool:
        """Emit sums with what follows them.

        Raises:
            NotOnTheMachineError: nothing that the machine can do follows.
        """
        fused = fuse(source, self._follower)
        name = source.output
        if fused.codes is not None:
            self._skipped.update(fused.inside)
            self._emit_codes(fused.codes, self.plain.types[fused.codes.decoding.tensor].shape)
            name = fused.codes.name
        else:
            self._floats.add(name)
        exactness = "exact" if fused.exact else "float-reference"
        self.nodes.append(Node(label, kind, fused.operator, fused.inputs, (name,), exactness))
        return True

    def _take_moved(self, node: NodeProto) -> bool:
        """Move codes instead of floats: reshaping, pooling maxima and the like."""
        source = self._codes.get(node.input[0]) if node.input else None
        if node.op_type not in MOVES or source is None or not source.whole_tensor:
            return False
        try:
            operator = move_codes(self.known, node)
        except NotOnTheMachineError:
            return False
        names = []
        for output in node.output:
            decoding = replace(source.decoding, tensor=output)
            moved = replace(source, name=code_name(output), decoding=decoding)
            self._emit_codes(moved, self.plain.types[output].shape)
            names.append(moved.name)
        self.nodes.append(Node(node_label(node), node.op_type, operator, (source.name,), tuple(names)))
        return True

    def _take_plain(self, node: NodeProto) -> None:
        """Import a node that computes with floats, as the rest of the importer does."""
        try:
            imported = self.importers.get(node.op_type, import_host)(self.known, node)
        except (NotOnTheMachineError, KeyError):  # the latter: a constant that the file does not hold
            imported = import_host(self.plain, node)
        inputs = tuple(self._float(name) for name in imported.inputs)
        outputs = tuple(filter(None, node.output))
        self._floats.update(outputs)
        self.nodes.append(Node(node_label(node), node.op_type, imported.operator, inputs, outputs))

    def _float(self, name: str) -> str:
        """Return a tensor as floats, decoding its codes the first time."""
        codes = self._codes.get(name)
        if codes is not None and name not in self._floats:
            self._floats.add(name)
            operator = DequantiseUniform(codes.decoding.scale, codes.decoding.zero_point)
            self.nodes.append(Node(f"{name} decoded", "Dequantise", operator, (codes.name,), (name,)))
        return name

    def _emit_codes(self, codes: Codes, shape: tuple[int, ...]) -> None:
        """Register a tensor of codes."""
        self._codes[codes.decoding.tensor] = codes
        self._types[codes.name] = TensorType(codes.decoding.dtype, shape, codes.packed_bits)

    def graph(self) -> Graph:
        """Close the graph."""
        for name in self._outputs:
            self._float(name)
        read = {name for node in self.nodes for name in node.inputs} | set(self._outputs)
        constants = {name: array for name, array in self._constants.items() if name in read}
        decodings = {codes.name: codes.decoding for codes in self._codes.values()}
        graph = Graph(
            tuple(self.model.inputs), self._outputs, self._types, constants, tuple(self.nodes), decodings=decodings
        )
        verify(graph)
        return graph
