"""Statistics of the cells of a channel: runs of power, and runs of spectral kurtosis of either sign.

Both are in standard deviations of a cell and go through :mod:`edgefilter_kernels.rfi.sumthreshold`. The kurtosis of a
run is the mean over its cells. The kurtosis of the summed cells would be the tighter test for noise, but it takes a
pulse that brightens and fades during the run for interference.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.intensity import LANES, FlatCells, PowerCells, flatten_cells, intensity
from edgefilter_kernels.rfi.sumthreshold import RunWindows, find_runs
from edgefilter_kernels.simd.bitmask64 import (
    PREFETCH_TIMES,
    add_moments,
    normalise_row,
    prefetch_range,
    scale_row,
    spread_row,
    thread_scratch,
)

POWER_RUN, HIGH_KURTOSIS, LOW_KURTOSIS, EVENT, DISPERSED, KURTOSIS_DIP, RUN_HOLE = 1, 2, 4, 8, 16, 32, 128
"""Marks of a cell: in a run of power; in a run of high or of low kurtosis; above the level of a single cell; on a
dispersion track; kurtosis of the single cell a standard deviation below that of noise; like noise inside a strong run,
and therefore not POWER_RUN."""
IN_RUN = POWER_RUN | RUN_HOLE
"""Marks of a cell in a run as the dispersion guard sees it: runs include their holes."""

GROUP_TIMES = 16
"""Neighbouring times that are summed to detect faint wide pulses, and slow changes of a channel."""

# Planes of bits; find_runs fills two at a time, from _RUN, _HIGH, _HOLE, _SHALLOW and, as scratch, _OUT on.
_RUN, _HIGH, _LOW, _ABOVE, _DIP, _HOLE, _SHALLOW, _DEEP, _UNUSED, _OUT = range(10)
_PLANE_MARKS = (
    POWER_RUN,
    EVENT,
    RUN_HOLE,
    HIGH_KURTOSIS,
    LOW_KURTOSIS,
    KURTOSIS_DIP,
)  # as _write_marks orders the planes


class CellScales(NamedTuple):
    """Scales that turn power and kurtosis of a cell to standard deviations; all are float32.

    Parameters
    ----------
    centre, per_unit
        ``[channel]``: background of the intensity, and 1 / its standard deviation.
    weight, gain_drift
        ``[time]``: √(M / usual M) for M voltages in a cell; common rise of all channels in standard deviations.
    kurtosis_gain, kurtosis_per_sigma
        ``[time]``: (M + 1) / (M - 1), and 1 / the standard deviation of the kurtosis.
    """

    centre: Any
    per_unit: Any
    weight: Any
    gain_drift: Any
    kurtosis_gain: Any
    kurtosis_per_sigma: Any


class CellThresholds(NamedTuple):
    """Thresholds of the cell statistics, in standard deviations.

    Parameters
    ----------
    power_runs, kurtosis_runs
        Windows of runs.
    event
        Power above which a single cell is marked EVENT.
    group_event
        The same for 16 times together, in their own standard deviations. A cell contributes no more than ``event``, so
        that a single strong cell does not make a group.
    """

    power_runs: RunWindows
    kurtosis_runs: RunWindows
    event: float
    group_event: float


class CellStatistics(NamedTuple):
    """Output of :func:`cell_statistics`.

    Parameters
    ----------
    marks
        uint8 ``[time, channel]``: POWER_RUN, HIGH_KURTOSIS, LOW_KURTOSIS, EVENT, KURTOSIS_DIP, RUN_HOLE.
    groups
        uint8 ``[⌈time / 16⌉, channel]``: EVENT.
    moments
        float64 ``[2, 4, channel]``: of the power over the used cells in no run of power, and of the kurtosis over those
        in no run of either: their number, sum, sum of squares, and sum of the squared sums over 16 times. Moments of
        the kurtosis are not written where it is not known.
    """

    marks: Any
    groups: Any
    moments: Any


class _Tile(NamedTuple):
    """A tile of at most :data:`LANES` channels and all times.

    Parameters
    ----------
    c0, lanes
        First channel, and number of channels.
    values, remaining
        float32 ``[time, lane]``: values, and scratch.
    planes
        uint64 ``[plane, time]``.
    """

    c0: int
    lanes: int
    values: NDArray[np.float32]
    remaining: NDArray[np.float32]
    planes: NDArray[np.uint64]


@kernel
def _power_tile(
    cells: FlatCells, scales: CellScales, thresholds: CellThresholds, tile: _Tile, groups: NDArray[np.uint8]
) -> None:
    """Fill a tile with power in standard deviations, its planes of unused cells and of events, and the groups."""
    flat, products, n_pols, flags = cells
    c0, lanes, values = tile.c0, tile.lanes, tile.values
    unused, events = tile.planes[_UNUSED], tile.planes[_ABOVE]
    level, sum_level = np.float32(thresholds.event), np.float32(thresholds.group_event * np.sqrt(GROUP_TIMES))
    none, event = np.uint8(0), np.uint8(EVENT)
    if c0 < 0 or lanes > LANES:  # tells the compiler that no index counts from the end
        return
    centre, unit = np.zeros((2, LANES), np.float32)
    centre[:lanes], unit[:lanes] = scales.centre[c0 : c0 + lanes], scales.per_unit[c0 : c0 + lanes]
    weight, gain_drift = scales.weight, scales.gain_drift
    flat_flags, row = flags.reshape(-1), np.ones(LANES, np.uint16)
    total = np.empty(LANES, np.float32)
    channel_scale, outputs = (centre, unit), (total, unused, events)
    for n in range(len(groups)):
        total[:] = np.float32(0.0)
        for t in range(n * GROUP_TIMES, min(n * GROUP_TIMES + GROUP_TIMES, len(values))):
            prefetch_range(flat, (t + PREFETCH_TIMES) * flat.shape[1] + products * c0, products * lanes)
            prefetch_range(flags, (t + PREFETCH_TIMES) * flags.shape[1] + c0, lanes)
            intensity(flat, (products, n_pols), t, c0, lanes, values, t)
            time_scale = weight[t], gain_drift[t], level
            if lanes == LANES:
                normalise_row(values, flat_flags, (t, t * flags.shape[1] + c0), channel_scale, time_scale, outputs)
            else:
                for i in range(lanes):
                    row[i] = flags[t, c0 + i]
                normalise_row(values, row, (t, 0), channel_scale, time_scale, outputs)
        for i in range(lanes):
            groups[n, c0 + i] = event if total[i] > sum_level else none


@kernel
def _kurtosis_tile(
    cells: FlatCells, moment4: NDArray[np.float32], n_pols: int, scales: CellScales, tile: _Tile
) -> None:  # fmt: skip
    """Fill a tile with kurtosis in standard deviations, and its plane of low single cells."""
    flat, products = cells.power, cells.products
    c0, lanes, values = tile.c0, tile.lanes, tile.values
    tiny, none, one = np.float32(1e-30), np.float32(0.0), np.float32(1.0)
    root, gain, per_sigma = np.float32(np.sqrt(n_pols)), scales.kurtosis_gain, scales.kurtosis_per_sigma
    if c0 < 0 or lanes > LANES:  # tells the compiler that no index counts from the end
        return
    for t in range(len(values)):
        prefetch_range(flat, (t + PREFETCH_TIMES) * flat.shape[1] + products * c0, products * lanes)
        prefetch_range(moment4, (t + PREFETCH_TIMES) * moment4.shape[1] + n_pols * c0, n_pols * lanes)
        factor = gain[t]
        if products == 1:
            for i in range(lanes):
                square = flat[t, c0 + i] * flat[t, c0 + i]
                estimate = factor * (moment4[t, c0 + i] / max(square, tiny) - one) - one
                values[t, i] = estimate if square > tiny else none
        else:
            for i in range(lanes):
                total = none
                for h in range(n_pols):
                    mean = flat[t, products * (c0 + i) + h]
                    square = mean * mean
                    estimate = factor * (moment4[t, n_pols * (c0 + i) + h] / max(square, tiny) - one) - one
                    total += estimate if square > tiny else none
                values[t, i] = total
        scale_row(values, t, per_sigma[t] / root, tile.planes[_UNUSED], tile.planes[_DIP])


@kernel
def _add_moments(tile: _Tile, excluded: NDArray[np.uint64], moments: NDArray[np.float64]) -> None:
    """Write the moments of the cells that are not excluded."""
    c0, lanes, values = tile.c0, tile.lanes, tile.values
    some = np.zeros((3, LANES), np.float32)
    whole = np.zeros((4, LANES), np.float64)
    times = len(values)
    if c0 < 0 or lanes > LANES:  # tells the compiler that no index counts from the end
        return
    for first in range(0, times, GROUP_TIMES):
        add_moments(values, first, min(first + GROUP_TIMES, times), excluded, some)
        for i in range(LANES):
            for m in range(3):
                whole[m, i] += some[m, i]
            whole[3, i] += some[1, i] * some[1, i]
    for m in range(4):
        for i in range(lanes):
            moments[m, c0 + i] = whole[m, i]


@kernel
def _write_marks(tile: _Tile, kurtosis_pols: int, marks: NDArray[np.uint8]) -> None:
    """Write the marks of all planes."""
    c0, lanes, planes = tile.c0, tile.lanes, tile.planes
    row, flat, none = np.empty(LANES, np.uint8), marks.reshape(-1), np.uint64(0)
    for t in range(marks.shape[0]):
        words = planes[_RUN, t], planes[_ABOVE, t], planes[_HOLE, t], none, none, none
        if kurtosis_pols:
            words = (
                planes[_RUN, t], planes[_ABOVE, t], planes[_HOLE, t], planes[_HIGH, t], planes[_LOW, t], planes[_DIP, t]
            )  # fmt: skip
        if lanes == LANES:
            spread_row(words, _PLANE_MARKS, flat, t * marks.shape[1] + c0)
        else:
            spread_row(words, _PLANE_MARKS, row, 0)
            for i in range(lanes):
                marks[t, c0 + i] = row[i]


@kernel
def _cell_statistics(
    cells: FlatCells, moment4: NDArray[np.float32], scales: CellScales, thresholds: CellThresholds,
    out: CellStatistics, scratch: tuple[NDArray[np.float32], NDArray[np.uint64]], channel_range: tuple[int, int],
) -> None:  # fmt: skip
    times, channels = cells.flags.shape
    kurtosis_pols = moment4.shape[1] // channels
    marks, groups, moments = out
    tiles, planes = scratch
    values, remaining = tiles[0], tiles[1]
    unused, excluded, scratch_planes = planes[_UNUSED], planes[_OUT], planes[_OUT : _OUT + 2]
    start, stop = channel_range
    if start < 0:  # tells the compiler that no index counts from the end
        return
    for c0 in range(start, stop, LANES):
        tile = _Tile(c0, min(LANES, stop - c0), values, remaining, planes)
        if tile.lanes < LANES:
            values[:] = np.float32(0.0)
        _power_tile(cells, scales, thresholds, tile, groups)
        holes, runs = planes[_HOLE : _HOLE + 2], planes[_RUN : _RUN + 2]
        find_runs(values, thresholds.power_runs, True, runs, holes, remaining, scratch_planes)
        for t in range(times):
            excluded[t] = unused[t] | planes[_RUN, t]
        _add_moments(tile, excluded, moments[0])
        if kurtosis_pols:
            _kurtosis_tile(cells, moment4, kurtosis_pols, scales, tile)
            holes, runs = planes[_SHALLOW : _SHALLOW + 2], planes[_HIGH : _HIGH + 2]
            find_runs(values, thresholds.kurtosis_runs, False, runs, holes, remaining, scratch_planes)
            for t in range(times):
                planes[_HIGH, t] &= ~planes[_SHALLOW, t]
                planes[_LOW, t] &= ~planes[_DEEP, t]
                excluded[t] = unused[t] | planes[_RUN, t] | planes[_HIGH, t] | planes[_LOW, t]
            _add_moments(tile, excluded, moments[1])
        for t in range(times):
            planes[_RUN, t] &= ~planes[_HOLE, t]
        _write_marks(tile, kurtosis_pols, marks)


def check_cell_statistics(
    cells: PowerCells,
    moment4: NDArray[np.float32],
    scales: CellScales,
    thresholds: CellThresholds,
    out: CellStatistics,
) -> FlatCells:
    """Check that the arguments of :func:`cell_statistics` fit together.

    Parameters
    ----------
    cells, moment4, scales, thresholds, out
        As of :func:`cell_statistics`, on the host or on a GPU.

    Returns
    -------
    FlatCells
        The cells as compiled kernels take them.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    flat = flatten_cells(cells)
    times, channels = cells.flags.shape
    if moment4.shape[:2] != (times, channels) or out.marks.shape != (times, channels):
        raise ValueError(f"moment4 {moment4.shape}, marks {out.marks.shape} do not go with cells {cells.power.shape}")
    if out.groups.shape != (-(-times // GROUP_TIMES), channels) or out.moments.shape != (2, 4, channels):
        raise ValueError(f"groups {out.groups.shape}, moments {out.moments.shape} do not go with {cells.power.shape}")
    if [scale.shape for scale in scales] != 2 * [(channels,)] + 4 * [(times,)]:
        raise ValueError(f"scales {[scale.shape for scale in scales]} do not go with cells {cells.power.shape}")
    for runs in (thresholds.power_runs, thresholds.kurtosis_runs):
        if runs.limits.shape != (2, *runs.lengths.shape):
            raise ValueError(f"limits {runs.limits.shape} do not go with windows {runs.lengths.shape}")
    return flat


def cell_statistics(
    cells: PowerCells,
    moment4: NDArray[np.float32],
    scales: CellScales,
    thresholds: CellThresholds,
    out: CellStatistics,
    start: int,
    stop: int,
) -> None:
    r"""Mark runs of power and kurtosis in channels ``[start, stop)``, and sum the moments of the other cells.

    A cell's power is ``z = (intensity - centre) · per_unit · weight - gain_drift``; its kurtosis is the mean over the
    polarisations of ``k = (kurtosis_gain (moment4 / power² - 1) - 1) · kurtosis_per_sigma``, the estimator of Nita &
    Gary (2010, MNRAS 406, L60), times √polarisations. Cells whose flags are not 0 count as 0 in a run.

    Parameters
    ----------
    cells
        The block.
    moment4
        float32 ``[time, channel, pol]``: mean of \|v\|⁴; of no polarisation if it is not known.
    scales
        Scales of power and kurtosis.
    thresholds
        Thresholds of runs and events.
    out
        Output.
    start, stop
        Channels to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    flat = check_cell_statistics(cells, moment4, scales, thresholds, out)
    if not out.marks.flags.c_contiguous:
        raise ValueError("marks must be C-contiguous")
    scratch = thread_scratch(len(moment4))
    _cell_statistics(flat, moment4.reshape(len(moment4), -1), scales, thresholds, out, scratch, (start, stop))
