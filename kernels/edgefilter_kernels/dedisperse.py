"""Incoherent dedispersion in two stages, in integers.

A group of neighbouring trials shares the sums over narrow sub-bands, in which the trials hardly differ; each trial then
adds the sub-bands alone. C channels, S sub-bands and n trials take C / n + S additions a sample and trial in place of C
(Magro et al. 2011, MNRAS 417, 2642). Bytes in and 16-bit sub-band sums are an eighth and a quarter of what the
processor would have to move and add as 64-bit numbers; no sum can overflow, so none depends on an order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.lanes import index, vector_code

MOST_CHANNELS = 32
"""Channels that a sub-band may hold: eight sub-bands of as many bytes still add up within 16 bits."""

_TILE = 2048  # times for which the sums of about 64 sub-bands stay in the second-level cache
_STRIPE = 256  # times for which they stay in the first-level cache
_CHUNK = 64  # times that are added together


def dedisperse(
    power: NDArray[np.int8],
    first: int,
    edges: NDArray[np.int64],
    parts: NDArray[np.int64],
    coarse: NDArray[np.int64],
    fine: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """Sum channels along the tracks of a group of trials, a part of the band at a time.

    ``out[i, p, t] = Σ_s Σ_c power[c, first + t + coarse[c] + fine[i, s]]`` over the sub-bands s of part p,
    ``parts[p] <= s < parts[p + 1]``, and their channels c, ``edges[s] <= c < edges[s + 1]``. Sums are exact.

    Parameters
    ----------
    power
        int8 ``[channel, time]``, C-contiguous.
    first
        Time that undelayed output starts at.
    edges
        int64 ``[S + 1]``, from 0 to the number of channels, rising by at most :data:`MOST_CHANNELS`.
    parts
        int64 ``[P + 1]``, from 0 to S, rising.
    coarse
        int64 ``[channel]``: delay of a channel within its sub-band, time steps.
    fine
        int64 ``[trial, S]``: delay of a sub-band, time steps.
    out
        float32 ``[trial, P, length]``, C-contiguous: written.

    Raises
    ------
    ValueError
        If shapes, types or layout are not these, or a track leaves ``power``.
    """
    if not (
        power.dtype == np.int8
        and out.dtype == np.float32
        and power.flags.c_contiguous
        and out.flags.c_contiguous
        and power.ndim == 2
        and coarse.shape == power.shape[:1]
        and fine.shape == (len(out), len(edges) - 1)
        and out.shape[1:2] == (len(parts) - 1,)
    ):
        raise ValueError(
            "power must be int8 [channel, time] and out float32 [trial, part, length], both C-contiguous; shapes are "
            f"{power.shape}, {edges.shape}, {parts.shape}, {coarse.shape}, {fine.shape}, {out.shape}"
        )
    if not _rises(edges, len(power), MOST_CHANNELS):
        raise ValueError(f"edges must rise from 0 to {len(power)} channels by at most {MOST_CHANNELS}")
    if not _rises(parts, len(edges) - 1, len(edges)):
        raise ValueError(f"parts must rise from 0 to {len(edges) - 1} sub-bands")
    if not out.size:
        return
    early, late, low, high = _extent(edges, coarse, fine)
    if first + low < 0 or first + high + out.shape[2] > power.shape[1]:
        raise ValueError(
            f"tracks span [{first + low}, {first + high + out.shape[2]}), power has times [0, {power.shape[1]})"
        )
    scratch = np.empty((len(edges) - 1, min(_TILE, out.shape[2]) + int((late - early).max())), np.int16)
    _dedisperse(power, first, edges, parts, coarse, fine, (early, late), scratch, out)


@kernel
def _rises(edges: NDArray[np.int64], last: int, most: int) -> bool:
    for i in range(edges.size - 1):
        if not 0 < edges[i + 1] - edges[i] <= most:
            return False
    return edges.size > 1 and edges[0] == 0 and edges[-1] == last


@kernel
def _extent(
    edges: NDArray[np.int64], coarse: NDArray[np.int64], fine: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int]:
    # Earliest and latest delay of each sub-band over the trials, and of any channel.
    early, late = fine[0].copy(), fine[0].copy()
    low, high = coarse[0] + fine[0, 0], coarse[0] + fine[0, 0]
    for s in range(early.size):
        for i in range(1, fine.shape[0]):
            early[s] = min(early[s], fine[i, s])
            late[s] = max(late[s], fine[i, s])
        for c in range(edges[s], edges[s + 1]):
            low = min(low, coarse[c] + early[s])
            high = max(high, coarse[c] + late[s])
    return early, late, low, high


@kernel
def _dedisperse(
    power: NDArray[np.int8],
    first: int,
    edges: NDArray[np.int64],
    parts: NDArray[np.int64],
    coarse: NDArray[np.int64],
    fine: NDArray[np.int64],
    extent: tuple[NDArray[np.int64], NDArray[np.int64]],
    scratch: NDArray[np.int16],
    out: NDArray[np.float32],
) -> None:
    early, late = extent
    # Where each row begins that is added: of the channels for undelayed output, of the sub-bands for time 0 of a tile.
    channel = coarse + first + np.arange(power.shape[0]) * power.shape[1]
    for s in range(early.size):
        channel[edges[s] : edges[s + 1]] += early[s]
    subband = fine - early + np.arange(early.size) * scratch.shape[1]
    source, sums, plane = power.reshape(-1), scratch.reshape(-1), out.reshape(-1)
    length = out.shape[2]
    for tile in range(0, length, _TILE):
        times = min(_TILE, length - tile)
        for s in range(early.size):
            wide = times + late[s] - early[s]
            _add_bytes(source, channel[edges[s] : edges[s + 1]], tile, wide, sums, s * scratch.shape[1])
        # Sums of a few times stay in the first-level cache for all trials.
        for start in range(0, times, _STRIPE):
            stripe = min(_STRIPE, times - start)
            for i in range(out.shape[0]):
                for p in range(out.shape[1]):
                    to = (i * out.shape[1] + p) * length + tile + start
                    _add_sums(sums, subband[i, parts[p] : parts[p + 1]], start, stripe, plane, to)


@kernel
def _add_bytes(
    rows: NDArray[np.int8], begin: NDArray[np.int64], start: int, length: int, out: NDArray[np.int16], to: int
) -> None:
    done = length // _CHUNK * _CHUNK
    for t in range(0, done, _CHUNK):
        _add_byte_chunk(rows, begin, begin.size, start + t, out, to + t)
    for t in range(done, length):
        total = 0
        for row in begin:
            total += rows[row + start + t]
        out[to + t] = total


@kernel
def _add_sums(
    rows: NDArray[np.int16], begin: NDArray[np.int64], start: int, length: int, out: NDArray[np.float32], to: int
) -> None:
    done = length // _CHUNK * _CHUNK
    for t in range(0, done, _CHUNK):
        _add_sum_chunk(rows, begin, begin.size, start + t, out, to + t)
    for t in range(done, length):
        total = 0
        for row in begin:
            total += rows[row + start + t]
        out[to + t] = total


def _make_chunk(bits: int, result: Any, run: int) -> Callable[..., None]:
    """Add rows over :data:`_CHUNK` times, ``run`` of them in 16 bits before they are added to the result."""
    lanes = 16
    source, sums, total = (ir.VectorType(kind, lanes) for kind in (ir.IntType(bits), ir.IntType(16), result))
    parts = _CHUNK // lanes

    def add(b: Any, rows: Any, begin: Any, at: Any, count: int, start: Any, totals: Any) -> None:
        part: list[Any] = [None] * parts
        for row in range(count):
            place = b.add(b.load(b.gep(begin, [b.add(at, index(row))])), start)
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
    def chunk(b: Any, rows: Any, begin: Any, count: Any, start: Any, out: Any, to: Any) -> None:
        totals = [cgutils.alloca_once_value(b, ir.Constant(total, [0] * lanes)) for _ in range(parts)]
        for k in range(parts):
            b.store(ir.Constant(total, [0] * lanes), totals[k])
        runs = b.sdiv(count, index(run))
        with cgutils.for_range(b, runs) as loop:
            add(b, rows, begin, b.mul(loop.index, index(run)), run, start, totals)
        done = b.mul(runs, index(run))
        with cgutils.for_range(b, b.sub(count, done)) as loop:
            add(b, rows, begin, b.add(done, loop.index), 1, start, totals)
        for k in range(parts):
            place = b.gep(out, [b.add(to, index(k * lanes))])
            b.store(b.load(totals[k]), b.bitcast(place, total.as_pointer()), align=2)

    return chunk


_add_byte_chunk = _make_chunk(8, ir.IntType(16), 8)
_add_sum_chunk = _make_chunk(16, ir.FloatType(), 8)
