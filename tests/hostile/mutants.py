"""Seeded mutants of a model: flipped bytes, cut files, and edits of protobuf fields that keep the file parsable."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message
from onnx import ModelProto

INTEGERS = (0, 1, -1, 2, 3, 7, 8, 127, 255, 256, 4096, 65536, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
OPERATORS = (
    "Conv", "Relu", "Add", "Mul", "MatMul", "Gemm", "Softmax", "Sigmoid", "Concat", "Reshape", "Flatten", "Transpose",
    "Slice", "Pad", "Resize", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Cast", "Shape", "Loop",
    "QuantizeLinear", "DequantizeLinear", "QLinearConv", "LSTM", "Nonsense", "",
)  # fmt: skip


def mutant(original: bytes, seed: int) -> bytes:
    """Return one mutant; the same seed always gives the same one.

    Args:
        original: a valid serialised model.
        seed: picks the kind of damage and its place.
    """
    chance = random.Random(seed)
    damage: Callable[[bytes, random.Random], bytes] = chance.choices(
        (_flip_bytes, _truncate, _move_chunk, _edit_fields), weights=(3, 1, 1, 7)
    )[0]
    return damage(original, chance)


def _flip_bytes(original: bytes, chance: random.Random) -> bytes:
    """Overwrite a few bytes anywhere."""
    data = bytearray(original)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def _truncate(original: bytes, chance: random.Random) -> bytes:
    """Cut the end off."""
    return original[: chance.randrange(len(original))]


def _move_chunk(original: bytes, chance: random.Random) -> bytes:
    """Delete a piece, repeat it elsewhere, or fill it with random bytes."""
    start, target = chance.randrange(len(original)), chance.randrange(len(original))
    chunk = original[start : start + chance.choice((1, 2, 8, 64, 1024))]
    rest = original[:start] + original[start + len(chunk) :]
    kind = chance.randrange(3)
    if kind == 0:
        return rest
    if kind == 1:
        return original[:target] + chunk + original[target:]
    return original[:start] + chance.randbytes(len(chunk)) + original[start + len(chunk) :]


def _edit_fields(original: bytes, chance: random.Random) -> bytes:
    """Change one to three fields somewhere in the message tree."""
    model = ModelProto.FromString(original)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        messages = list(_messages(model))
        message = chance.choice(messages)
        fields = [field for field in message.DESCRIPTOR.fields if field.type != field.TYPE_MESSAGE]
        present = [field for field, _ in message.ListFields() if field.type != field.TYPE_MESSAGE]
        chosen = chance.choice(present if present and chance.random() < 0.8 else fields or [None])
        if chance.random() < 0.2 or chosen is None:
            _edit_children(message, chance)
        else:
            _edit_field(message, chosen, chance)
    data: bytes = model.SerializeToString()
    return data


def _messages(root: Message) -> Iterator[Message]:
    """Yield a message and everything below it."""
    pending = [root]
    while pending:
        message = pending.pop()
        yield message
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                pending.extend([value] if isinstance(value, Message) else value)


def _edit_children(message: Message, chance: random.Random) -> None:
    """Delete, repeat or reorder the sub-messages of a message."""
    repeated = [
        value
        for field, value in message.ListFields()
        if field.type == field.TYPE_MESSAGE and not isinstance(value, Message)
    ]
    if not repeated:
        return
    children = chance.choice(repeated)
    index, other = chance.randrange(len(children)), chance.randrange(len(children))
    kind = chance.randrange(3)
    if kind == 0:
        del children[index]
    elif kind == 1:
        children.append(children[index])
    else:
        children[index].CopyFrom(children[other])


def _edit_field(message: Message, field: Any, chance: random.Random) -> None:
    """Give a scalar field, or one element of a repeated one, another value."""
    current = getattr(message, field.name)
    repeated = not isinstance(current, int | float | str | bytes)
    value = _other_value(field, current[0] if repeated and len(current) else current, chance)
    try:
        if not repeated:
            setattr(message, field.name, value)
        elif not len(current) or chance.random() < 0.3:
            current.append(value)
        elif chance.random() < 0.3:
            del current[chance.randrange(len(current))]
        else:
            current[chance.randrange(len(current))] = value
    except (ValueError, TypeError):  # the value does not fit the field: leave it
        return


def _other_value(field: Any, current: Any, chance: random.Random) -> Any:
    """Return a value of a field's type that a careless or hostile writer might store."""
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return chance.choice(FLOATS)
    if field.type == field.TYPE_STRING:
        if field.name == "op_type":
            return chance.choice(OPERATORS)
        return chance.choice(("", "x", "image", "logits", "stem_relu_out", "a\x1b[31mb", "\u202e", f"{current}2"))
    if field.type == field.TYPE_BYTES:
        data = bytearray(current or b"\0\0\0\0")
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data) if chance.random() < 0.7 else bytes(data) * 2
    near = [current - 1, current + 1] if isinstance(current, int) else []
    return chance.choice((*INTEGERS, *near, *near, *near))
