"""Writes that survive a loss of power."""

import errno
import os
from pathlib import Path

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means that the disk, or the user's quota on it, is full.

    Parameters
    ----------
    error
        The error of a write.

    Returns
    -------
    bool
        True for ``ENOSPC`` and ``EDQUOT``.
    """
    return error.errno in _DISK_FULL


def fsync_directory(folder: Path) -> None:
    """Synchronise a folder to the disk: files created or renamed in it then survive a loss of power.

    Parameters
    ----------
    folder
        The folder.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot synchronise a folder; they commit a rename before it returns.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
