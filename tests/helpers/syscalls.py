"""Run a function in a child process and kill it between two system calls, as ``kill -9`` may."""

import ctypes
import os
import platform
import signal
import warnings
from collections.abc import Callable

_TRACEME, _SYSCALL, _SETOPTIONS = 0, 24, 0x4200
_EXITKILL = 0x100000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def can_trace() -> bool:
    """Return whether this machine allows ptrace of a child process."""
    if platform.system() != "Linux":
        return False
    try:
        return run_until(lambda: None, 1 << 30) is not None
    except OSError:
        return False


def run_until(work: Callable[[], None], stops: int) -> int | None:
    """Run ``work`` in a child process; kill it at its ``stops``-th entry to, or return from, a system call.

    Returns
    -------
    int or None
        The number of stops if the child ended by itself, None if it was killed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # about fork with threads; the child needs no lock of another thread
        pid = os.fork()
    if pid == 0:
        try:
            _ptrace(_TRACEME)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    try:
        if os.WIFSTOPPED(status):
            _ptrace(_SETOPTIONS, pid, _EXITKILL)
        seen = 0
        while os.WIFSTOPPED(status):
            if seen == stops:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return None
            seen += 1
            _ptrace(_SYSCALL, pid)
            _, status = os.waitpid(pid, 0)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    if os.waitstatus_to_exitcode(status):
        raise OSError(0, "the child failed")
    return seen
