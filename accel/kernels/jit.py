"""The one decorator for kernels: flags stated once, and an on-disk cache that cannot be stale.

Numba's own cache looks only at the file of the kernel, so that an edit of a helper in another file goes unnoticed.
Here the cache folder is named after a hash of Numba's version and of all sources that the kernel may call: those of its
own room, and those that lie beside this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config

from accelsim.files.cache import private_folder

Function = Callable[..., Any]


@cache
def cache_folder(room: Path) -> Path | None:
    """Return the folder for the compiled kernels of a room, or None when no private folder can be written.

    Args:
        room: the folder of their sources.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    shared = Path(__file__).parent
    for source in (path for folder in dict.fromkeys((shared, room)) for path in sorted(folder.glob("*.py"))):
        digest.update(source.read_bytes())
    return private_folder(f"kernels-{digest.hexdigest()[:16]}")


def kernel(function: Function) -> Function:
    """Compile a function with Numba on first call: no Python objects, no GIL, no fast-math, cached on disk."""
    folder = cache_folder(Path(function.__code__.co_filename).parent)
    previous = config.CACHE_DIR
    config.CACHE_DIR = str(folder) if folder else previous
    try:
        compiled: Function = numba.njit(
            cache=folder is not None, nogil=True, fastmath=False, error_model="numpy", boundscheck=None
        )(function)
    finally:
        config.CACHE_DIR = previous
    return compiled
