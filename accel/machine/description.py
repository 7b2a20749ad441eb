"""Machines by name: presets, TOML files, and settings such as `--set dram.latency=50`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from accelsim.errors import UsageError, printable
from accelsim.files.reading import read_input
from accelsim.machine.arch import Arch, flatten, parameter_name

_LARGEST_FILE = 1 << 20


def preset_names() -> list[str]:
    """List the machine presets that come with the package."""
    folder = resources.files("accelsim") / "data" / "arch"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _read_description(source: str) -> str:
    """Read the file of a machine description."""
    shown = printable(source)
    try:
        data = read_input(source, _LARGEST_FILE)
        if len(data) > _LARGEST_FILE:
            raise ValueError(f"it is larger than {_LARGEST_FILE >> 20} MiB, which no machine description is")
        return data.decode("utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        names = ", ".join(preset_names())
        what = "a directory, " if isinstance(error, IsADirectoryError) else ""
        raise UsageError(f"--arch '{shown}' is {what}neither a file nor a preset ({names}): give one of them") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, a zero character in the name
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(
            f"cannot read the machine description '{shown}': {reason}: give a TOML file or a preset with --arch"
        ) from None


def _read_toml(source: str) -> Mapping[str, Any]:
    """Read a machine description by preset name or file name."""
    if source in preset_names():
        text = (resources.files("accelsim") / "data" / "arch" / f"{source}.toml").read_text("utf-8")
    else:
        text = _read_description(source)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, absurd numbers raise plain ones
        raise UsageError(f"{source} is not valid TOML: {error}") from None


def _scalar(text: str) -> Any:
    """Read the value of --set as TOML would, falling back to a plain string such as saturate or 64KiB."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # TOMLDecodeError is a ValueError, absurd numbers raise plain ones
        return text
    return table["value"] if len(table) == 1 else text


def load_arch(source: str | None = None, settings: tuple[str, ...] = (), **parameters: Any) -> Arch:
    """Build a machine from a preset or TOML file, then `section.key=value` settings, then named parameters.

    Args:
        source: name of a preset or of a TOML file; None means all defaults.
        settings: strings such as "dram.bytes_per_cycle=8", later ones win.
        **parameters: parameters by name; None leaves a parameter as it is.

    Raises:
        UsageError: unknown file, section, key, or a value out of range.
    """
    values = {} if source is None else flatten(_read_toml(source), source)
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise UsageError(f"--set '{setting}' has no value: write section.key=value such as dram.latency=50")
        values[parameter_name(key.strip(), "--set")] = _scalar(text.strip())
    if parameters.get("array") is not None:
        values.pop("rows", None)
        values.pop("cols", None)
    return Arch(**(values | {name: value for name, value in parameters.items() if value is not None}))


def resolve_arch(value: Arch | str | Path | None) -> Arch:
    """Return the machine that Python code names: itself, a preset, a TOML file, or None for the default one.

    Raises:
        UsageError: it is something else, or there is no such preset or file.
    """
    if value is None or isinstance(value, Arch):
        return value or Arch()
    if not isinstance(value, str | Path):
        raise UsageError(
            f"a machine is an accelsim.Arch, or the name of a preset or TOML file, not {type(value).__name__}: write "
            f"accelsim.Arch(array=(16, 16)) or '{preset_names()[0]}'"
        )
    return load_arch(str(value))
