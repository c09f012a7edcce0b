"""How the C library treats memory that a process frees, and memory that it copies."""

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD_BYTES = 1 << 25  # the most that glibc allows
_TRIM_BYTES = 1 << 29
_NON_TEMPORAL_TUNABLE, _NON_TEMPORAL_BYTES = "glibc.cpu.x86_non_temporal_threshold", 1 << 18


def keep_freed_memory() -> None:
    """Let this process keep the memory of the messages that it frees, up to 512 MiB, for the next ones.

    By default glibc returns large blocks to the system at once, so each frame's pages are made, zeroed and mapped anew.
    ``python -m benchmarks.ingest --compare-heap`` shows what that costs: for a GB in frames of 1 MiB 160,000 page
    faults against 4,000, and 0.87 s of processor time against 0.68. Where the C library has no such switch this does
    nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def memcpy_environment() -> dict[str, str]:
    """Return what a process must find in its environment so that it copies large blocks past the caches.

    A ring is larger than any cache: to read a place before it is overwritten, and to keep it afterwards, is in vain.
    glibc does both up to sizes of several MiB. Frames of 1 MiB take as long either way; with 4 MiB the inlet took 81
    and 85 % of what the sketch of ``benchmarks/ingest.py`` takes before, and 88 and 99 % in the same runs with it.
    Elsewhere than on x86-64 there is no such switch.
    """
    if platform.machine() != "x86_64":
        return {}
    existing = os.environ.get("GLIBC_TUNABLES", "")
    return {
        "GLIBC_TUNABLES": ":".join(
            part for part in (existing, f"{_NON_TEMPORAL_TUNABLE}={_NON_TEMPORAL_BYTES:#x}") if part
        )
    }
