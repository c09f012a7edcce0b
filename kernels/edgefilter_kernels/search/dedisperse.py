"""Incoherent dedispersion in two stages, in integers.

A group of neighbouring trials shares the sums over narrow sub-bands, in which the trials hardly differ; each trial then
adds the sub-bands only. C channels, S sub-bands and n trials take C / n + S additions a sample and trial instead of C
(Magro et al. 2011, MNRAS 417, 2642). Input bytes and 16-bit sub-band sums are a quarter and half of the size of
float32; no sum can overflow, so the result does not depend on the order of the additions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.simd.float8 import index, vector_code

MAX_CHANNELS = 32
"""Most channels of a sub-band: the sum of eight sub-bands of as many bytes still fits into 16 bits."""

_TILE_TIMES = 2048  # the channels of a sub-band stay in the first-level cache for so many times
_STRIPE_TIMES = 256  # so do the sums of about 64 sub-bands
_CHUNK_TIMES = 64  # times that one run of the vector code adds


def add_channels(
    power: NDArray[np.int8], edges: NDArray[np.int64], starts: NDArray[np.int64], out: NDArray[np.int16]
) -> None:
    """Sum the channels of each sub-band for several groups of trials at once, which read nearly the same bytes.

    ``out[g, s, t] = Σ_c power[c, starts[g, c] + t]`` over the channels of sub-band s, ``edges[s] <= c < edges[s + 1]``.

    Parameters
    ----------
    power
        int8 ``[channel, time]``, C-contiguous.
    edges
        int64 ``[S + 1]``, from 0 to the number of channels, ascending by at most :data:`MAX_CHANNELS`.
    starts
        int64 ``[group, channel]``: first time of each channel.
    out
        int16 ``[group, S, length]``, C-contiguous: written.

    Raises
    ------
    ValueError
        If a shape, a type or the layout differs from these, or a track leaves ``power``.
    """
    if power.dtype != np.int8 or out.dtype != np.int16 or not (power.flags.c_contiguous and out.flags.c_contiguous):
        raise ValueError("power must be int8 and out int16, both C-contiguous")
    if not (power.ndim == 2 and starts.shape == (len(out), len(power)) and out.shape[1:2] == (len(edges) - 1,)):
        raise ValueError(
            f"shapes do not agree: power {power.shape}, edges {edges.shape}, starts {starts.shape}, out {out.shape}"
        )
    if not _is_increasing(edges, len(power), MAX_CHANNELS):
        raise ValueError(f"edges must ascend from 0 to {len(power)} channels by at most {MAX_CHANNELS}")
    _check_span(starts, out.shape[2], power.shape[1])
    _add_channels(power, edges, starts, out)


def add_subbands(
    sums: NDArray[np.int16], parts: NDArray[np.int64], starts: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Sum the sub-bands of each part of the band along the tracks of a group of trials.

    ``out[i, p, t] = Σ_s sums[s, starts[i, s] + t]`` over the sub-bands of part p, ``parts[p] <= s < parts[p + 1]``.

    Parameters
    ----------
    sums
        int16 ``[S, time]``, C-contiguous, as :func:`add_channels` makes them: the sum of any eight fits into 16 bits.
    parts
        int64 ``[P + 1]``, from 0 to S, ascending.
    starts
        int64 ``[trial, S]``: first time of each sub-band.
    out
        float32 ``[trial, P, length]``, C-contiguous: written, exact.

    Raises
    ------
    ValueError
        If a shape, a type or the layout differs from these, or a track leaves ``sums``.
    """
    if out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError("out must be C-contiguous float32")
    if out.shape[:2] != (len(starts), len(parts) - 1):
        raise ValueError(f"shapes do not agree: starts {starts.shape}, parts {parts.shape}, out {out.shape}")
    check_subbands(sums, parts, starts, out.shape[2])
    sum_subbands(sums, parts, starts, out)


def check_subbands(sums: NDArray[np.int16], parts: NDArray[np.int64], starts: NDArray[np.int64], length: int) -> None:
    """Check that :func:`add_subbands` can sum sub-bands over a number of times.

    Parameters
    ----------
    sums, parts, starts
        As for :func:`add_subbands`.
    length
        Number of times.

    Raises
    ------
    ValueError
        If a shape, a type or the layout is wrong, or a track leaves ``sums``.
    """
    if sums.dtype != np.int16 or not sums.flags.c_contiguous:
        raise ValueError("sums must be C-contiguous int16")
    if not (sums.ndim == 2 and starts.shape[1:] == sums.shape[:1]):
        raise ValueError(f"shapes do not agree: sums {sums.shape}, starts {starts.shape}")
    if not _is_increasing(parts, len(sums), len(sums)):
        raise ValueError(f"parts must ascend from 0 to {len(sums)} sub-bands")
    _check_span(starts, length, sums.shape[1])


def _check_span(starts: NDArray[np.int64], length: int, times: int) -> None:
    first, last = _extent(starts)
    if starts.size and not 0 <= first <= last <= times - length:
        raise ValueError(f"tracks span times [{first}, {last + length}), must lie in [0, {times})")


@kernel
def _extent(starts: NDArray[np.int64]) -> tuple[int, int]:
    # Faster than NumPy, and without holding the interpreter.
    return (int(starts.min()), int(starts.max())) if starts.size else (0, 0)


@kernel
def _is_increasing(edges: NDArray[np.int64], last: int, most: int) -> bool:
    for i in range(edges.size - 1):
        if not 0 < edges[i + 1] - edges[i] <= most:
            return False
    return edges.size > 1 and edges[0] == 0 and edges[-1] == last


@kernel
def _add_channels(
    power: NDArray[np.int8], edges: NDArray[np.int64], starts: NDArray[np.int64], out: NDArray[np.int16]
) -> None:
    groups, subbands, length = out.shape
    rows, sums = power.reshape(-1), out.reshape(-1)
    place = starts + np.arange(power.shape[0]) * power.shape[1]
    for s in range(subbands):
        for tile in range(0, length, _TILE_TIMES):
            stop = min(tile + _TILE_TIMES, length)
            for g in range(groups):
                some, to = place[g, edges[s] : edges[s + 1]], (g * subbands + s) * length
                whole = tile + (stop - tile) // _CHUNK_TIMES * _CHUNK_TIMES
                for t in range(tile, whole, _CHUNK_TIMES):
                    _add_bytes(rows, some, some.size, t, sums, to + t)
                for t in range(whole, stop):
                    total = 0
                    for row in some:
                        total += rows[row + t]
                    sums[to + t] = total


@kernel
def sum_subbands(
    sums: NDArray[np.int16], parts: NDArray[np.int64], starts: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Do the same as :func:`add_subbands` without checks, into the first trials of ``out``.

    Parameters
    ----------
    sums, parts, starts, out
        As for :func:`add_subbands`; ``out`` may hold more trials than ``starts``.
    """
    trials, (_, count, length) = starts.shape[0], out.shape
    rows, plane = sums.reshape(-1), out.reshape(-1)
    place = starts + np.arange(sums.shape[0]) * sums.shape[1]
    for stripe in range(0, length, _STRIPE_TIMES):
        stop = min(stripe + _STRIPE_TIMES, length)
        whole = stripe + (stop - stripe) // _CHUNK_TIMES * _CHUNK_TIMES
        for i in range(trials):
            for p in range(count):
                some, to = place[i, parts[p] : parts[p + 1]], (i * count + p) * length
                for t in range(stripe, whole, _CHUNK_TIMES):
                    _add_words(rows, some, some.size, t, plane, to + t)
                for t in range(whole, stop):
                    total = 0
                    for row in some:
                        total += rows[row + t]
                    plane[to + t] = total


def _make_row_sum(bits: int, result: Any, run: int) -> Callable[..., None]:
    """Write vector code that adds rows over :data:`_CHUNK_TIMES` times, ``run`` rows in 16 bits at a time."""
    lanes = 16
    source, sums, total = (ir.VectorType(kind, lanes) for kind in (ir.IntType(bits), ir.IntType(16), result))
    parts = _CHUNK_TIMES // lanes

    def add(b: Any, rows: Any, starts: Any, at: Any, count: int, start: Any, totals: Any) -> None:
        part: list[Any] = [None] * parts
        for row in range(count):
            place = b.add(b.load(b.gep(starts, [b.add(at, index(row))])), start)
            for k in range(parts):
                some = b.load(b.bitcast(b.gep(rows, [b.add(place, index(k * lanes))]), source.as_pointer()), align=1)
                some = b.sext(some, sums) if bits < 16 else some
                part[k] = some if part[k] is None else b.add(part[k], some)
        for k in range(parts):
            if isinstance(result, ir.IntType):
                b.store(b.add(b.load(totals[k]), part[k]), totals[k])
            else:
                b.store(b.fadd(b.load(totals[k]), b.sitofp(part[k], total)), totals[k])

    @vector_code
    def chunk(b: Any, rows: Any, starts: Any, count: Any, start: Any, out: Any, to: Any) -> None:
        totals = [cgutils.alloca_once_value(b, ir.Constant(total, [0] * lanes)) for _ in range(parts)]
        for k in range(parts):
            b.store(ir.Constant(total, [0] * lanes), totals[k])
        runs = b.sdiv(count, index(run))
        with cgutils.for_range(b, runs) as loop:
            add(b, rows, starts, b.mul(loop.index, index(run)), run, start, totals)
        done = b.mul(runs, index(run))
        with cgutils.for_range(b, b.sub(count, done)) as loop:
            add(b, rows, starts, b.add(done, loop.index), 1, start, totals)
        for k in range(parts):
            place = b.gep(out, [b.add(to, index(k * lanes))])
            b.store(b.load(totals[k]), b.bitcast(place, total.as_pointer()), align=2)

    return chunk


_add_bytes = _make_row_sum(8, ir.IntType(16), 8)
_add_words = _make_row_sum(16, ir.FloatType(), 8)
