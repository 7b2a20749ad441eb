"""Transformers: encoders for text and images, and one decoder block with its key and value cache."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.models.sketch import MASKED, Drawing, Sketch, Tensor

# Queries are drawn wider, so that attention has favourites as a trained one; 1 / sqrt(head width) is part of them.
_QUERY_GAIN = 2.0


@dataclass(frozen=True)
class Size:
    """Layers, width, and attention heads; the width inside of the feed-forward part is four times the width."""

    layers: int
    width: int
    heads: int


BERT_TINY, BERT_BASE = Size(2, 128, 2), Size(12, 768, 12)
VIT_TINY, VIT_SMALL = Size(12, 192, 3), Size(12, 384, 6)
DECODER = Size(1, 768, 12)

BERT_VOCABULARY, BERT_POSITIONS, BERT_TYPES, BERT_TOKENS = 30522, 512, 2, 128
VIT_SIDE, VIT_PATCH, VIT_CLASSES = 224, 16, 1000
DECODER_TOKENS = 128


@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens so far."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Attention:
    """What attention hands on, and the cache with its new tokens."""

    output: Tensor
    cache: Cache


def _heads(draw: Drawing, x: Tensor, name: str, size: Size, result: str = "") -> Tensor:
    """Project tokens and split them: batch, heads, tokens, width of a head."""
    gain = _QUERY_GAIN * (size.width // size.heads) ** -0.5 if name.endswith("query") else 1.0
    y = draw.dense(x, name, size.width, gain=gain)
    y = draw.reshape(y, f"{name}_split", x.shape[1], size.heads, size.width // size.heads)
    return draw.transpose(y, result or f"{name}_heads", 0, 2, 1, 3)


def _attend(
    draw: Drawing, x: Tensor, name: str, size: Size, *, causal: bool = False, past: Cache | None = None
) -> Attention:
    """Add attention with its output projection; scores of tokens to come are masked where there is no past."""
    query = _heads(draw, x, f"{name}_query", size)
    kept = ("present_key", "present_value") if causal and past is None else ("", "")
    keys = _heads(draw, x, f"{name}_key", size, kept[0])
    values = _heads(draw, x, f"{name}_value", size, kept[1])
    if past is not None:
        keys = draw.concatenate(past.keys, keys, "present_key", 2, like=keys.name)
        values = draw.concatenate(past.values, values, "present_value", 2, like=values.name)
    flipped = draw.transpose(keys, f"{name}_key_flipped", 0, 1, 3, 2)
    scores = draw.product(query, flipped, f"{name}_scores", at_least=MASKED if causal else 0.0)
    if causal and past is None:
        scores = draw.mask_later(scores, f"{name}_mask")
    weights = draw.softmax(scores, f"{name}_softmax")
    mixed = draw.transpose(draw.product(weights, values, f"{name}_context"), f"{name}_joined", 0, 2, 1, 3)
    merged = draw.reshape(mixed, f"{name}_merged", x.shape[1], size.width)
    return Attention(draw.dense(merged, f"{name}_output", size.width), Cache(keys, values))


def _feed_forward(draw: Drawing, x: Tensor, name: str, size: Size) -> Tensor:
    """Add the two dense layers with a GELU between them."""
    y = draw.gelu(draw.dense(x, f"{name}_inner", 4 * size.width), f"{name}_gelu")
    return draw.dense(y, f"{name}_outer", size.width)


def _block_norm_first(draw: Drawing, x: Tensor, name: str, size: Size) -> Tensor:
    """Add a block that normalises before its parts, as ViT and GPT-2 do."""
    attention = _attend(draw, draw.layer_norm(x, f"{name}_norm1"), f"{name}_attention", size)
    x = draw.add(x, attention.output, f"{name}_sum1")
    return draw.add(x, _feed_forward(draw, draw.layer_norm(x, f"{name}_norm2"), name, size), f"{name}_sum2")


def _block_norm_last(draw: Drawing, x: Tensor, name: str, size: Size) -> Tensor:
    """Add a block that normalises behind its parts, as BERT does."""
    attention = _attend(draw, x, f"{name}_attention", size)
    x = draw.layer_norm(draw.add(x, attention.output, f"{name}_sum1"), f"{name}_norm1")
    return draw.layer_norm(draw.add(x, _feed_forward(draw, x, name, size), f"{name}_sum2"), f"{name}_norm2")


def bert(name: str, size: Size) -> Sketch:
    """Draw a BERT encoder with embeddings and pooler (Devlin et al., NAACL 2019); every token sees every other."""
    draw = Drawing(name)
    words = draw.embed(draw.ids("input_ids", BERT_VOCABULARY, 1, BERT_TOKENS), "words", BERT_VOCABULARY, size.width)
    types = draw.embed(draw.ids("token_type_ids", BERT_TYPES, 1, BERT_TOKENS), "types", BERT_TYPES, size.width)
    places = draw.first_rows(draw.learned("position_table", BERT_POSITIONS, size.width), "positions", BERT_TOKENS)
    x = draw.add(draw.add(words, types, "words_and_types"), places, "embeddings")
    x = draw.layer_norm(x, "embeddings_norm")
    for index in range(1, size.layers + 1):
        x = _block_norm_last(draw, x, f"layer{index}", size)
    pooled = draw.tanh(draw.dense(draw.take(x, "first_token", 1, 0), "pooler", size.width), "pooled")
    return draw.finish(x, pooled)


def vit(name: str, size: Size) -> Sketch:
    """Draw a ViT for 224x224 images in patches of 16x16, with class token (ViT-Ti and -S of DeiT, ICML 2021)."""
    draw = Drawing(name)
    image = draw.floats("image", 1, 3, VIT_SIDE, VIT_SIDE)
    x = draw.convolve(image, "patches", size.width, VIT_PATCH, VIT_PATCH, pads=(0, 0, 0, 0), normalised=False)
    count = x.shape[2] * x.shape[3]
    x = draw.transpose(draw.reshape(x, "patches_flat", size.width, count), "patches_last", 0, 2, 1)
    x = draw.concatenate(draw.learned("class_token", 1, 1, size.width), x, "tokens", 1)
    x = draw.add(x, draw.learned("positions", 1, count + 1, size.width), "embeddings")
    for index in range(1, size.layers + 1):
        x = _block_norm_first(draw, x, f"layer{index}", size)
    x = draw.take(draw.layer_norm(x, "final_norm"), "first_token", 1, 0)
    return draw.finish(draw.dense(x, "logits", VIT_CLASSES))


def decoder(name: str, size: Size, tokens: int, past: int = 0) -> Sketch:
    """Draw one block of GPT-2 (small: 768 wide, 12 heads), whose keys and values are kept in 8-bit codes.

    Args:
        name: the same for all uses of one block: its parameters are drawn from it.
        size: of the block.
        tokens: new tokens; with a past there may be one, since nothing is masked then.
        past: tokens whose keys and values come in as codes and go out with those of the new ones.
    """
    draw = Drawing(name)
    x = draw.floats("hidden", 1, tokens, size.width)
    cache = None
    if past:
        shape = (1, size.heads, past, size.width // size.heads)
        cache = Cache(draw.codes("past_key", "present_key", *shape), draw.codes("past_value", "present_value", *shape))
    attention = _attend(draw, draw.layer_norm(x, "norm1"), "attention", size, causal=True, past=cache)
    x = draw.add(x, attention.output, "sum1")
    x = draw.add(x, _feed_forward(draw, draw.layer_norm(x, "norm2"), "feed_forward", size), "hidden_out")
    return draw.finish(x, caches=(attention.cache.keys, attention.cache.values))
