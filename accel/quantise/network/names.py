"""Names of layers: short ones for tables, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from onnx import defs

from accelsim.errors import UsageError, printable
from accelsim.quantise.network.source import FloatModel
from accelsim.quantise.scheme import LAYER_FIELDS, LayerBits, Scheme

_LONGEST = 40  # characters
_PARTS = 2
_FUSED = "/MatMulAddFusion"


def short_layer(name: str) -> str:
    """Return the end of a layer's name that tells it from others, printable.

    Args:
        name: of a node. Converters of TensorFlow join several names with ";" and scopes with "/"; onnxruntime appends
            what it has done.
    """
    first = next((part for part in name.split(";") if part), name).removesuffix(_FUSED)
    return printable("/".join(first.split("/")[-_PARTS:]), _LONGEST)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return short names by the full ones; a name whose short form means something else as well stays, printable.

    That is another layer, or a kind of operator.

    Args:
        names: of nodes.
    """
    unique = {full: short for short, full in _by_short_name(names).items() if not defs.has(short)}
    return {name: unique.get(name, printable(name)) for name in names}


def with_full_names(scheme: Scheme, model: FloatModel) -> Scheme:
    """Return a scheme whose layers have their full names, where it has short ones that mean one node only.

    Args:
        scheme: as the user wrote it.
        model: the float model.

    Raises:
        UsageError: a layer has two widths, by its full and by its short name.
    """
    full = _by_short_name(node.name for node in model.proto.graph.node)
    full |= _by_short_name(layer.name for layer in model.layers)
    known = {node.name for node in model.proto.graph.node} | set(model.inputs)
    known |= {node.op_type for node in model.proto.graph.node}

    def resolved(name: str) -> str:
        return name if name in known else full.get(name, name)

    widths = {
        field: tuple(LayerBits(resolved(entry.layer), entry.bits) for entry in getattr(scheme, field))
        for field in LAYER_FIELDS
    }
    for field, entries in widths.items():
        if len({entry.layer for entry in entries}) < len(set(entries)):
            raise UsageError(f"{field} gives a layer two widths, by its full name and by its short one: give it once")
    return replace(
        scheme,
        keep_float=tuple(dict.fromkeys(map(resolved, scheme.keep_float))),
        layer_bits=tuple(dict.fromkeys(widths["layer_bits"])),
        layer_activation_bits=tuple(dict.fromkeys(widths["layer_activation_bits"])),
    )


def _by_short_name(names: Iterable[str]) -> dict[str, str]:
    """Return full names by the short ones that are nobody else's."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(short_layer(name), []).append(name)
    return {short: full[0] for short, full in found.items() if len(full) == 1}
