"""Statistics of short stretches of time, from which a baseline is estimated, and its removal from the rows."""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

GROUP_ROWS = 8
"""Rows whose mean gives the scatter at a longer time scale."""
_ZERO, _ONE, _MAX_FINITE = (np.float32(number) for number in (0, 1, 3e38))
_STRIP = 128  # channels whose sums stay in the first-level cache


@kernel
def node_statistics(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    edges: NDArray[np.int64],
    start: int,
    stop: int,
    out: NDArray[np.float32],
) -> None:
    """Sum up consecutive stretches of rows, the nodes of a baseline.

    Parameters
    ----------
    power
        float32 ``[time, channel]``, C-contiguous.
    weight
        uint16 ``[time, channel]``: cells that a row is the mean of; 0 is no data, as is power that is not finite.
    edges
        int64 ``[node + 1]``: node n has rows ``[edges[n], edges[n + 1])``.
    start, stop
        Nodes ``[start, stop)`` are computed.
    out
        float32 ``[4, node, channel]``: number of cells, their mean, the sum over rows of weight times squared distance
        from the mean over the number of rows less one, and the same for means of :data:`GROUP_ROWS` rows: both are the
        variance of a cell if the noise is white. 0 where there are too few rows.
    """
    for n in range(start, stop):
        for begin in range(0, power.shape[1], _STRIP):
            stop_at = min(begin + _STRIP, power.shape[1])
            _node_of_strip(power, weight, edges[n], edges[n + 1], begin, stop_at, out[:, n])


@kernel
def _node_of_strip(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    first_row: int,
    last_row: int,
    start: int,
    stop: int,
    out: NDArray[np.float32],
) -> None:
    # Single precision is enough for the offsets of a few rows from the level of the first ones; groups of rows are
    # added in double precision. One array each, because the compiler vectorises loops over few arrays only.
    sums, group, reference = (
        np.zeros(6 * _STRIP, np.float64),
        np.zeros(4 * _STRIP, np.float32),
        np.zeros(_STRIP, np.float32),
    )
    for t in range(first_row, min(first_row + GROUP_ROWS, last_row)):
        _add_row(power[t, start:stop], weight[t, start:stop], reference, group)
    for c in range(stop - start):
        reference[c] = group[_STRIP + c] / group[c] if group[c] > _ZERO else _ZERO
    group[:] = _ZERO
    for t in range(first_row, last_row):
        _add_row(power[t, start:stop], weight[t, start:stop], reference, group)
        if (t + 1 - first_row) % GROUP_ROWS == 0 or t + 1 == last_row:
            _add_group(group, sums)
    for c in range(stop - start):
        total, first, second = sums[c], sums[_STRIP + c], sums[2 * _STRIP + c]
        rows, groups, group_second = sums[3 * _STRIP + c], sums[4 * _STRIP + c], sums[5 * _STRIP + c]
        mean = first / total if total > 0.0 else 0.0
        out[0, start + c], out[1, start + c] = total, mean + reference[c]
        out[2, start + c] = max(second - first * mean, 0.0) / (rows - 1.0) if rows > 1.0 else 0.0
        out[3, start + c] = max(group_second - first * mean, 0.0) / (groups - 1.0) if groups > 1.0 else 0.0


@kernel
def _add_row(
    power: NDArray[np.float32], weight: NDArray[np.uint16], reference: NDArray[np.float32], sums: NDArray[np.float32]
) -> None:
    for c in range(power.size):
        w, off = np.float32(weight[c]), power[c] - reference[c]
        valid = (off < _MAX_FINITE) & (off > -_MAX_FINITE) & (w > _ZERO)
        cells = w if valid else _ZERO
        off = off if valid else _ZERO
        weighted = cells * off
        sums[c] += cells
        sums[_STRIP + c] += weighted
        sums[2 * _STRIP + c] += weighted * off
        sums[3 * _STRIP + c] += _ONE if valid else _ZERO


@kernel
def _add_group(group: NDArray[np.float32], sums: NDArray[np.float64]) -> None:
    for c in range(_STRIP):
        total, first = np.float64(group[c]), np.float64(group[_STRIP + c])
        some = 1.0 if total > 0.0 else 0.0
        sums[c] += total
        sums[_STRIP + c] += first
        sums[2 * _STRIP + c] += np.float64(group[2 * _STRIP + c])
        sums[3 * _STRIP + c] += np.float64(group[3 * _STRIP + c])
        sums[4 * _STRIP + c] += some
        sums[5 * _STRIP + c] += first * first / (total + (1.0 - some))
    group[:] = _ZERO


@kernel
def subtract_baseline(
    power: NDArray[np.float32],
    level: NDArray[np.float32],
    position: NDArray[np.float32],
    start: int,
    stop: int,
    out: NDArray[np.float32],
) -> None:
    """Subtract a baseline that is linear between nodes.

    Parameters
    ----------
    power
        float32 ``[time, channel]``.
    level
        float32 ``[node, channel]``: the baseline at the nodes.
    position
        float32 ``[time]``: where each row is, in nodes; 0 to the number of nodes less one.
    start, stop
        Rows ``[start, stop)`` are written.
    out
        float32 ``[time, channel]``.
    """
    for t in range(start, stop):
        node = min(int(position[t]), len(level) - 2)
        later = position[t] - np.float32(node)
        earlier = np.float32(1.0) - later
        left, right, line, to = level[node], level[node + 1], power[t], out[t]
        for c in range(line.size):
            to[c] = line[c] - (earlier * left[c] + later * right[c])
