"""Settings of the C library for freed memory and for copies of large blocks."""

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD_BYTES = 1 << 25  # the most that glibc allows
_TRIM_BYTES = 1 << 29
_NON_TEMPORAL_TUNABLE, _NON_TEMPORAL_BYTES = "glibc.cpu.x86_non_temporal_threshold", 1 << 18


def keep_freed_memory() -> None:
    """Keep freed memory, up to 512 MiB, in this process for the next messages.

    By default glibc returns large blocks to the system at once, so the kernel zeroes and maps new pages for each frame.
    ``python -m benchmarks.ingest --compare-heap`` measures the cost: per GB in frames of 1 MiB, 160,000 page faults and
    0.87 s of processor time by default, 4,000 page faults and 0.68 s with this setting. Does nothing if the C library
    has no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def memcpy_environment() -> dict[str, str]:
    """Return environment variables with which a process copies large blocks without filling its caches.

    A ring is larger than any cache, so loading the destination into the cache and keeping it there is useless; glibc
    does both for blocks of up to several MiB. With frames of 4 MiB the receiver reached 81 and 85 % of the rate of a
    plain socket (``benchmarks/ingest.py``) without this setting, 88 and 99 % with it; frames of 1 MiB show no
    difference. Only x86-64 has this setting; elsewhere the result is empty.
    """
    if platform.machine() != "x86_64":
        return {}
    existing = os.environ.get("GLIBC_TUNABLES", "")
    return {
        "GLIBC_TUNABLES": ":".join(
            part for part in (existing, f"{_NON_TEMPORAL_TUNABLE}={_NON_TEMPORAL_BYTES:#x}") if part
        )
    }
