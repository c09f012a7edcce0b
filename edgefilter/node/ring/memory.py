"""System calls for the ring: make the file in one step, map it twice in a row, order stores, lock bytes.

Python's modules lack a few of these calls; ctypes makes them.
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
"""Machines on which every process sees the stores of another process in their order."""
_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "loongarch64": 283, "ppc64le": 365}
"""Number of the membarrier system call."""
_GLOBAL_EXPEDITED, _REGISTER_GLOBAL_EXPEDITED = 2, 4


def make_file(path: Path, size: int, fill: Callable[[memoryview], None]) -> bool:
    """Make a file that appears at ``path`` complete or not at all.

    The file has no name until it is filled: a process that dies here leaves nothing behind, and no process opens an
    incomplete file. All its memory is allocated here: a file system that fills up later cannot stop the writer.

    Parameters
    ----------
    path
        The file, in a file system that is memory, such as ``/dev/shm``.
    size
        Size of the file, bytes.
    fill
        Function that writes the initial content into the zeroed memory.

    Returns
    -------
    bool
        False if a file exists at ``path`` already.

    Raises
    ------
    InputError
        If the file cannot be made.
    """
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            with mmap.mmap(descriptor, size) as whole, memoryview(whole) as view:
                fill(view)
            # Given a directory, Python calls linkat(), which follows the link in /proc; link() does not.
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
        finally:
            os.close(descriptor)
    except FileExistsError:
        return False
    except OSError as error:
        raise InputError(f"{path}: a ring of {size / 2**20:.0f} MiB cannot be made: {error.strerror}") from None
    return True


class MirroredMapping:
    """A part of a file, mapped twice in a row, so that data which wrap around its end are contiguous.

    Parameters
    ----------
    descriptor
        Descriptor of the open file.
    offset, size
        The part of the file, bytes; whole pages.
    writable
        Whether the memory may be written.
    """

    def __init__(self, descriptor: int, offset: int, size: int, writable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        base = _map(None, 2 * size, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self._release = weakref.finalize(self, _libc().munmap, ctypes.c_void_p(base), ctypes.c_size_t(2 * size))
        self._release.atexit = False  # at exit other threads may still use the memory
        for half_address in (base, base + size):
            _map(half_address, size, protection, mmap.MAP_SHARED | mmap.MAP_POPULATE | _MAP_FIXED, descriptor, offset)
        # Arrays that are made from this object keep it alive; the last of them unmaps the memory.
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
    """Return a fence: a function that a writer calls between stores which other processes must see in order.

    On x86 the fence does nothing, because stores become visible in order and loads are made in order. On other machines
    it is ``membarrier(2)``: every running thread of all processes that have called :func:`make_fence` passes a full
    barrier. Only the writer pays for it; readers use plain loads.

    Parameters
    ----------
    machine
        Processor, as :func:`platform.machine` names it; None is this machine. With a leading ``+`` the fence makes the
        system call even on x86.

    Returns
    -------
    callable
        The fence, without parameters.

    Raises
    ------
    InputError
        If this machine needs the system call and does not have it.
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
    """Lock one byte of a file for this open file, until :func:`unlock_byte` or the end of the process.

    Parameters
    ----------
    descriptor
        Descriptor of the open file.
    byte
        Position of the byte.
    wait
        Whether to wait until the lock is free.

    Returns
    -------
    bool
        False if another open file holds the lock.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, byte))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unlock_byte(descriptor: int, byte: int) -> None:
    """Unlock one byte of a file.

    Parameters
    ----------
    descriptor
        Descriptor of the open file.
    byte
        Position of the byte.
    """
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, byte))


def byte_is_locked(descriptor: int, byte: int) -> bool:
    """Return whether another open file holds the lock of a byte.

    Parameters
    ----------
    descriptor
        Descriptor of the open file.
    byte
        Position of the byte.

    Returns
    -------
    bool
        Whether it is locked.
    """
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, byte))
    lock_type: int = struct.unpack_from("h", answer)[0]
    return lock_type != fcntl.F_UNLCK


def _flock(kind: int, byte: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0)


def _no_fence() -> None:
    pass


def _libc() -> Any:
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
