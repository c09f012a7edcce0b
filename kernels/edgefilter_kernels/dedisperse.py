"""Incoherent dedispersion in two stages, in integers.

A group of neighbouring trials shares the sums over narrow sub-bands, in which the trials hardly differ; each trial then
adds the sub-bands alone. C channels, S sub-bands and n trials take C / n + S additions a sample and trial in place of C
(Magro et al. 2011, MNRAS 417, 2642). Bytes in and 16-bit sub-band sums are an eighth and a quarter of what the
processor would have to move and add as 64-bit numbers; no sum can overflow, so none depends on an order.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

MOST_CHANNELS = 32
"""Channels that a sub-band may hold: eight sub-bands of as many bytes still add up within 16 bits."""

_TILE = 2048  # times for which the sums of about 64 sub-bands stay in the second-level cache


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
    starts = np.empty(max(power.shape[0], early.size), np.int64)
    for tile in range(0, out.shape[2], _TILE):
        length = min(_TILE, out.shape[2] - tile)
        for s in range(early.size):
            channels = power[edges[s] : edges[s + 1]]
            for c in range(edges[s], edges[s + 1]):
                starts[c - edges[s]] = first + tile + early[s] + coarse[c]
            _add_rows(channels, starts, scratch[s, : length + late[s] - early[s]])
        for i in range(out.shape[0]):
            for p in range(out.shape[1]):
                for s in range(parts[p], parts[p + 1]):
                    starts[s - parts[p]] = fine[i, s] - early[s]
                _add_rows(scratch[parts[p] : parts[p + 1]], starts, out[i, p, tile : tile + length])


@kernel
def _add_rows(rows: NDArray[np.int16], starts: NDArray[np.int64], total: NDArray[np.float32]) -> None:
    # Bytes to 16 bits or 16 bits to float32. Several rows a pass: additions wait for loads and stores, and a pass has
    # one store.
    count, length = rows.shape[0], total.size
    total[:] = 0
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
            total[t] += np.int16(((a[t] + b[t]) + (c[t] + d[t])) + ((e[t] + f[t]) + (g[t] + h[t])))
        done += 8
    while done + 2 <= count:
        a = rows[done, starts[done] : starts[done] + length]
        b = rows[done + 1, starts[done + 1] : starts[done + 1] + length]
        for t in range(length):
            total[t] += np.int16(a[t] + b[t])
        done += 2
    if done < count:
        a = rows[done, starts[done] : starts[done] + length]
        for t in range(length):
            total[t] += a[t]
