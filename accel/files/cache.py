"""Where things that can be made again are kept between runs: a private folder of the user."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from accelsim.errors import printable


def private_folder(name: str) -> Path | None:
    """Return a folder that exists and can be written, or None when there is none.

    Args:
        name: of the folder below `accelsim/` in ACCEL_SIM_CACHE_DIR, else XDG_CACHE_HOME, else ~/.cache.
    """
    base = (
        os.environ.get("ACCEL_SIM_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    )
    folder = Path(base) / "accelsim" / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        _warn(base, error.strerror or str(error))
        return None
    return folder


@cache
def _warn(base: str, reason: str) -> None:
    """Say once per process why every run will be slow."""
    sys.stderr.write(
        f"accel-sim: warning: cannot keep compiled kernels and models in {printable(base)}: {printable(reason)}: "
        f"every run makes them again; name a folder with ACCEL_SIM_CACHE_DIR\n"
    )
