"""A quantisation scheme: one frozen, validated description, by name or spelled out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accelsim.errors import UsageError, nearest, printable

MAPPINGS = ("symmetric", "affine")
GRANULARITIES = ("tensor", "channel", "group")
ACTIVATION_RANGES = ("min-max", "abs-max", "percentile", "entropy", "mse", "sqnr", "cross-entropy", "moving-average")
WEIGHT_RANGES = ("min-max", "abs-max", "percentile", "mse", "sqnr")
FORMATS = ("integer", "fp16", "fp32")
LAYER_FIELDS = ("layer_bits", "layer_activation_bits")  # widths by layer
_WEIGHT_BITS = (2, 4, 8, 16)
_ACTIVATION_BITS = (8, 16)
_LARGEST_BLOCK = 1 << 16


@dataclass(frozen=True)
class LayerBits:
    """The width of one layer's weights, or of its activations, by its name."""

    layer: str
    bits: int


@dataclass(frozen=True)
class Scheme:
    """How a float model is quantised.

    name: what it is called in tables.
    format: "integer", or "fp16" and "fp32", which keep floats and exist for comparison.
    activation_bits: 8 or 16; activation_signed: int8/int16 codes, else uint8/uint16; activation_mapping: "symmetric"
        (the zero point is the middle code, a range [-a, a]) or "affine" (any zero point); activation_narrow: leave the
        lowest code out, so that a signed grid has as many negative codes as positive ones.
    activation_range: how the range of an activation is chosen from calibration data. min-max, abs-max: all values;
        percentile: the central `percentile` per cent; entropy: least Kullback-Leibler divergence (onnxruntime's);
        mse (also called sqnr, which is the same optimum): least mean squared error; cross-entropy: least loss on
        labelled data; moving-average: extremes of single samples (or fixed batches), averaged with weight `averaging`.
    weight_bits: 2, 4, 8 or 16; weight_mapping, weight_narrow, weight_range: as for activations.
    granularity: a scale per weight "tensor", output "channel", or "group" of `block` weights along the input channels.
    layer_bits: other weight widths for some layers; layer_activation_bits: other widths for what some layers write;
    keep_float: names of layers or kinds of operators left in float.
    bias_correction: shift biases by the mean error that the quantised weights make on the calibration data.
    equalise: scale channels of neighbouring layers to equal ranges before anything else.
    """

    name: str = "int8-per-channel"
    format: str = "integer"
    activation_bits: int = 8
    activation_signed: bool = True
    activation_mapping: str = "affine"
    activation_narrow: bool = False
    activation_range: str = "min-max"
    percentile: float = 99.99
    averaging: float = 0.1
    weight_bits: int = 8
    weight_mapping: str = "symmetric"
    weight_narrow: bool = True
    weight_range: str = "min-max"
    granularity: str = "channel"
    block: int = 0
    layer_bits: tuple[LayerBits, ...] = ()
    layer_activation_bits: tuple[LayerBits, ...] = ()
    keep_float: tuple[str, ...] = ()
    bias_correction: bool = False
    equalise: bool = False

    def __post_init__(self) -> None:
        """Check every field, and that they go together.

        Raises:
            UsageError: one of them does not.
        """
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), getattr(Scheme, field.name, ()))
        _check_choice("format", self.format, FORMATS)
        _check_choice("activation_mapping", self.activation_mapping, MAPPINGS)
        _check_choice("weight_mapping", self.weight_mapping, MAPPINGS)
        _check_choice("granularity", self.granularity, GRANULARITIES)
        _check_choice("activation_range", self.activation_range, ACTIVATION_RANGES)
        _check_choice("weight_range", self.weight_range, WEIGHT_RANGES)
        for label, bits in (
            ("activation_bits", self.activation_bits),
            *((entry.layer, entry.bits) for entry in self.layer_activation_bits),
        ):
            _check_bits(label, bits, _ACTIVATION_BITS)
        for label, bits in (("weight_bits", self.weight_bits), *((e.layer, e.bits) for e in self.layer_bits)):
            _check_bits(label, bits, _WEIGHT_BITS)
        if not 50 < self.percentile <= 100:
            raise UsageError(f"the percentile must be above 50 and at most 100, got {self.percentile}")
        if not 0 < self.averaging < 1:
            raise UsageError(f"the weight of the moving average must be between 0 and 1, got {self.averaging}")
        if (self.granularity == "group") != (self.block > 0):
            raise UsageError(
                f"granularity 'group' needs a block size and no other takes one, got '{self.granularity}' with block "
                f"{self.block}: set granularity=group and block=32, for example"
            )
        if self.block and not 2 <= self.block <= _LARGEST_BLOCK:
            raise UsageError(f"a block has 2 to {_LARGEST_BLOCK:,} weights, got {self.block}")
        if self.activation_narrow and self.activation_mapping == "affine":
            raise UsageError(
                "activations cannot be narrow and affine, because QuantizeLinear saturates at its type's own ends: set "
                "activation_mapping=symmetric"
            )

    @property
    def is_integer(self) -> bool:
        """Whether the result is a Q/DQ model that the machine runs in integers."""
        return self.format == "integer"

    @property
    def needs_labels(self) -> bool:
        """Whether ranges are chosen by the loss on labelled data."""
        return self.is_integer and self.activation_range == "cross-entropy"

    @property
    def opset(self) -> int:
        """The oldest operator set that can spell the scheme: 13 has axes, 21 blocks, 4 and 16 bits, 25 has 2 bits."""
        widths = {self.weight_bits, self.activation_bits}
        widths |= {entry.bits for entry in (*self.layer_bits, *self.layer_activation_bits)}
        if 2 in widths:
            return 25
        return 21 if widths != {8} or self.block else 13

    def weight_bits_of(self, layer: str) -> int:
        """Return the weight width of a layer."""
        return next((entry.bits for entry in self.layer_bits if entry.layer == layer), self.weight_bits)

    def to_dict(self) -> dict[str, Any]:
        """Return the scheme as plain data."""
        data = dataclasses.asdict(self)
        data["keep_float"] = list(self.keep_float)
        for name in LAYER_FIELDS:
            data[name] = {entry.layer: entry.bits for entry in getattr(self, name)}
        return data


def _check_type(label: str, value: object, default: object) -> None:
    """Refuse a value of another type than the default's; whole numbers may stand for fractions."""
    wanted = type(default)
    good = isinstance(value, int | float) and not isinstance(value, bool) if wanted is float else type(value) is wanted
    if not good:
        raise UsageError(f"{label} of a scheme is {wanted.__name__}, got {printable(repr(value), 60)}")


def _check_choice(label: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is none of the choices."""
    if value not in choices:
        raise UsageError(f"there is no {label} '{printable(value)}' ({nearest(value, choices)})")


def _check_bits(label: str, bits: int, choices: tuple[int, ...]) -> None:
    """Refuse a width that the machine has no codes for; 1 bit needs training."""
    if bits not in choices:
        more = ": 1-bit networks have to be trained as such, bring them as QONNX" if bits == 1 else ""
        shown = ", ".join(map(str, choices))
        raise UsageError(f"{printable(label)} must be one of {shown}, got {bits}{more}")


_SYMMETRIC: Mapping[str, Any] = {"activation_mapping": "symmetric", "activation_narrow": True}
_AFFINE_WEIGHTS: Mapping[str, Any] = {"weight_mapping": "affine", "weight_narrow": False}
_TENSOR: Mapping[str, Any] = {"granularity": "tensor"}
_UNSIGNED: Mapping[str, Any] = {"activation_signed": False}
_INT16: Mapping[str, Any] = {"activation_bits": 16, **_SYMMETRIC}

# What the names mean, as differences from the defaults of Scheme.
_NAMED: Mapping[str, Mapping[str, Any]] = {
    "int8-symmetric": {**_SYMMETRIC, **_TENSOR},
    "int8-affine": _TENSOR,
    "int8-affine-weights": {**_TENSOR, **_AFFINE_WEIGHTS},
    "int8-per-channel": {},
    "int8-symmetric-per-channel": _SYMMETRIC,
    "int8-affine-weights-per-channel": _AFFINE_WEIGHTS,
    "uint8": {**_UNSIGNED, **_TENSOR},
    "uint8-per-channel": _UNSIGNED,
    "w4a8": {"weight_bits": 4, "weight_range": "mse"},
    "w4a8-g32": {"weight_bits": 4, "weight_range": "mse", "granularity": "group", "block": 32},
    "w2a8": {"weight_bits": 2, "weight_range": "mse"},
    "w4a16": {"weight_bits": 4, "weight_range": "mse", **_INT16},
    "w8a16": _INT16,
    "int16": {"weight_bits": 16, **_INT16, **_TENSOR},
    "fp16": {"format": "fp16"},
    "fp32": {"format": "fp32"},
}
NAMES = tuple(_NAMED)


def named(name: str) -> Scheme:
    """Return a scheme by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in _NAMED:
        raise UsageError(f"there is no scheme '{printable(name)}' ({nearest(name, NAMES, len(NAMES))})")
    return Scheme(name=name, **_NAMED[name])


def parse_scheme(text: str, options: Sequence[str] = ()) -> Scheme:
    """Return the scheme that a text like "int8-per-channel+activation_range=mse+bias_correction" describes.

    Args:
        text: a name, then any number of "+key=value"; "+key" switches something on, "+layer_bits.NAME=4" sets the width
            of one layer's weights, "+layer_activation_bits.NAME=16" that of what it writes, "+keep_float=NAME" adds a
            layer or a kind of operator.
        options: more of the same without the "+", so that names of layers may contain one.

    Raises:
        UsageError: a name, a key or a value is none, or a key has two values.
    """
    name, *more = text.split("+")
    return changed(named(name.strip()), [*more, *options])


def changed(scheme: Scheme, options: Sequence[str]) -> Scheme:
    """Return a scheme with options of the form "key=value" applied, and named after them.

    Args:
        scheme: what to start from.
        options: forms and errors as for `parse_scheme`.
    """
    changes: dict[str, Any] = {}
    layers = {name: {entry.layer: entry.bits for entry in getattr(scheme, name)} for name in LAYER_FIELDS}
    floats = list(scheme.keep_float)
    given = tuple(dict.fromkeys(option.strip() for option in options))
    known: dict[str, Any] = {}
    for option in given:
        key, value = _split(option)
        field, _, layer = key.partition(".")
        if key == "keep_float":
            floats.append(value)
            continue
        wide = field in LAYER_FIELDS and layer
        known[key] = _once(key, _number(key, value, whole=True) if wide else _value(key, value), known)
        if wide:
            layers[field][layer] = known[key]
        else:
            changes[key] = known[key]
    if changes.get("block") and "granularity" not in changes:
        changes["granularity"] = "group"
    elif changes.get("granularity", "group") != "group" and "block" not in changes:
        changes["block"] = 0
    changes |= {name: tuple(LayerBits(*entry) for entry in entries.items()) for name, entries in layers.items()}
    return replace(scheme, name="+".join((scheme.name, *given)), keep_float=tuple(floats), **changes)


def _split(option: str) -> tuple[str, str]:
    """Return key and value; widths come last, since a layer's name may contain an equals sign."""
    if option.startswith(tuple(f"{name}." for name in LAYER_FIELDS)) and "=" in option:
        key, _, value = option.rpartition("=")
    else:
        key, _, value = option.partition("=")
    return key, value


def _once(key: str, value: Any, known: Mapping[str, Any]) -> Any:
    """Return a value, unless the same key has another one."""
    if known.get(key, value) != value:
        raise UsageError(f"{printable(key)} is given as {known[key]} and as {value}: give it once")
    return value


def _value(key: str, text: str) -> Any:
    """Read the value of a field from text, by the type of its default."""
    known = {field.name: field.default for field in dataclasses.fields(Scheme) if field.name not in ("name", "format")}
    known = {name: default for name, default in known.items() if not isinstance(default, tuple)}
    if key not in known:
        choices = (*known, *(f"{name}.LAYER" for name in LAYER_FIELDS), "keep_float")
        raise UsageError(f"a scheme has no option '{printable(key)}' ({nearest(key, choices, len(choices))})")
    default = known[key]
    if isinstance(default, bool):
        words = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in words:
            raise UsageError(f"{key} is true or false, got '{printable(text)}'")
        return words[text.lower()]
    if isinstance(default, str):
        return text
    return _number(key, text, whole=isinstance(default, int))


def _number(key: str, text: str, *, whole: bool) -> float:
    """Read a finite number, as an int where a field wants a whole one."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (whole and not number.is_integer()):
        raise UsageError(f"{printable(key)} is a {'whole ' if whole else ''}number, got '{printable(text)}'")
    return int(number) if whole else number
