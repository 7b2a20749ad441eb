"""Sizes of the products inside of attention operators, by each operator's own rules for where they stand.

All of them multiply queries with keys, take a softmax, and multiply its probabilities with values; some project their
input first, some lengthen the keys by those of a cache, in some several heads of queries share one of keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx import NodeProto

from accelsim.graph.context import Context, attributes

Shape = tuple[int, ...]


@dataclass(frozen=True)
class AttentionSizes:
    """What one attention operator multiplies."""

    batch: int
    heads: int
    """Of queries."""
    kv_heads: int
    """Of keys and values."""
    queries: int
    """New positions."""
    keys: int
    """Positions attended to, cached ones included."""
    past: int
    """Of them cached."""
    depth: int
    """Of a head of queries and keys."""
    value_depth: int
    """Of a head of values."""
    projected: tuple[int, int, int] | None = None
    """(rows, K, N) of the product that makes queries, keys and values, None where they are inputs."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of scores, of their product with the values, and of the projection."""
        pairs = self.batch * self.heads * self.queries * self.keys
        rows, depth, columns = self.projected or (0, 0, 0)
        return pairs * (self.depth + self.value_depth) + rows * depth * columns


def shape_at(context: Context, node: NodeProto, position: int) -> Shape | None:
    """Return the shape of an input, None where it is absent.

    Args:
        context: the normalised graph.
        node: the node.
        position: of the input.
    """
    name = node.input[position] if position < len(node.input) else ""
    return context.types[name].shape if name else None


def standard_attention(context: Context, node: NodeProto) -> AttentionSizes | None:
    """ai.onnx Attention: Q, K, V [, mask, past key, past value]; 3-D with numbers of heads, or 4-D."""
    query, key, value, past = (shape_at(context, node, position) for position in (0, 1, 2, 4))
    if query is None or key is None or value is None:
        return None
    cached = past[2] if past is not None else 0
    if len(query) == 4:
        batch, heads, queries, depth = query
        return AttentionSizes(batch, heads, key[1], queries, cached + key[2], cached, depth, value[3])
    attribute = attributes(node)
    heads, kv_heads = int(attribute["q_num_heads"]), int(attribute["kv_num_heads"])
    depth, value_depth = query[2] // heads, value[2] // kv_heads
    return AttentionSizes(query[0], heads, kv_heads, query[1], cached + key[1], cached, depth, value_depth)


def projecting_attention(context: Context, node: NodeProto) -> AttentionSizes | None:
    """com.microsoft Attention: x, weights [, bias, mask, past]."""
    return _projected(context, node, shape_at(context, node, 4))


def quantised_attention(context: Context, node: NodeProto) -> AttentionSizes | None:
    """com.microsoft QAttention: x, weights, bias, scales, mask, zero points [, past]."""
    return _projected(context, node, shape_at(context, node, 8))


def masked_self_attention(context: Context, node: NodeProto) -> AttentionSizes | None:
    """com.microsoft DecoderMaskedSelfAttention: like Attention, the past with room for what is new."""
    sizes = _projected(context, node, None)
    past = shape_at(context, node, 4)
    if sizes is None or past is None:
        return None
    keys = _constant(context, node, 6, past[3] - 1) + 1
    return AttentionSizes(**{**vars(sizes), "keys": keys, "past": keys - 1})


def _projected(context: Context, node: NodeProto, past: Shape | None) -> AttentionSizes | None:
    """Attention that projects its input: weights [D, columns of queries, keys and values]."""
    source, weights = shape_at(context, node, 0), shape_at(context, node, 1)
    attribute = attributes(node)
    if source is None or weights is None or attribute.get("past_present_share_buffer"):
        return None
    batch, length, width = source
    parts = [int(size) for size in attribute.get("qkv_hidden_sizes", ())] or [weights[1] // 3] * 3
    heads = int(attribute["num_heads"])
    cached = past[3] if past is not None else 0
    depth, value_depth = parts[0] // heads, parts[2] // heads
    product = batch * length, width, weights[1]
    return AttentionSizes(batch, heads, heads, length, cached + length, cached, depth, value_depth, product)


def multi_head_attention(context: Context, node: NodeProto) -> AttentionSizes | None:
    """com.microsoft MultiHeadAttention: separate, packed as [B, S, heads, 3, D], or keys and values as 4-D caches."""
    query, key, value, past = (shape_at(context, node, position) for position in (0, 1, 2, 6))
    heads = int(attributes(node)["num_heads"])
    if query is None:
        return None
    if len(query) == 5:  # all three packed
        return AttentionSizes(query[0], heads, heads, query[1], query[1], 0, query[4], query[4])
    batch, queries, depth = query[0], query[1], query[2] // heads
    if key is None:
        return None
    if len(key) == 5:  # keys and values packed as [B, L, heads, 2, D]
        return AttentionSizes(batch, heads, heads, queries, key[1], 0, depth, key[4])
    if value is None:
        return None
    if len(key) == 4:  # keys and values of an encoder, [B, heads, L, D]
        return AttentionSizes(batch, heads, heads, queries, key[2], 0, depth, value[3])
    cached = past[2] if past is not None else 0
    return AttentionSizes(batch, heads, heads, queries, cached + key[1], cached, depth, value[2] // heads)


def masked_multi_head_attention(context: Context, node: NodeProto) -> AttentionSizes | None:
    """com.microsoft DecoderMaskedMultiHeadAttention: one query; the past has room for what is new."""
    query, key, value, past = (shape_at(context, node, position) for position in (0, 1, 2, 5))
    heads = int(attributes(node)["num_heads"])
    if query is None or key is None or value is None:
        return None
    if len(key) == 4:
        return AttentionSizes(query[0], heads, heads, query[1], key[2], 0, query[2] // heads, value[3])
    if past is None:
        return None
    keys = _constant(context, node, 7, past[2] - 1) + 1
    return AttentionSizes(query[0], heads, heads, 1, keys, keys - 1, query[2] // heads, value[2] // heads)


def group_query_attention(context: Context, node: NodeProto) -> AttentionSizes | None:
    """com.microsoft GroupQueryAttention: separate or packed, with a cache.

    The total length is data. Where it is no constant, it is that of a cache which grows by the new positions; one that
    has room for them already (past and present share a buffer) is counted as if it were full.
    """
    query, key, past = (shape_at(context, node, position) for position in (0, 1, 3))
    attribute = attributes(node)
    heads, kv_heads = int(attribute["num_heads"]), int(attribute["kv_num_heads"])
    if query is None:
        return None
    depth = query[2] // heads if key is not None else query[2] // (heads + 2 * kv_heads)
    cached = past[2] if past is not None else 0
    keys = _constant(context, node, 6, cached + query[1])
    return AttentionSizes(query[0], heads, kv_heads, query[1], keys, max(keys - query[1], 0), depth, depth)


def _constant(context: Context, node: NodeProto, position: int, otherwise: int) -> int:
    """Return the largest value of a constant input, or something else where it is computed or absent."""
    name = node.input[position] if position < len(node.input) else ""
    return int(context.constants[name].max()) if name in context.constants else otherwise


ATTENTION: dict[tuple[str, str], Callable[[Context, NodeProto], AttentionSizes | None]] = {
    ("", "Attention"): standard_attention,
    ("com.microsoft", "Attention"): projecting_attention,
    ("com.microsoft", "QAttention"): quantised_attention,
    ("com.microsoft", "MultiHeadAttention"): multi_head_attention,
    ("com.microsoft", "GroupQueryAttention"): group_query_attention,
    ("com.microsoft", "DecoderMaskedSelfAttention"): masked_self_attention,
    ("com.microsoft", "DecoderMaskedMultiHeadAttention"): masked_multi_head_attention,
}
