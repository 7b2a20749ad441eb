"""Runs mutants of a model one after another and reports each on stdout; a process of its own, so that crashes show.

    python -m tests.hostile.batch MODEL FIRST COUNT SECONDS

prints one JSON line before each mutant (its seed) and one after it (the outcome).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

import accelsim
from accelsim.errors import AccelSimError
from tests.hostile.mutants import mutant


class TooSlowError(Exception):
    """A mutant ran longer than its time limit."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise TooSlowError


def outcome_of(data: bytes) -> tuple[str, str]:
    """Load and run one model as the command line does; return what came out, and the message or traceback."""
    try:
        result = accelsim.run(accelsim.load(data))
        result.to_json()
    except AccelSimError as error:
        return f"exit {int(error.exit_code)}", str(error)
    except TooSlowError:
        return "slow", "".join(traceback.format_exc().splitlines(keepends=True)[-8:])
    except Exception:
        return "escaped", traceback.format_exc()
    return result.check.verdict, ""


def main() -> None:
    """Run mutants FIRST .. FIRST + COUNT - 1 of MODEL with SECONDS for each."""
    path, first, count, seconds = sys.argv[1], *map(int, sys.argv[2:5])
    original = Path(path).read_bytes()
    report = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    signal.signal(signal.SIGALRM, _stop)
    for seed in range(first, first + count):
        report.write(json.dumps({"seed": seed}) + "\n")
        report.flush()
        started = time.monotonic()
        signal.alarm(seconds)
        outcome, message = outcome_of(mutant(original, seed))
        signal.alarm(0)
        elapsed = round(time.monotonic() - started, 3)
        report.write(json.dumps({"seed": seed, "outcome": outcome, "message": message, "seconds": elapsed}) + "\n")
    report.flush()


if __name__ == "__main__":
    main()
