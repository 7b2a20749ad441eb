"""Opens files that a user names: neither endless devices nor pipes into which nobody writes can stop the program."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path
from typing import BinaryIO

PIPE_SECONDS = 5.0  # to wait for somebody who writes into a named pipe
_PAUSE_SECONDS = 0.02


def read_input(path: str | Path, limit: int) -> bytes:
    """Read a file, or a pipe such as the shell's <(...), up to a limit.

    Args:
        path: the file; a link is followed.
        limit: largest size in bytes that is of use.

    Returns:
        The content; of more than `limit` bytes only the first limit + 1, so that the caller can refuse it.

    Raises:
        OSError: it cannot be read, is a folder, or is a pipe into which nobody writes.
        ValueError: a zero character in the path.
    """
    descriptor = _open(path)
    kind = os.fstat(descriptor).st_mode
    with os.fdopen(descriptor, "rb") as file:
        first = _first_of_pipe(file.fileno()) if stat.S_ISFIFO(kind) else b""
        os.set_blocking(file.fileno(), True)
        return first + file.read(limit + 1 - len(first))


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file, which can be read in any order; errors as for `read_input`, pipes and devices included."""
    descriptor = _open(path)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _open(path: str | Path) -> int:
    """Open for reading without waiting; opening a folder would succeed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return descriptor


def _first_of_pipe(descriptor: int) -> bytes:
    """Return the first byte of a pipe, or nothing when somebody has it open who has not written yet."""
    deadline = time.monotonic() + PIPE_SECONDS
    while time.monotonic() < deadline:
        try:
            first = os.read(descriptor, 1)
        except BlockingIOError:
            return b""
        if first:
            return first
        time.sleep(_PAUSE_SECONDS)
    raise TimeoutError(errno.ETIMEDOUT, "nobody writes into this pipe")
