"""The ring's file in memory: made in one step, mapped twice in a row, and fenced where the processor reorders.

Nothing here knows samples. The few system calls that Python's own modules lack are made through ctypes.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.errors import InputError

_MAP_FIXED = 0x10
_MAP_FAILED = ctypes.c_void_p(-1).value
_PROT_NONE = 0

_STRONGLY_ORDERED = ("x86_64", "AMD64", "s390x")
"""Machines that show every process another one's stores in the order in which they were made."""
_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "loongarch64": 283, "ppc64le": 365}
"""Number of the membarrier system call."""
_GLOBAL_EXPEDITED, _REGISTER_GLOBAL_EXPEDITED = 2, 4


def make_file(path: Path, size: int, fill: Callable[[memoryview], None]) -> bool:
    """Make a file of ``size`` bytes of memory appear at ``path``, complete, or not at all.

    It is nameless until it is filled, so a process that dies here leaves nothing behind, and nobody ever opens a file
    that is half made. Its memory is taken now: a file system that fills up later cannot stop a writer.

    Parameters
    ----------
    path
        Where, in a file system that is memory, such as ``/dev/shm``.
    size
        Bytes.
    fill
        Writes the first page or more into the zeroed file.

    Returns
    -------
    bool
        False if there is a file at ``path`` already.

    Raises
    ------
    InputError
        If it cannot be made there.
    """
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            with mmap.mmap(descriptor, size) as whole, memoryview(whole) as view:
                fill(view)
            # With a directory given Python calls linkat(), which follows the link in /proc; link() would not.
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
        finally:
            os.close(descriptor)
    except FileExistsError:
        return False
    except OSError as error:
        raise InputError(f"{path}: a ring of {size / 2**20:.0f} MiB cannot be made: {error.strerror}") from None
    return True


class MirroredMapping:
    """A part of a file, mapped twice in a row: what wraps around its end is in one piece all the same.

    Parameters
    ----------
    descriptor
        Of the file.
    offset, size
        The part, in whole pages.
    writable
        Whether it may be written.
    """

    def __init__(self, descriptor: int, offset: int, size: int, writable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        base = _map(None, 2 * size, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self._release = weakref.finalize(self, _libc().munmap, ctypes.c_void_p(base), ctypes.c_size_t(2 * size))
        self._release.atexit = False  # other threads may still use it then
        for half_address in (base, base + size):
            _map(half_address, size, protection, mmap.MAP_SHARED | mmap.MAP_POPULATE | _MAP_FIXED, descriptor, offset)
        # Arrays made of this keep it alive: the memory is given back with the last of them.
        self.__array_interface__ = {
            "version": 3,
            "shape": (2 * size,),
            "typestr": "|u1",
            "data": (base, not writable),
        }

    def array(self) -> NDArray[np.uint8]:
        """Return the memory as uint8, shape ``[2 * size]``; byte ``i`` and byte ``i + size`` are the same."""
        return np.asarray(self)


def make_fence(machine: str | None = None) -> Callable[[], None]:
    """Return a function that a writer calls between stores that others must see in this order.

    On x86 that is nothing: its stores are seen in order, its loads made in order. Elsewhere it is ``membarrier(2)``,
    which makes every running thread of all processes that have called :func:`make_fence` pass a full barrier. So the
    writer alone pays, and a reader's plain loads are in order with respect to the writer's steps.

    Parameters
    ----------
    machine
        Processor, as :func:`platform.machine` calls it; this one's if None. With a leading ``+`` the system call is
        made even where it is not needed.

    Raises
    ------
    InputError
        If this machine needs the call and does not have it.
    """
    machine = machine or platform.machine()
    if machine in _STRONGLY_ORDERED:
        return _no_fence
    number = _MEMBARRIER.get(machine.lstrip("+"))
    syscall = _libc().syscall
    if number is None or syscall(number, _REGISTER_GLOBAL_EXPEDITED, 0, 0):
        raise InputError(f"a ring on {machine.lstrip('+')} needs Linux 4.16 or newer with membarrier(2) allowed")

    def fence() -> None:
        if syscall(number, _GLOBAL_EXPEDITED, 0, 0):
            raise OSError(ctypes.get_errno(), "membarrier")

    return fence


def lock_byte(descriptor: int, byte: int, wait: bool = False) -> bool:
    """Lock one byte of a file for this open file; the lock ends with :func:`unlock_byte` or with the process.

    Returns
    -------
    bool
        False if another holds it and ``wait`` is False.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, byte))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unlock_byte(descriptor: int, byte: int) -> None:
    """Give a byte back."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, byte))


def byte_is_locked(descriptor: int, byte: int) -> bool:
    """Say whether another open file holds a byte."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, byte))
    kind: int = struct.unpack_from("h", answer)[0]
    return kind != fcntl.F_UNLCK


def _flock(kind: int, byte: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0)


def _no_fence() -> None:
    pass


def _libc() -> Any:
    # Of this process: the C library that Python itself runs on.
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    )  # fmt: skip
    library.syscall.restype = ctypes.c_long
    return library


def _map(address: int | None, size: int, protection: int, flags: int, descriptor: int, offset: int) -> int:
    mapped: int | None = _libc().mmap(address, size, protection, flags, descriptor, offset)
    if mapped is None or mapped == _MAP_FAILED:
        raise InputError(f"a ring of {size / 2**21:.0f} MiB cannot be mapped: {os.strerror(ctypes.get_errno())}")
    return mapped
