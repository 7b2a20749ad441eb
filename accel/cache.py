"""Where things that can be made again are kept between runs: a private folder of the user."""

from __future__ import annotations

import os
from pathlib import Path


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
    except OSError:
        return None
    return folder
