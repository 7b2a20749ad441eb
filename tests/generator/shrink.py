"""From a graph that fails to the smallest one that still fails in the same way, and to a file that can be replayed.

Every reduction is a guess: it is kept only when the reduced model runs and fails with the same signature. Reductions
work on the ONNX file, so they need not know how the graph was drawn.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from accelsim import Arch
from accelsim.reference.session import open_session
from tests.generator.values import Array
from tests.generator.verify import OUTSIDE, Outcome, Setup, verify
from tests.strategies import Case

MOST_CHECKS = 800
SETUP = "setup"


@dataclass(frozen=True)
class Small:
    """A shrunk failure."""

    case: Case
    outcome: Outcome
    checks: int

    @property
    def nodes(self) -> list[NodeProto]:
        """The nodes that are left."""
        return list(ModelProto.FromString(self.case.model).graph.node)

    @property
    def operators(self) -> list[NodeProto]:
        """The nodes that are left without those that only quantise and dequantise."""
        return [node for node in self.nodes if node.op_type not in OUTSIDE]


@dataclass
class _Shrinker:
    """The smallest failing case so far, and how many checks may still be made."""

    best: Case
    setup: Setup
    outcome: Outcome
    checks: int = 0

    def accepts(self, model: ModelProto, inputs: Mapping[str, Array]) -> bool:
        """Tell whether a reduced model fails in the same way; if so, go on from it."""
        if self.checks >= MOST_CHECKS:
            return False
        self.checks += 1
        pruned = prune(model)
        if pruned is None:
            return False
        wanted = {value.name for value in pruned.graph.input}
        case = Case(pruned.SerializeToString(), {name: array for name, array in inputs.items() if name in wanted})
        outcome = verify(case, self.setup)
        if outcome.signature != self.outcome.signature:
            return False
        self.best, self.outcome = case, outcome
        return True

    @property
    def model(self) -> ModelProto:
        """The smallest model so far, to be changed."""
        return ModelProto.FromString(self.best.model)


def shrink(case: Case, setup: Setup) -> Small:
    """Reduce a failing case until no reduction is left that fails in the same way.

    Raises:
        ValueError: the case does not fail.
    """
    outcome = verify(case, setup)
    if not outcome.failed:
        raise ValueError("only a failing case can be shrunk")
    shrinker = _Shrinker(case, setup, outcome)
    steps: list[Callable[[_Shrinker], bool]] = [
        _fix_batch, _keep_one_output, _end_earlier, _begin_later, _bypass, _make_smaller, _simplify_attributes,
    ]  # fmt: skip
    while sum(step(shrinker) for step in steps):  # a sum, so that every step has its turn in each round
        pass
    return Small(shrinker.best, shrinker.outcome, shrinker.checks)


# ---- the model as a graph


def prune(model: ModelProto) -> ModelProto | None:
    """Drop nodes, constants and inputs that no output needs; None when nothing is left."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    if not kept:
        return None
    result = ModelProto()
    result.CopyFrom(model)
    _replace(result.graph.node, kept[::-1])
    _replace(result.graph.initializer, [tensor for tensor in model.graph.initializer if tensor.name in needed])
    _replace(result.graph.input, [value for value in model.graph.input if value.name in needed])
    del result.graph.value_info[:]
    domains = {node.domain for node in kept} | {""}
    _replace(result.opset_import, [entry for entry in model.opset_import if entry.domain in domains])
    return result


def _replace(field: Any, items: list[Any]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def _intermediate_values(case: Case) -> dict[str, Array]:
    """Return every tensor that nodes write, as onnxruntime computes it literally; none where that fails."""
    model = ModelProto.FromString(case.model)
    names = [name for node in model.graph.node for name in node.output if name]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    try:
        arrays = open_session(model.SerializeToString()).run(names, dict(case.inputs))
    except Exception:  # a case that onnxruntime cannot run cannot be cut
        return {}
    return dict(zip(names, arrays, strict=True))


def _end_in(model: ModelProto, name: str, dtype: Any = None) -> None:
    """Make one tensor the only output."""
    del model.graph.output[:]
    kind = TensorProto.FLOAT if dtype is None else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model.graph.output.append(helper.make_tensor_value_info(name, kind, None))


def _feed(graph: GraphProto, name: str, array: Array) -> None:
    """Make a tensor an input of the graph: the node that wrote it writes a name that nobody reads."""
    for node in graph.node:
        outputs = [f"{output}_unused" if output == name else output for output in node.output]
        if outputs != list(node.output):
            _replace_names(node.output, outputs)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))


def _replace_names(field: Any, names: list[str]) -> None:
    del field[:]
    field.extend(names)


# ---- reductions; each tells whether it got anywhere


def _fix_batch(shrinker: _Shrinker) -> bool:
    """Replace named dimensions by numbers."""
    model = shrinker.model
    named = [value for value in model.graph.input if any(dim.dim_param for dim in value.type.tensor_type.shape.dim)]
    for value in named:
        value.CopyFrom(_declared(value.name, shrinker.best.inputs[value.name]))
    return bool(named) and shrinker.accepts(model, shrinker.best.inputs)


def _declared(name: str, array: Array) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def _keep_one_output(shrinker: _Shrinker) -> bool:
    """Keep only one of the outputs, or at least leave one out."""
    outputs = list(shrinker.model.graph.output)
    if len(outputs) < 2:
        return False
    for kept in (*([value] for value in outputs), *([v for v in outputs if v is not value] for value in outputs)):
        model = shrinker.model
        _replace(model.graph.output, kept)
        if shrinker.accepts(model, shrinker.best.inputs):
            return True
    return False


def _end_earlier(shrinker: _Shrinker) -> bool:
    """Let the graph end in a tensor inside of it, the earliest first."""
    values = _intermediate_values(shrinker.best)
    ends = {value.name for value in shrinker.model.graph.output}
    for name, array in values.items():
        if name in ends and len(ends) == 1:
            continue
        model = shrinker.model
        _end_in(model, name, array.dtype)
        if len(prune(model).graph.node) < len(model.graph.node) and shrinker.accepts(model, shrinker.best.inputs):  # type: ignore[union-attr]
            return True
    return False


def _begin_later(shrinker: _Shrinker) -> bool:
    """Let a tensor inside of the graph be an input, the latest first."""
    values = _intermediate_values(shrinker.best)
    ends = {value.name for value in shrinker.model.graph.output}
    read = {name for node in shrinker.model.graph.node for name in node.input}
    for name in reversed(values):
        if name in ends or name not in read:
            continue
        model = shrinker.model
        _feed(model.graph, name, values[name])
        if shrinker.accepts(model, {**shrinker.best.inputs, name: values[name]}):
            return True
    return False


def _bypass(shrinker: _Shrinker) -> bool:
    """Take out one node: what reads its output reads its input instead."""
    for position in range(len(shrinker.model.graph.node)):
        model = shrinker.model
        node = model.graph.node[position]
        if len(node.output) != 1 or not node.input or node.output[0] in {value.name for value in model.graph.output}:
            continue
        for other in model.graph.node:
            _replace_names(other.input, [node.input[0] if name == node.output[0] else name for name in other.input])
        if shrinker.accepts(model, shrinker.best.inputs):
            return True
    return False


def _make_smaller(shrinker: _Shrinker) -> bool:
    """Cut axes of inputs and constants: one size at a time, wherever it occurs, or in a single tensor."""
    progress = False
    for names, size, target in list(_cuts(shrinker.best)):
        model = shrinker.model
        inputs = dict(shrinker.best.inputs)
        changed = False
        for name in names:
            if name in inputs and size in inputs[name].shape:
                inputs[name] = _cut(inputs[name], size, target)
                _replace(
                    model.graph.input,
                    [_declared(v.name, inputs[v.name]) if v.name == name else v for v in model.graph.input],
                )
                changed = True
        for tensor in model.graph.initializer:
            if tensor.name in names and size in tensor.dims:
                tensor.CopyFrom(numpy_helper.from_array(_cut(numpy_helper.to_array(tensor), size, target), tensor.name))
                changed = True
        progress = (changed and shrinker.accepts(model, inputs)) or progress
    return progress


def _cuts(case: Case) -> Iterator[tuple[set[str], int, int]]:
    """Yield which tensors to cut, the size of the axes to be cut, and the size they get."""
    graph = ModelProto.FromString(case.model).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes |= {name: array.shape for name, array in case.inputs.items()}
    sizes = sorted({size for shape in shapes.values() for size in shape if size > 1}, reverse=True)
    for size, target in itertools.chain(*([(size, 1), (size, size // 2)] for size in sizes)):
        yield set(shapes), size, target
        for name, shape in shapes.items():
            if size in shape:
                yield {name}, size, target


def _cut(array: Array, size: int, target: int) -> Array:
    """Keep the first elements of every axis of a size."""
    return np.ascontiguousarray(
        array[tuple(slice(target) if length == size else slice(None) for length in array.shape)]
    )


def _simplify_attributes(shrinker: _Shrinker) -> bool:
    """Leave out attributes, one at a time."""
    for position, node in enumerate(shrinker.model.graph.node):
        for name in [attribute.name for attribute in node.attribute]:
            model = shrinker.model
            target = model.graph.node[position]
            _replace(target.attribute, [attribute for attribute in target.attribute if attribute.name != name])
            if shrinker.accepts(model, shrinker.best.inputs):
                return True
    return False


# ---- files


def save(small: Small, setup: Setup, folder: Path, name: str) -> Path:
    """Write a shrunk failure as NAME.onnx, and its inputs and how to run it as NAME.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    path.write_bytes(small.case.model)
    description = {"machine": setup.machine.model_dump(mode="json"), "reference": setup.reference}
    arrays: dict[str, Any] = {f"in.{key}": array for key, array in small.case.inputs.items()}
    np.savez_compressed(path.with_suffix(".npz"), **{SETUP: np.array(json.dumps(description))}, **arrays)
    return path


def load_saved(path: Path) -> tuple[Case, Setup]:
    """Read what `save` wrote."""
    with np.load(path.with_suffix(".npz")) as archive:
        arrays = dict(archive)
    setup = json.loads(str(arrays.pop(SETUP)))
    case = Case(path.read_bytes(), {key.removeprefix("in."): array for key, array in arrays.items()})
    return case, Setup(Arch(**setup["machine"]), setup["reference"])
