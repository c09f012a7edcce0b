"""Incoherent dedispersion in two stages.

A group of neighbouring trials shares the sums over narrow sub-bands, in which the trials hardly differ; each trial then
adds the sub-bands alone. C channels, S sub-bands and n trials take C / n + S additions a sample and trial in place of C
(Magro et al. 2011, MNRAS 417, 2642).
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

_TILE = 2048  # times for which the sums of about 64 sub-bands stay in the second-level cache


def dedisperse(
    power: NDArray[np.float32],
    first: int,
    edges: NDArray[np.int64],
    coarse: NDArray[np.int64],
    fine: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """Sum channels along the tracks of a group of trials.

    ``out[i, t] = Σ_s Σ_c power[c, first + t + coarse[c] + fine[i, s]]`` over sub-bands s and their channels c,
    ``edges[s] <= c < edges[s + 1]``. The order of additions depends on neither threads nor tiles.

    Parameters
    ----------
    power
        float32 ``[channel, time]``, C-contiguous.
    first
        Time that undelayed output starts at.
    edges
        int64 ``[S + 1]``, from 0 to the number of channels, rising.
    coarse
        int64 ``[channel]``: delay of a channel within its sub-band, time steps.
    fine
        int64 ``[trial, S]``: delay of a sub-band, time steps.
    out
        float32 ``[trial, length]``, C-contiguous: written.

    Raises
    ------
    ValueError
        If shapes, types or layout are not these, or a track leaves ``power``.
    """
    if (
        power.dtype != np.float32
        or out.dtype != np.float32
        or not (power.flags.c_contiguous and out.flags.c_contiguous)
    ):
        raise ValueError("power and out must be C-contiguous float32")
    if power.ndim != 2 or coarse.shape != power.shape[:1] or fine.shape != (len(out), len(edges) - 1):
        raise ValueError(
            f"shapes do not agree: {power.shape}, {edges.shape}, {coarse.shape}, {fine.shape}, {out.shape}"
        )
    if edges[0] != 0 or edges[-1] != len(power) or (np.diff(edges) <= 0).any():
        raise ValueError("edges must rise from 0 to the number of channels")
    if not out.size:
        return
    early, late = fine.min(axis=0), fine.max(axis=0)
    low = first + (np.minimum.reduceat(coarse, edges[:-1]) + early).min()
    high = first + (np.maximum.reduceat(coarse, edges[:-1]) + late).max() + out.shape[1]
    if low < 0 or high > power.shape[1]:
        raise ValueError(f"tracks span [{low}, {high}), power has times [0, {power.shape[1]})")
    scratch = np.empty((len(edges) - 1, min(_TILE, out.shape[1]) + int((late - early).max())), np.float32)
    _dedisperse(power, first, edges, coarse, fine - early, early, late - early, scratch, out)


@kernel
def _dedisperse(
    power: NDArray[np.float32],
    first: int,
    edges: NDArray[np.int64],
    coarse: NDArray[np.int64],
    shift: NDArray[np.int64],
    early: NDArray[np.int64],
    spread: NDArray[np.int64],
    scratch: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    subbands = edges.size - 1
    starts = np.empty(max(power.shape[0], subbands), np.int64)
    for tile in range(0, out.shape[1], _TILE):
        length = min(_TILE, out.shape[1] - tile)
        for s in range(subbands):
            channels = power[edges[s] : edges[s + 1]]
            for c in range(edges[s], edges[s + 1]):
                starts[c - edges[s]] = first + tile + early[s] + coarse[c]
            _add_rows(channels, starts, scratch[s, : length + spread[s]])
        for i in range(out.shape[0]):
            starts[:subbands] = shift[i]
            _add_rows(scratch, starts, out[i, tile : tile + length])


@kernel
def _add_rows(rows: NDArray[np.float32], starts: NDArray[np.int64], total: NDArray[np.float32]) -> None:
    # Several rows a pass: additions wait for loads and stores, and a pass has one store.
    count, length = rows.shape[0], total.size
    total[:] = 0.0
    done = 0
    while done + 8 <= count:
        a = rows[done, starts[done] : starts[done] + length]
        b = rows[done + 1, starts[done + 1] : starts[done + 1] + length]
        c = rows[done + 2, starts[done + 2] : starts[done + 2] + length]
        d = rows[done + 3, starts[done + 3] : starts[done + 3] + length]
        e = rows[done + 4, starts[done + 4] : starts[done + 4] + length]
        f = rows[done + 5, starts[done + 5] : starts[done + 5] + length]
        g = rows[done + 6, starts[done + 6] : starts[done + 6] + length]
        h = rows[done + 7, starts[done + 7] : starts[done + 7] + length]
        for t in range(length):
            total[t] += ((a[t] + b[t]) + (c[t] + d[t])) + ((e[t] + f[t]) + (g[t] + h[t]))
        done += 8
    while done + 2 <= count:
        a = rows[done, starts[done] : starts[done] + length]
        b = rows[done + 1, starts[done + 1] : starts[done + 1] + length]
        for t in range(length):
            total[t] += a[t] + b[t]
        done += 2
    if done < count:
        a = rows[done, starts[done] : starts[done] + length]
        for t in range(length):
            total[t] += a[t]
