"""The machine's parameters: one flat, validated, frozen description (timing contract, section 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, model_validator

from accelsim.errors import UsageError, nearest, printable

MAX_SIDE = 1024
CLOCK_LIMITS_GHZ = (1e-6, 1000.0)

# The key of a parameter in TOML files and in --set, section by section: the only table of their names.
SECTIONS: dict[str, dict[str, str]] = {
    "array": {
        "rows": "rows",
        "cols": "cols",
        "dataflow": "dataflow",
        "act_bits": "act_bits",
        "weight_bits": "weight_bits",
        "weight_double_buffer": "weight_double_buffer",
        "weight_load": "weight_load",
        "drain_overlap": "drain_overlap",
        "flush_between_tiles": "flush_between_tiles",
        "x_gather_words_per_cycle": "x_gather_words_per_cycle",
        "zp_mode": "zp_mode",
        "weight_zero_point": "weight_zero_point",
        "sram_read_latency": "sram_read_latency",
        "acc_write_latency": "acc_write_latency",
    },
    "accumulator": {"bits": "acc_bits", "overflow": "overflow", "rows": "acc_rows", "banks": "acc_banks"},
    "buffers": {
        "activation": "spm_act",
        "weight": "spm_weight",
        "operand_buffers": "operand_buffers",
        "output_buffers": "output_buffers",
        "keep_activations": "keep_activations",
    },
    "requant": {"mode": "requant_mode", "lanes": "requant_lanes", "latency": "requant_latency"},
    "vector": {"lanes": "vector_lanes", "latency": "vector_latency"},
    "dram": {
        "bytes_per_cycle": "dram_bytes_per_cycle",
        "latency": "dram_latency",
        "burst": "dram_burst",
        "channel": "dram_channel",
        "prefetch_weights": "prefetch_weights",
        "row_bytes": "dram_row_bytes",
        "row_miss": "dram_row_miss",
        "banks": "dram_banks",
    },
    "mapping": {"objective": "objective"},
    "clock": {"ghz": "clock_ghz"},
}
KEYS = {f"{section}.{key}": name for section, keys in SECTIONS.items() for key, name in keys.items()}

Side = Annotated[int, Field(strict=True, ge=1, le=MAX_SIDE)]


class Arch(BaseModel):
    """A MAC-array accelerator: array, accumulators, buffers, requantiser, vector unit, DRAM, clock.

    All parameters are keyword arguments with the defaults of the timing contract, section 9; `array=(rows, cols)`
    is accepted in place of `rows` and `cols`. Sizes of buffers are in bytes and may be written as "192KiB". A limit of
    0 words gathered per cycle is no limit, as None is, so that TOML and JSON can say it.

    Raises:
        UsageError: a parameter is unknown, of the wrong type or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    rows: Side = 16
    cols: Side = 16
    dataflow: Literal["ws", "os", "is", "best"] = "ws"
    act_bits: Literal[8] = 8
    weight_bits: Literal[8] = 8
    acc_bits: Annotated[int, Field(strict=True, ge=8, le=64)] = 32
    overflow: Literal["wrap", "saturate"] = "wrap"
    zp_mode: Literal["fold", "subtract"] = "fold"
    weight_zero_point: Literal["wide-operand", "row-sum"] = "wide-operand"
    weight_double_buffer: bool = True
    drain_overlap: bool = True
    flush_between_tiles: bool = False
    weight_load: Literal["used", "full"] = "used"
    x_gather_words_per_cycle: Annotated[int, Field(strict=True, ge=0, le=MAX_SIDE)] | None = None
    sram_read_latency: Literal[1] = 1
    acc_write_latency: Literal[1] = 1
    acc_rows: Annotated[int, Field(strict=True, ge=1, le=1 << 20)] = 512
    acc_banks: Annotated[int, Field(strict=True, ge=1, le=8)] = 2
    operand_buffers: Annotated[int, Field(strict=True, ge=1, le=8)] = 2
    output_buffers: Annotated[int, Field(strict=True, ge=1, le=8)] = 2
    spm_act: Annotated[ByteSize, Field(ge=1, le=1 << 34)] = ByteSize(192 * 1024)
    spm_weight: Annotated[ByteSize, Field(ge=1, le=1 << 34)] = ByteSize(64 * 1024)
    keep_activations: bool = True
    requant_mode: Literal["f32", "q31"] = "f32"
    requant_lanes: Annotated[int, Field(strict=True, ge=1, le=4096)] | None = None
    requant_latency: Annotated[int, Field(strict=True, ge=0, le=1000)] = 4
    vector_lanes: Annotated[int, Field(strict=True, ge=1, le=4096)] = 16
    vector_latency: Annotated[int, Field(strict=True, ge=0, le=1000)] = 4
    dram_bytes_per_cycle: Annotated[int, Field(strict=True, ge=1, le=1 << 16)] = 16
    dram_latency: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 100
    dram_burst: Annotated[int, Field(strict=True, ge=1, le=1 << 16)] = 64
    dram_channel: Literal["shared", "private"] = "shared"
    prefetch_weights: bool = False
    dram_row_bytes: Annotated[int, Field(strict=True, ge=0, le=1 << 20)] = 0
    dram_row_miss: Annotated[int, Field(strict=True, ge=0, le=10_000)] = 30
    dram_banks: Annotated[int, Field(strict=True, ge=1, le=1024)] = 8
    objective: Literal["cycles", "energy", "edp"] = "edp"
    clock_ghz: Annotated[float, Field(ge=CLOCK_LIMITS_GHZ[0], le=CLOCK_LIMITS_GHZ[1], allow_inf_nan=False)] = 1.0

    def __init__(self, **parameters: Any) -> None:
        try:
            super().__init__(**parameters)
        except ValidationError as error:
            raise UsageError(_explain(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _split_array(cls, values: Any) -> Any:
        """Turn `array=(rows, cols)` into its two parameters."""
        if not isinstance(values, dict):
            return values
        words = (
            "dataflow", "overflow", "zp_mode", "weight_zero_point", "weight_load", "requant_mode", "dram_channel",
            "objective",
        )  # fmt: skip
        values = {n: v.lower() if n in words and isinstance(v, str) else v for n, v in values.items()}
        for name, value in values.items():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                spelled = next((key for key, other in KEYS.items() if other == name), name)
                raise UsageError(f"machine description: {name} ({spelled}): {str(value).lower()} is no value of it")
        if values.get("x_gather_words_per_cycle") == 0:
            values["x_gather_words_per_cycle"] = None
        if "array" not in values:
            return values
        if "rows" in values or "cols" in values:
            raise UsageError("machine description: give either array or rows and cols, not both")
        rows, cols = parse_array(values.pop("array"))
        return values | {"rows": rows, "cols": cols}

    @model_validator(mode="after")
    def _room_for_row_sums(self) -> Arch:
        """Refuse machines on which a row sum leaves no room for any output."""
        streams = self.dataflow in ("is", "best") and self.acc_rows < 2
        if self.weight_zero_point == "row-sum" and (streams or (self.dataflow != "is" and self.cols < 2)):
            key = "accumulator.rows" if streams else "array.cols"
            raise UsageError(
                f"array.weight_zero_point=row-sum needs {key} of at least 2, one of them for the sums: raise it, "
                "or take wide-operand"
            )
        return self

    @model_validator(mode="after")
    def _rows_of_whole_bursts(self) -> Arch:
        """Refuse DRAM rows that a burst could straddle."""
        if self.dram_row_bytes % self.dram_burst:
            raise UsageError(
                f"dram.row_bytes={self.dram_row_bytes} is no multiple of dram.burst={self.dram_burst}: a burst lies in "
                "one row, so choose a multiple, or 0 for no row model"
            )
        return self

    @property
    def array(self) -> tuple[int, int]:
        """Rows and columns of the MAC array."""
        return self.rows, self.cols

    @property
    def requantiser_lanes(self) -> int:
        """Elements that the requantiser takes per cycle (default: one per column)."""
        return self.requant_lanes or self.cols

    def gather_cycles(self, lanes: int) -> int:
        """Issue cycles of one array step that gathers this many activations (contract, section 4.5)."""
        return 1 if self.x_gather_words_per_cycle is None else -(-lanes // self.x_gather_words_per_cycle)

    def utilisation(self, macs: int, cycles: int) -> float:
        """Return the share of MAC slots that are used in some cycles, 0 in none (contract, section 4.3).

        Args:
            macs: multiply-accumulates done.
            cycles: in which the array could have done more.
        """
        return macs / (self.rows * self.cols * cycles) if cycles else 0.0

    def with_dataflow(self, dataflow: str) -> Arch:
        """Return this machine with the dataflow that a plan chose, for the parts that execute one layer."""
        return self if self.dataflow == dataflow else self.model_copy(update={"dataflow": dataflow})

    def evolve(self, **changes: Any) -> Arch:
        """Return a copy with some parameters changed, validated like a new one."""
        return Arch(**(self.model_dump() | changes))

    @classmethod
    def from_sections(cls, sections: Mapping[str, Mapping[str, Any]]) -> Arch:
        """Return the machine that a result describes (`result.arch`, the key "arch" of result.json).

        Args:
            sections: parameters by section and key; what is left out has its default.

        Raises:
            UsageError: unknown section or key, or a value out of range.
        """
        return cls(**flatten(sections, "the machine of a result"))

    def to_sections(self) -> dict[str, dict[str, Any]]:
        """Return every parameter under the section and key that TOML files and --set use, defaults resolved.

        A machine that is made of them takes the same cycles as this one.
        """
        values = self.model_dump() | {
            "requant_lanes": self.requantiser_lanes,
            "x_gather_words_per_cycle": self.x_gather_words_per_cycle or 0,
        }
        return {s: {key: values[name] for key, name in keys.items()} for s, keys in SECTIONS.items()}


def parse_array(value: object) -> tuple[int, int]:
    """Read the shape of an array, given as (rows, cols), as 16, or as text such as "16x16", "16X16", "16".

    Raises:
        UsageError: the value is no shape, or a side is outside 1..1024.
    """
    parts = [str(part) for part in value] if isinstance(value, list | tuple) else str(value).lower().split("x")
    if len(parts) == 1:
        parts *= 2
    if len(parts) != 2 or not all(re.fullmatch(r"\s*-?[0-9]{1,9}\s*", part) for part in parts):
        raise UsageError(
            f"'{printable(str(value))}' is not an array shape: write ROWSxCOLS such as 16x16, or 16 for a square"
        )
    rows, cols = (int(part) for part in parts)
    if not (1 <= rows <= MAX_SIDE and 1 <= cols <= MAX_SIDE):
        raise UsageError(f"array {rows}x{cols} is outside 1x1..{MAX_SIDE}x{MAX_SIDE}: choose sides in that range")
    return rows, cols


def _explain(error: ValidationError) -> str:
    """Turn pydantic's report into one sentence that names each key and what it accepts."""
    spelled = {name: key for key, name in KEYS.items()}
    parts = []
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else ""
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown parameter '{name}' ({nearest(name, sorted(Arch.model_fields))})")
        else:
            message = item["msg"].removeprefix("Value error, ")
            if item["type"].startswith("byte_size"):
                message = "write a number of bytes, at least 1, such as 65536 or 64KiB"
            parts.append(
                f"{name} ({spelled.get(name, name)}): {message[:1].lower()}{message[1:]}, got {item['input']!r}"
            )
    return "machine description: " + "; ".join(parts)


def flatten(table: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Map section.key to parameter names, refusing anything unknown with the nearest valid key."""
    flat: dict[str, Any] = {}
    for section, keys in table.items():
        if section not in SECTIONS or not isinstance(keys, Mapping):
            raise UsageError(f"{source}: unknown section [{section}] ({nearest(section, list(SECTIONS))})")
        for key, value in keys.items():
            flat[parameter_name(f"{section}.{key}", source)] = value
    return flat


def parameter_name(key: str, source: str) -> str:
    """Return the parameter that a section.key (or the flat name itself) stands for."""
    if key in KEYS:
        return KEYS[key]
    if key in Arch.model_fields:
        return key
    raise UsageError(f"{source}: unknown key '{key}' ({nearest(key, [*KEYS, *Arch.model_fields])})")
