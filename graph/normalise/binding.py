"""The dimensions of a model's inputs: what the file leaves open, what a user binds, what the inputs of a run decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from onnx import ModelProto, TensorShapeProto, ValueInfoProto, helper

from accelsim.errors import UsageError, nearest, printable
from accelsim.graph.load.loader import CheckedModel, copy_model
from accelsim.operators.dimensions import Dimension, Origin
from accelsim.operators.tensors import TensorType

Shapes = Mapping[str, tuple[int, ...]]

# What says that the leading dimension of an input counts samples.
_BATCH_NAMES = ("batch", "n", "b")
_IMAGE_RANK = 4


def input_types(model: CheckedModel, batch: int = 1, shapes: Shapes | None = None) -> dict[str, TensorType]:
    """Return the inputs with the shapes given, or the declared ones, dynamic dimensions replaced by a batch size."""
    types = {}
    for value in _inputs(model):
        tensor = value.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        declared = tuple(dim.dim_value or batch for dim in tensor.shape.dim)
        types[value.name] = TensorType.of(dtype, declared if shapes is None else shapes[value.name])
    return types


def _inputs(model: CheckedModel) -> Iterator[ValueInfoProto]:
    wanted = set(model.input_names)
    return (value for value in model.proto.graph.input if value.name in wanted)


def _declared(value: ValueInfoProto) -> tuple[int | str, ...]:
    """Return the shape of an input as the file states it, names standing for dynamic dimensions."""
    return tuple(dim.dim_value or dim.dim_param or "?" for dim in value.type.tensor_type.shape.dim)


def check_shapes(model: CheckedModel, shapes: Shapes) -> None:
    """Compare the shapes of a run with the declared ones.

    Args:
        model: the checked model.
        shapes: shape of every graph input.

    Raises:
        UsageError: a shape contradicts the declared one, or one dimension has two sizes.
    """
    sizes: dict[str, int] = {}
    for value in _inputs(model):
        declared, shape = _declared(value), shapes[value.name]
        fits = len(declared) == len(shape) and all(
            isinstance(d, str) or d == s for d, s in zip(declared, shape, strict=True)
        )
        if not fits:
            dims = "x".join(map(str, declared))
            raise UsageError(
                f"input '{printable(value.name)}' must have the shape {dims}, not {'x'.join(map(str, shape))}: "
                f"give that shape"
            )
        for name, size in zip(declared, shape, strict=True):
            if isinstance(name, str) and name != "?" and sizes.setdefault(name, size) != size:
                raise UsageError(
                    f"dimension '{printable(name)}' is {sizes[name]} in one input and {size} in "
                    f"'{printable(value.name)}': give equal sizes"
                )


def open_dimensions(model: CheckedModel, shapes: Shapes, *, given: bool) -> tuple[Dimension, ...]:
    """Return the dimensions that the user's file leaves open, each once, with the sizes of a run.

    Args:
        model: the checked model.
        shapes: shape of every graph input.
        given: the shapes are those of inputs that the user gave.
    """
    found = {name: Dimension(name, size, "bind") for name, size in model.bound}
    origin: Origin = "input" if given else "default"
    for value in _inputs(model):
        for axis, (name, size) in enumerate(zip(_declared(value), shapes[value.name], strict=True)):
            if isinstance(name, str):
                label = name if name != "?" else f"{value.name}[{axis}]"
                found.setdefault(label, Dimension(label, size, origin))
    return tuple(found.values())


def batch_size(model: CheckedModel, shapes: Shapes) -> int | None:
    """Return how many samples a run computes at once, None where the file does not say which dimension counts them.

    It is the leading dimension of every input that has the rank of an image, or that the file leaves open under a name
    such as "batch" or under none; they must agree.

    Args:
        model: the checked model.
        shapes: shape of every graph input.
    """
    sizes = {size for name, size in model.bound if _counts_samples(name)}
    for value in _inputs(model):
        first = next(iter(_declared(value)), None)
        if _counts_samples(first) if isinstance(first, str) else first and len(shapes[value.name]) == _IMAGE_RANK:
            sizes.add(shapes[value.name][0])
    return sizes.pop() if len(sizes) == 1 else None


def _counts_samples(name: str) -> bool:
    """Tell whether a leading dimension of this name, or of none, is the number of samples."""
    return name == "?" or name.lower() in _BATCH_NAMES or "batch" in name.lower()


def bind_dimensions(model: CheckedModel, sizes: Mapping[str, int]) -> CheckedModel:
    """Return the static network that a user deploys: the file with named dimensions fixed.

    Args:
        model: the checked model.
        sizes: by name of a dynamic dimension, its size.

    Raises:
        UsageError: the model has no dynamic dimension of a name, or a size is not positive.
    """
    names = {name: None for value in _inputs(model) for name in _declared(value) if isinstance(name, str)}
    names.pop("?", None)
    for name, size in sizes.items():
        if name not in names:
            hint = nearest(name, list(names)) if names else "all its dimensions are fixed"
            raise UsageError(
                f"{model.name} has no dynamic dimension '{printable(name)}' to bind ({hint}): leave it out"
            )
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UsageError(f"dimension '{printable(name)}' cannot be bound to {size}: give a whole number from 1")
    file, proto = ModelProto.FromString(model.file), ModelProto()
    proto.CopyFrom(model.proto)
    for part in (file, proto):
        _fix(part, sizes)
    return replace(model, file=file.SerializeToString(), proto=proto, bound=tuple(sorted(sizes.items())))


def open_constants(model: CheckedModel, names: Iterable[str]) -> CheckedModel:
    """Return the model with those constants as inputs that a run is given and that the file lists as inputs as well.

    onnxruntime takes what it is given in their place; the file stays as it is.

    Args:
        model: the checked model.
        names: of the arrays that a run is given.
    """
    listed = {value.name for value in model.proto.graph.input}
    given = {tensor.name for tensor in model.proto.graph.initializer} & listed & {*names}
    if not given:
        return model
    proto = copy_model(model.proto, lambda tensor: None if tensor.name in given else tensor)
    weights = {name: array for name, array in model.weights.items() if name not in given}
    return replace(model, proto=proto, weights=weights)


def _fix(proto: ModelProto, sizes: Mapping[str, int]) -> None:
    """Replace the names of dimensions by sizes wherever the graph declares a shape."""
    graph = proto.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.CopyFrom(TensorShapeProto.Dimension(dim_value=sizes[dim.dim_param]))


def with_input_shapes(proto: ModelProto, shapes: Shapes) -> ModelProto:
    """Return a graph, as onnxruntime optimised it for any size, with the sizes of a run.

    Args:
        proto: the optimised graph.
        shapes: shape of every graph input.
    """
    copy = ModelProto()
    copy.CopyFrom(proto)
    for value in copy.graph.input:
        if value.name in shapes:
            shape = value.type.tensor_type.shape
            del shape.dim[:]
            shape.dim.extend(TensorShapeProto.Dimension(dim_value=size) for size in shapes[value.name])
    for value in copy.graph.output:  # stale names of dynamic dimensions would contradict the sizes
        value.type.tensor_type.ClearField("shape")
    del copy.graph.value_info[:]
    return copy
