"""The one decorator for kernels: flags stated once, and an on-disk cache that cannot be stale.

Numba's own cache looks only at the file of the kernel, so that an edit of a helper in another file goes unnoticed.
Here the cache folder is named after a hash of all kernel sources and Numba's version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config

from accelsim.cache import private_folder

Function = Callable[..., Any]


@cache
def cache_folder() -> Path | None:
    """Return the folder for compiled kernels, or None when no private folder can be written."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return private_folder(f"kernels-{digest.hexdigest()[:16]}")


def kernel(function: Function) -> Function:
    """Compile a function with Numba on first call: no Python objects, no GIL, no fast-math, cached on disk."""
    folder = cache_folder()
    previous = config.CACHE_DIR
    config.CACHE_DIR = str(folder) if folder else previous
    try:
        compiled: Function = numba.njit(
            cache=folder is not None, nogil=True, fastmath=False, error_model="numpy", boundscheck=None
        )(function)
    finally:
        config.CACHE_DIR = previous
    return compiled
