"""Attention in parts: projection, rotation, cache, scores, softmax, and their product with the values (contract, 5.9).

Values are onnxruntime's own. Queries of heads that share keys and values are rows of one product, so that keys and
values are read once per group of heads. The cache is extended in place: only new positions are written into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, attributes
from accelsim.graph.importers.attention_sizes import ATTENTION, AttentionSizes
from accelsim.graph.importers.host_macs import domain_of
from accelsim.graph.importers.part_list import UNSCALED, Pair, PartList, float_name, pair_of
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import ProductPart, VectorPart
from accelsim.operators.parts import Step

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class _Heads:
    """Where queries, keys and values come from; masks: inputs that are added to the scores."""

    query: str
    keys: str
    values: str
    past: bool = False
    masks: tuple[int, ...] = ()


def import_attention(context: Context, node: NodeProto) -> Imported:
    """Import any attention operator in parts.

    Args:
        context: the normalised graph.
        node: the node.

    Raises:
        NotOnTheMachineError: an unusual form, which onnxruntime alone is left to.
    """
    key = domain_of(node), node.op_type
    sizes = ATTENTION[key](context, node)
    if sizes is None or not min(sizes.queries, sizes.keys, sizes.depth, sizes.value_depth, sizes.batch):
        raise NotOnTheMachineError("an unknown form of attention")
    parts = PartList(context, node)
    heads = _SOURCES[key](parts, sizes)
    if heads.past:
        heads = _append(parts, sizes, heads)
    return _attend(parts, sizes, heads)


def _present(node: NodeProto, *positions: int) -> tuple[int, ...]:
    """Return the input positions that are there."""
    return tuple(position for position in positions if position < len(node.input) and node.input[position])


def _refuse_outputs(node: NodeProto, first: int) -> None:
    """Decline nodes with outputs from a number on, such as the scores themselves."""
    if any(node.output[first:]):
        raise NotOnTheMachineError("it gives its scores, too")


def _standard(parts: PartList, _: AttentionSizes) -> _Heads:
    """ai.onnx Attention: Q, K, V, mask, past key, past value."""
    _refuse_outputs(parts.node, 3)
    query, keys, values = parts.node.input[:3]
    return _Heads(query, keys, values, bool(_present(parts.node, 4)), _present(parts.node, 3))


def _projecting(parts: PartList, sizes: AttentionSizes) -> _Heads:
    """com.microsoft Attention: the projection of x is one product each for queries, keys and values."""
    _refuse_outputs(parts.node, 2)
    source, weights = parts.node.input[:2]
    pair = pair_of(parts.context, source, weights)
    return _project(parts, sizes, pair, bool(_present(parts.node, 2)), 4, _present(parts.node, 3, 5), subtracts=False)


def _quantised(parts: PartList, sizes: AttentionSizes) -> _Heads:
    """com.microsoft QAttention: codes times constant codes, scaled to floats."""
    context, node = parts.context, parts.node
    if any(node.input[place] not in context.constants for place in (1, 3, 4)):
        raise NotOnTheMachineError("weights or scales that are computed")
    zero = _present(node, 7)
    subtracts = bool(zero and context.constants[node.input[7]].any())
    return _project(parts, sizes, None, True, 8, _present(node, 5), subtracts=subtracts)


def _project(
    parts: PartList,
    sizes: AttentionSizes,
    pair: Pair | None,
    biased: bool,
    past: int,
    masks: tuple[int, ...],
    *,
    subtracts: bool,
) -> _Heads:
    """Add the three products of a projection; without a pair, codes times 8-bit weights."""
    context, node = parts.context, parts.node
    rows, depth, _ = sizes.projected or (0, 0, 0)
    inputs, bits, arithmetic = [node.input[0]], (8, 8), "integer"
    dynamic = False
    if pair is not None:
        arithmetic, bits = pair.arithmetic, (pair.first.bits, pair.second.bits)
        dynamic = pair.second.name not in context.constants and pair.second.name not in context.tensors
        inputs = [pair.first.name, *([pair.second.name] if dynamic else [])]
        parts.inside += pair.inside
    scaled = arithmetic == "integer" or bits[1] < 16
    kind = "float32" if pair is None else float_name(context, node.input[0])
    names = []
    for name, size in (("query", sizes.depth), ("key", sizes.depth), ("value", sizes.value_depth)):
        columns = sizes.heads * size
        product = ProductPart(
            rows, depth, columns, 1, arithmetic, *bits, dynamic, np.dtype(kind).itemsize,
            0 if dynamic else 4 * biased + 4 * scaled, 1, UNSCALED, subtracts,
        )  # fmt: skip
        names.append(parts.product(name, product, inputs, (rows, columns), kind))
    return _Heads(names[0], names[1], names[2], bool(_present(node, past)), masks)


def _multi_head(parts: PartList, sizes: AttentionSizes) -> _Heads:
    """com.microsoft MultiHeadAttention: query, key, value, bias, padding mask, bias of scores, past key and value."""
    _refuse_outputs(parts.node, 3)
    if _present(parts.node, 9):
        raise NotOnTheMachineError("cache indirection")
    return _separate(parts, sizes, 3, 6, _present(parts.node, 4, 5))


def _masked_multi_head(parts: PartList, sizes: AttentionSizes) -> _Heads:
    """com.microsoft DecoderMaskedMultiHeadAttention: query, key, value, mask, bias of scores, past, ..., bias."""
    _refuse_outputs(parts.node, 3)
    if _present(parts.node, 9):
        raise NotOnTheMachineError("cache indirection")
    return _separate(parts, sizes, 10, 5, _present(parts.node, 3, 4))


def _separate(parts: PartList, sizes: AttentionSizes, bias: int, past: int, masks: tuple[int, ...]) -> _Heads:
    """Queries, keys and values that are separate or packed, with a bias or without."""
    context, node = parts.context, parts.node
    given = [node.input[place] for place in _present(node, 0, 1, 2)]
    apart = len(given) == 3 and all(len(context.types[name].shape) < 5 for name in given)
    cached = bool(_present(node, past)) and len(context.types[node.input[1]].shape) == 3
    if apart and not _present(node, bias):
        return _Heads(given[0], given[1], given[2], cached, masks)
    row, extra = ("Add", [node.input[bias]]) if _present(node, bias) else ("Transpose", [])
    kind, new = float_name(context, given[0]), sizes.keys - sizes.past
    results = [
        ("query", kind, (sizes.batch, sizes.heads, sizes.queries, sizes.depth)),
        ("key", kind, (sizes.batch, sizes.kv_heads, new, sizes.depth)),
        ("value", kind, (sizes.batch, sizes.kv_heads, new, sizes.value_depth)),
    ]
    elements = sum(int(np.prod(shape)) for _, _, shape in results)
    part = VectorPart((Step(row, elements),))
    query, keys, values = parts.vector("bias" if extra else "unpack", part, [*given, *extra], results)
    return _Heads(query, keys, values, cached, masks)


def _group_query(parts: PartList, sizes: AttentionSizes) -> _Heads:
    """com.microsoft GroupQueryAttention: query, key, value, past key and value, lengths, cosines, sines, ..., bias."""
    context, node = parts.context, parts.node
    _refuse_outputs(node, 3)
    if _present(node, 12, 13) or any(
        context.types[node.input[place]].dtype != context.types[node.input[0]].dtype for place in _present(node, 3, 4)
    ):
        raise NotOnTheMachineError("a quantised cache")
    given = [node.input[place] for place in _present(node, 0, 1, 2)]
    masks, rotated = _present(node, 10), bool(attributes(node).get("do_rotary"))
    if len(given) == 3 and not rotated:
        return _Heads(given[0], given[1], given[2], True, masks)
    kind = float_name(context, given[0])
    shapes = [(sizes.batch, count, sizes.queries, sizes.depth) for count in (sizes.heads, *[sizes.kv_heads] * 2)]
    turned, whole = (int(np.prod(shapes[0])) + int(np.prod(shapes[1])), int(np.prod(shapes[2])))
    results = [(name, kind, shape) for name, shape in zip(("query", "key", "value"), shapes, strict=True)]
    if not rotated:
        part = VectorPart((Step("Transpose", turned + whole),))
        query, keys, values = parts.vector("unpack", part, given, results)
        return _Heads(query, keys, values, True, masks)
    size = np.dtype(kind).itemsize
    angles = ((2 * sizes.queries, sizes.depth // 2 * size),)  # rows of cosines and of sines
    read = given[:2] if len(given) == 3 else given
    sources = tuple((1, context.types[name].size_bytes) for name in read)
    steps = (Step("RotaryEmbedding", turned), *([] if len(given) == 3 else [Step("Transpose", whole)]))
    part = VectorPart(steps, (*sources, *angles))
    made = parts.vector("rotary", part, read, results[: 2 if len(given) == 3 else 3])
    return _Heads(made[0], made[1], given[2] if len(given) == 3 else made[2], True, masks)


def _append(parts: PartList, sizes: AttentionSizes, heads: _Heads) -> _Heads:
    """Write new keys and values into the cache, which holds the others already."""
    context = parts.context
    kind = float_name(context, parts.node.input[0]) if heads.query not in parts.types else None
    dtype = kind or str(parts.types[heads.query].dtype)
    size, new = np.dtype(dtype).itemsize, sizes.keys - sizes.past
    runs = sizes.batch * sizes.kv_heads
    results = [
        ("keys", dtype, (sizes.batch, sizes.kv_heads, sizes.keys, sizes.depth)),
        ("values", dtype, (sizes.batch, sizes.kv_heads, sizes.keys, sizes.value_depth)),
    ]
    writes = tuple((runs, new * depth * size) for depth in (sizes.depth, sizes.value_depth))
    part = VectorPart((), None, writes, runs * new)
    keys, values = parts.vector("append", part, [heads.keys, heads.values], results)
    return _Heads(heads.query, keys, values, True, heads.masks)


def _attend(parts: PartList, sizes: AttentionSizes, heads: _Heads) -> Imported:
    """Add scores and softmax; the product with the values is the last part."""
    context, node = parts.context, parts.node
    scores, arithmetic = _scores(parts, sizes, heads)
    kind = str(parts.types[scores].dtype)
    count = sizes.batch * sizes.heads * sizes.queries * sizes.keys
    attribute = attributes(node)
    causal = any(attribute.get(name) for name in ("is_causal", "unidirectional"))
    causal |= node.op_type == "GroupQueryAttention" and sizes.queries > 1
    steps = [Step("Add", count)] * (len(heads.masks) + causal)
    steps += [] if arithmetic == "integer" else [Step("Mul", count)]  # integers are scaled when they leave the array
    if attribute.get("softcap"):
        steps += [Step("Tanh", count), Step("Mul", 2 * count)]
    steps.append(Step("Softmax", count, count // sizes.keys))
    masks = [node.input[place] for place in heads.masks]
    (chances,) = parts.vector(
        "softmax", VectorPart(tuple(steps)), [scores, *masks], [("softmax", kind, parts.types[scores].shape)]
    )
    width = 8 * np.dtype(kind).itemsize
    values, bits = heads.values, width
    if values not in parts.types:
        second = pair_of(context, values, values).second
        values, bits = second.name, second.bits
        parts.inside += second.dequantise
    product = ProductPart(
        sizes.heads // sizes.kv_heads * sizes.queries, sizes.keys, sizes.value_depth, sizes.batch * sizes.kv_heads,
        kind, width, bits, True, np.dtype(kind).itemsize,
    )  # fmt: skip
    return parts.finish(product, [chances, values])


def _scores(parts: PartList, sizes: AttentionSizes, heads: _Heads) -> tuple[str, str]:
    """Add the product of queries and keys; returns its result and its arithmetic."""
    context, query, keys = parts.context, heads.query, heads.keys
    made = [parts.types[name].dtype for name in (query, keys) if name in parts.types]
    kind = str(made[0]) if made else float_name(context, query)
    arithmetic, bits = kind, (8 * np.dtype(kind).itemsize,) * 2
    if not made:
        pair = pair_of(context, query, keys)
        arithmetic, bits = pair.arithmetic, (pair.first.bits, pair.second.bits)
        query, keys = pair.first.name, pair.second.name
        parts.inside += pair.inside
    product = ProductPart(
        sizes.heads // sizes.kv_heads * sizes.queries, sizes.depth, sizes.keys, sizes.batch * sizes.kv_heads,
        arithmetic, *bits, True, np.dtype(kind).itemsize, 0, 1, UNSCALED, by_column=True,
    )  # fmt: skip
    shape = sizes.batch, sizes.heads, sizes.queries, sizes.keys
    return parts.product("scores", product, [query, keys], shape, kind), arithmetic


_SOURCES: dict[tuple[str, str], Callable[[PartList, AttentionSizes], _Heads]] = {
    ("", "Attention"): _standard,
    (MICROSOFT, "Attention"): _projecting,
    (MICROSOFT, "QAttention"): _quantised,
    (MICROSOFT, "MultiHeadAttention"): _multi_head,
    (MICROSOFT, "GroupQueryAttention"): _group_query,
    (MICROSOFT, "DecoderMaskedSelfAttention"): _projecting,
    (MICROSOFT, "DecoderMaskedMultiHeadAttention"): _masked_multi_head,
}
