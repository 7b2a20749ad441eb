"""From an integer to a graph: its style, its inputs, its operators, its outputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, helper

from accelsim import Arch
from accelsim.graph.load.float_models import is_quantised
from tests.generator import contractions, elementwise, movement, pools, qoperators, unusual
from tests.generator.builder import GraphBuilder
from tests.generator.growth import OPERATORS, Growth, Operator, Style, Tensor
from tests.generator.verify import Setup
from tests.strategies import Case, Draw, Shape

__all__ = ["OPERATORS", "Drawn", "draw_graph"]

FAMILIES = (contractions, elementwise, movement, pools, qoperators, unusual)  # importing them fills the table
MOST_NODES = 12
REFERENCES = ("ort",) * 5 + ("ort-default",)
RANKS = (4,) * 10 + (3,) * 6 + (2,) * 3 + (5, 5, 1)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A graph with its inputs, the setup to run it in, and the rows of the table that made it."""

    case: Case
    setup: Setup
    operators: tuple[str, ...]


@dataclass
class GraphDraw(Draw):
    """A source of parameters for a whole graph; `exact` keeps scales on powers of two, where results lie on ties."""

    exact: bool = False

    def beside(self, value: float) -> np.float32:
        """Return float32(value), moved by up to two units in the last place unless ties must be exact."""
        return np.float32(value) if self.exact else super().beside(value)


def draw_style(draw: Draw) -> Style:
    """Draw a style: Q/DQ or QOperator or both; dtypes of activations; opset."""
    opset = draw.choice([11, 12, 13, 13, 17, 17, 18, 20, 21, 21, 21, 21, 22, 23, 25])
    dtypes: list[tuple[str, ...]] = [("uint8",)] * 5 + [("int8",)] * 4 + [("uint8", "int8")]
    dtypes += [("uint16",), ("int16",), ("uint8", "uint16")] if opset >= 21 else [("uint16",)]
    qoperator = draw.choice([0, 0, 0, 90, 40])
    chosen = draw.choice(dtypes[:9] if qoperator > 50 else dtypes)
    return Style(qoperator, chosen, draw.choice([0, 0, 5, 15]), opset)


def draw_shape(draw: Draw) -> Shape:
    """Draw the shape of an input: a batch, channels that split into groups, small images."""
    rank = draw.choice(RANKS)
    channels = draw.choice([1, 2, 3, 4, 4, 6, 8])
    if rank == 1:
        return (channels,)
    size = {2: 12, 3: 9, 4: 7, 5: 4}[rank]
    return (draw.integer(1, 3), channels, *draw.integers(2, size, rank - 2))


def draw_machine(draw: Draw, style: Style, *, wraps: bool) -> Arch:
    """Draw a machine; sums of 16-bit products need wider accumulators, and tables of 16-bit codes more memory."""
    machine = draw.machine()
    varied = {
        "acc_rows": draw.choice([16, 512]),
        "acc_banks": draw.integer(1, 2),
        "weight_double_buffer": draw.chance(),
        "drain_overlap": draw.chance(),
        "operand_buffers": draw.integer(1, 2),
        "vector_lanes": draw.choice([1, 16, 64]),
    }
    if style.wide:
        varied |= {"acc_bits": 48, "spm_act": 1 << 20}
    elif wraps:
        varied |= {"acc_bits": 32, "overflow": "wrap"}
    return machine.model_copy(update=varied)


def draw_reference(draw: Draw, style: Style) -> str:
    """Draw what to compare with; with its defaults onnxruntime writes int8 models of opset 21 that it cannot read."""
    return draw.choice(["ort"] if style.opset >= 21 and "int8" in style.dtypes else REFERENCES)


def suitable(row: Operator, style: Style, wanted: Collection[str]) -> bool:
    """Tell whether a row may be used in a graph of a style."""
    return row.opset <= style.opset and (row.written <= (style.qoperator > 0)) and (not wanted or row.name in wanted)


def draw_graph(seed: int, index: int, wanted: Collection[str] = ()) -> Drawn:
    """Draw one graph of 1 to 12 operators; what nothing reads, and now and then another tensor, leaves the graph.

    Args:
        seed: of the whole series.
        index: of the graph; odd ones have scales that lead to ties, every other one of them exactly.
        wanted: rows of the table to draw from; empty takes all.
    """
    draw = GraphDraw((seed, index), ties=index % 2 == 1, exact=index % 4 == 1)
    style = draw_style(draw)
    if wanted and not any(suitable(row, style, wanted) for row in OPERATORS.values()):
        style = Style(40, ("uint8",), 5, 21)
    growth = Growth(draw, GraphBuilder(draw, style.opset, vectors=draw.chance(2)), style)
    for _ in range(draw.choice([1, 1, 2])):
        growth.input(draw_shape(draw))
    rows = [row for row in OPERATORS.values() if suitable(row, style, wanted)]
    rows = [row for row in rows for _ in range(row.weight * (3 if row.written and style.qoperator > 50 else 1))]
    used: list[str] = []
    nodes, tries = draw.integer(1, MOST_NODES), 0
    while len(used) < nodes and tries < 60:
        tries += 1
        row = draw.choice(rows)
        if row.step(growth):
            used.append(row.name)
    for tensor in growth.tensors:
        if tensor.readers == 0 or draw.chance(8):
            leave(growth, tensor)
    return Drawn(
        close(growth), Setup(draw_machine(draw, style, wraps=growth.wraps), draw_reference(draw, style)), tuple(used)
    )


def leave(growth: Growth, tensor: Tensor) -> None:
    """Make a tensor an output of the graph, as codes or as reals; a graph input that is not read is no part of it."""
    build = growth.build
    if tensor.codes in build.inputs:
        if tensor.readers == 0:
            del build.inputs[tensor.codes]
        return
    if tensor.reals and growth.draw.chance(30):
        build.output(tensor.reals, "float32", len(tensor.shape))
    elif growth.draw.chance():
        build.output(growth.coded(tensor), tensor.code.dtype, len(tensor.shape))
    else:
        build.output(growth.real(tensor), "float32", len(tensor.shape))


def close(growth: Growth) -> Case:
    """Finish the model; the batch of its inputs has a name instead of a number in a third of the cases."""
    build, draw = growth.build, growth.draw
    build.outputs = list({name: (name, *rest) for name, *rest in build.outputs}.values())
    if not build.outputs:
        leave(growth, growth.tensors[-1])
    if not any(is_quantised(node) for node in build.nodes):  # data movement on codes alone is no quantised model
        growth.leaves(build.dequantise(growth.tensors[-1].codes, growth.tensors[-1].code), "float32")
    model = build.proto()
    model.graph.name = "drawn"
    batches = {array.shape[0] for array in build.inputs.values() if array.ndim}
    if len(batches) == 1 and draw.chance(33):
        name_the_batch(model)
    return Case(model.SerializeToString(), dict(build.inputs))


def name_the_batch(model: ModelProto) -> None:
    """Make the first dimension of every input dynamic, and forget what was inferred from it."""
    for value in model.graph.input:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    del model.graph.value_info[:]
    for value in model.graph.output:
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, None))
