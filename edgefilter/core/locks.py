"""Locks of files; a lock ends with its process."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from edgefilter.core.errors import EdgefilterError

_POLL_SECONDS = 0.05


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Try to lock a file; the lock ends with the block, or with the process.

    Parameters
    ----------
    path
        The lock file; created if it is missing.

    Yields
    ------
    bool
        Whether this process holds the lock.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def acquire_lock(stack: contextlib.ExitStack, path: Path, seconds: float, error: EdgefilterError) -> None:
    """Lock a file until a stack is closed.

    Parameters
    ----------
    stack
        Releases the lock.
    path
        The lock file; created if it is missing.
    seconds
        How long to wait for the lock, s.
    error
        Raised if another process holds the lock for longer.

    Raises
    ------
    EdgefilterError
        The error.
    """
    until = time.monotonic() + seconds
    while True:
        with contextlib.ExitStack() as attempt:
            if attempt.enter_context(try_lock(path)):
                stack.push(attempt.pop_all())
                return
        if time.monotonic() >= until:
            raise error
        time.sleep(_POLL_SECONDS)
