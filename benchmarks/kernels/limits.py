"""Limits of one core of this machine, and of two at once: copy, read, multiply and add, add."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from benchmarks.harness import Bench
from edgefilter.compute.threads import ThreadBackend
from edgefilter_kernels.simd.float8 import LANES, index, load, offset_at, store, vector_code

GROUP = "limits"
_BYTES = 256 << 20
_CHAINS = 12  # independent sums: more than the latency of an instruction times the number of units
_UNROLL = 16
_MAX_THREADS = 2


@vector_code
def _multiply_add(builder: Any, sums: Any, factor: Any) -> None:
    offsets = [offset_at(builder, index(0), index(LANES), i) for i in range(_CHAINS)]
    values = [load(builder, sums, offset) for offset in offsets]
    by = load(builder, factor, index(0))
    fused = ("contract",)
    for _ in range(_UNROLL):
        values = [builder.fadd(builder.fmul(value, by, flags=fused), by, flags=fused) for value in values]
    for offset, value in zip(offsets, values, strict=True):
        store(builder, value, sums, offset)


@njit(nogil=True)
def _multiply_add_rounds(sums: np.ndarray, factor: np.ndarray, rounds: int) -> None:
    for _ in range(rounds):
        _multiply_add(sums, factor)


@njit(nogil=True, fastmath={"reassoc"})
def read(values: np.ndarray) -> float:
    """Sum float32 numbers, which takes as long as reading them."""
    total = np.float32(0)
    for i in range(len(values)):
        total += values[i]
    return float(total)


@njit(nogil=True)
def _add_rows(rows: np.ndarray, out: np.ndarray) -> None:
    """Add eight rows to one, as a dedisperser does that keeps its rows in the L1 cache."""
    a, b, c, d, e, f, g, h = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7]
    for i in range(len(out)):
        out[i] = a[i] + b[i] + c[i] + d[i] + e[i] + f[i] + g[i] + h[i]


@njit(nogil=True)
def _repeat_add_rows(rows: np.ndarray, out: np.ndarray, rounds: int) -> None:
    for _ in range(rounds):
        _add_rows(rows, out)


def _run_in_parallel(
    bench: Bench, threads: int, case: str, who: str, amount: float, unit: str, work: Callable[[int], object]
) -> None:
    """Measure the same work on several threads at once: the maximum that a second thread can gain."""
    with ThreadBackend(threads) as backend:

        def run(start: int, stop: int) -> None:
            for at in range(start, stop):
                work(at)

        bench.rate(GROUP, case, who, threads * amount, unit, lambda: backend.parallel_for(threads, run), threads)


def run(bench: Bench) -> None:
    source, target = np.ones(_BYTES // 4, np.float32), np.zeros(_BYTES // 4, np.float32)
    bench.rate(GROUP, "memory", "copy (bytes read)", _BYTES / 1e9, "GB/s", lambda: np.copyto(target, source))
    rounds, flops = 100_000, 2.0 * _CHAINS * _UNROLL * LANES
    sums, factor = np.zeros((_MAX_THREADS, _CHAINS * LANES), np.float32), np.full(LANES, 0.5, np.float32)
    parts = np.split(source, _MAX_THREADS)
    for threads in range(1, _MAX_THREADS + 1):
        _run_in_parallel(
            bench, threads, "memory", "read", _BYTES / _MAX_THREADS / 1e9, "GB/s", lambda at: read(parts[at])
        )
        _run_in_parallel(
            bench, threads, "arithmetic", "float32 multiply-add", flops * rounds / 1e9, "GFLOP/s",
            lambda at: _multiply_add_rounds(sums[at], factor, rounds),
        )  # fmt: skip
    for kind in (np.float32, np.int16):
        rows, out = np.zeros((8, 512), kind), np.zeros(512, kind)
        bench.rate(
            GROUP, "arithmetic", f"{np.dtype(kind)} add, eight rows in L1", 7 * 512 * rounds / 1e9, "Gadd/s",
            lambda rows=rows, out=out: _repeat_add_rows(rows, out, rounds),  # type: ignore[misc]
        )  # fmt: skip
