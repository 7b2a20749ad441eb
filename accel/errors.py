"""Every error a user can meet: each composes one sentence (what, where, what to do) and carries its exit code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line, documented in the README and in `accel-sim --help`."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    MISMATCH = 3
    UNSUPPORTED = 4
    INVALID = 5
    RESOURCE = 6
    INTERRUPTED = 130


class AccelSimError(Exception):
    """Base of all errors that are meant for the user."""

    exit_code = ExitCode.INTERNAL


class UsageError(AccelSimError):
    """The command line, the machine description or the inputs given do not make sense."""

    exit_code = ExitCode.USAGE


class InvalidModelError(AccelSimError):
    """The model file is broken, hostile or not a model at all."""

    exit_code = ExitCode.INVALID


class InvalidFileError(AccelSimError):
    """A file that accel-sim wrote is damaged or was altered."""

    exit_code = ExitCode.INVALID


class ResourceLimitError(AccelSimError):
    """A documented limit on size, memory or time was reached."""

    exit_code = ExitCode.RESOURCE


@dataclass(frozen=True)
class Finding:
    """One reason why a model cannot run: which node, which operator, why, and what to do about it."""

    node: str
    operator: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return printable(f"{self.operator} '{printable(self.node)}': {self.reason}; {self.remedy}", 400)


class UnsupportedModelError(AccelSimError):
    """The model is valid, but contains something that the simulator does not execute."""

    exit_code = ExitCode.UNSUPPORTED

    def __init__(self, summary: str, findings: Iterable[Finding] = ()) -> None:
        self.summary = summary
        self.findings = tuple(findings)
        super().__init__("\n".join([summary, *(f"  - {finding}" for finding in self.findings)]))


def printable(text: str, limit: int = 120) -> str:
    """Return the text without control characters and cut to a length that is safe on a terminal.

    Names come from model files that nobody vouches for, so escape sequences must not reach a terminal.

    Args:
        text: any string, for example a node's name.
        limit: largest length of the answer, in characters.
    """
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def nearest(word: str, choices: Sequence[str], limit: int = 12) -> str:
    """Return a hint that names the closest valid word, or lists the first choices when none is close.

    Args:
        word: what was written.
        choices: what is valid; names from a model file are made printable.
        limit: largest number of choices to list.
    """
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{printable(close[0])}'?"
    more = ", ..." if len(choices) > limit else ""
    return f"valid: {', '.join(printable(choice) for choice in choices[:limit])}{more}" if choices else "there are none"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an s where there is not one.

    Args:
        number: how many.
        noun: of one.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# What onnxruntime puts around its messages: error codes, and the place in its sources.
_NOISE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S*/onnxruntime_src/\S+ |\bonnxruntime::[\w:~]+\([^)]*\) ")


def reason_of(error: BaseException, limit: int = 240) -> str:
    """Return what another library's error says, on one line, without its codes and source paths.

    Args:
        error: an exception of onnx, onnxruntime, numpy and the like.
        limit: largest length of the answer, in characters.
    """
    text = _NOISE.sub("", " ".join(str(error).split()))
    return printable(text.rstrip(". ") or type(error).__name__, limit)
