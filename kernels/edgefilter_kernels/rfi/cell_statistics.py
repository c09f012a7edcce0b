"""What the cells of a channel say of interference: runs of power, and runs of spectral kurtosis of either sign.

Both are expressed in standard deviations of a cell and go through :mod:`edgefilter_kernels.rfi.sumthreshold`. Kurtosis
is averaged over a run from that of each cell. To compute it of the summed cells would be the tighter test for noise,
but takes a pulse that brightens and fades over the run for interference.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.intensity import LANES, flatten_cells, intensity
from edgefilter_kernels.rfi.sumthreshold import find_runs
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
"""Marks of a cell: in a run of power; in one of high or of low kurtosis; single cell above a level; on a dispersion
track; single cell whose kurtosis is a standard deviation below that of noise; like noise in the midst of a strong run,
and not POWER_RUN for that."""
IN_RUN = POWER_RUN | RUN_HOLE
"""What makes a run to the guard: one with holes is one."""

_RUN, _HIGH, _LOW, _ABOVE, _DIP, _HOLE, _SHALLOW, _DEEP, _UNUSED, _OUT = range(10)  # planes; two begin at the last
_PLANE_MARKS = POWER_RUN, EVENT, RUN_HOLE, HIGH_KURTOSIS, LOW_KURTOSIS, KURTOSIS_DIP  # in the order of the planes
GROUP_TIMES = 16
"""Neighbouring times that are added up to see faint wide pulses, and slow changes of a channel."""


@kernel
def _power_tile(
    flat: NDArray[np.float32], products: int, n_pols: int, flags: NDArray[np.uint16],
    channel_tables: NDArray[np.float32], time_tables: NDArray[np.float32], event_threshold: float,
    group_threshold: float, c0: int, lanes: int, tile: NDArray[np.float32], unused: NDArray[np.uint64],
    events: NDArray[np.uint64], groups: NDArray[np.uint8],
) -> None:  # fmt: skip
    level, sum_level = np.float32(event_threshold), np.float32(group_threshold * np.sqrt(GROUP_TIMES))
    none, event = np.uint8(0), np.uint8(EVENT)
    if c0 < 0 or lanes > LANES:  # tells the compiler that no index counts from the end
        return
    centre, unit = np.zeros((2, LANES), np.float32)
    centre[:lanes], unit[:lanes] = channel_tables[0, c0 : c0 + lanes], channel_tables[1, c0 : c0 + lanes]
    weight, gain_drift = time_tables[0], time_tables[1]
    flat_flags, row = flags.reshape(-1), np.ones(LANES, np.uint16)
    total = np.empty(LANES, np.float32)
    channel_scale, outputs = (centre, unit), (total, unused, events)
    for n in range(len(groups)):
        total[:] = np.float32(0.0)
        for t in range(n * GROUP_TIMES, min(n * GROUP_TIMES + GROUP_TIMES, len(tile))):
            prefetch_range(flat, (t + PREFETCH_TIMES) * flat.shape[1] + products * c0, products * lanes)
            prefetch_range(flags, (t + PREFETCH_TIMES) * flags.shape[1] + c0, lanes)
            intensity(flat, t, products, n_pols, c0, lanes, tile, t)
            time_scale = weight[t], gain_drift[t], level
            if lanes == LANES:
                normalise_row(tile, flat_flags, (t, t * flags.shape[1] + c0), channel_scale, time_scale, outputs)
            else:
                for i in range(lanes):
                    row[i] = flags[t, c0 + i]
                normalise_row(tile, row, (t, 0), channel_scale, time_scale, outputs)
        for i in range(lanes):
            groups[n, c0 + i] = event if total[i] > sum_level else none


@kernel
def _kurtosis_tile(
    flat: NDArray[np.float32], products: int, moment4: NDArray[np.float32], n_pols: int,
    time_tables: NDArray[np.float32], c0: int, lanes: int,
    tile: NDArray[np.float32], unused: NDArray[np.uint64], dips: NDArray[np.uint64],
) -> None:  # fmt: skip
    tiny, none, one = np.float32(1e-30), np.float32(0.0), np.float32(1.0)
    root, gain, per_sigma = np.float32(np.sqrt(n_pols)), time_tables[2], time_tables[3]
    if c0 < 0 or lanes > LANES:  # tells the compiler that no index counts from the end
        return
    for t in range(len(tile)):
        prefetch_range(flat, (t + PREFETCH_TIMES) * flat.shape[1] + products * c0, products * lanes)
        prefetch_range(moment4, (t + PREFETCH_TIMES) * moment4.shape[1] + n_pols * c0, n_pols * lanes)
        factor = gain[t]
        if products == 1:
            for i in range(lanes):
                square = flat[t, c0 + i] * flat[t, c0 + i]
                estimate = factor * (moment4[t, c0 + i] / max(square, tiny) - one) - one
                tile[t, i] = estimate if square > tiny else none
        else:
            for i in range(lanes):
                total = none
                for h in range(n_pols):
                    mean = flat[t, products * (c0 + i) + h]
                    square = mean * mean
                    estimate = factor * (moment4[t, n_pols * (c0 + i) + h] / max(square, tiny) - one) - one
                    total += estimate if square > tiny else none
                tile[t, i] = total
        scale_row(tile, t, per_sigma[t] / root, unused, dips)


@kernel
def _add_moments(
    tile: NDArray[np.float32], excluded: NDArray[np.uint64], c0: int, lanes: int, moments: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add up the cells that nothing speaks against."""
    some = np.zeros((3, LANES), np.float32)
    whole = np.zeros((4, LANES), np.float64)
    times = len(tile)
    if c0 < 0 or lanes > LANES:  # tells the compiler that no index counts from the end
        return
    for first in range(0, times, GROUP_TIMES):
        add_moments(tile, first, min(first + GROUP_TIMES, times), excluded, some)
        for i in range(LANES):
            for m in range(3):
                whole[m, i] += some[m, i]
            whole[3, i] += some[1, i] * some[1, i]
    for m in range(4):
        for i in range(lanes):
            moments[m, c0 + i] = whole[m, i]


@kernel
def _write_marks(planes: NDArray[np.uint64], kurtosis_pols: int, c0: int, lanes: int, marks: NDArray[np.uint8]) -> None:
    """Write the marks of all planes."""
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
    flat: NDArray[np.float32], moment4: NDArray[np.float32], n_pols: int, flags: NDArray[np.uint16],
    channel_tables: NDArray[np.float32], time_tables: NDArray[np.float32],
    run_windows: NDArray[np.int64], run_limits: NDArray[np.float32],
    kurtosis_windows: NDArray[np.int64], kurtosis_limits: NDArray[np.float32],
    event_threshold: float, group_threshold: float,
    marks: NDArray[np.uint8], groups: NDArray[np.uint8], moments: NDArray[np.float64],
    tiles: NDArray[np.float32], planes: NDArray[np.uint64], start: int, stop: int,
) -> None:  # fmt: skip
    times, channels = flags.shape
    products, kurtosis_pols = flat.shape[1] // channels, moment4.shape[1] // channels
    tile, remaining = tiles[0], tiles[1]
    unused, excluded = planes[_UNUSED], planes[_OUT]
    if start < 0:  # tells the compiler that no index counts from the end
        return
    for c0 in range(start, stop, LANES):
        lanes = min(LANES, stop - c0)
        if lanes < LANES:
            tile[:] = np.float32(0.0)
        _power_tile(
            flat, products, n_pols, flags, channel_tables, time_tables, event_threshold, group_threshold, c0, lanes,
            tile, unused, planes[_ABOVE], groups,
        )  # fmt: skip
        holes, scratch_planes = planes[_HOLE : _HOLE + 2], planes[_OUT : _OUT + 2]
        find_runs(tile, run_windows, run_limits, True, planes[_RUN : _RUN + 2], holes, remaining, scratch_planes)
        for t in range(times):
            excluded[t] = unused[t] | planes[_RUN, t]
        _add_moments(tile, excluded, c0, lanes, moments[0])
        if kurtosis_pols:
            _kurtosis_tile(flat, products, moment4, kurtosis_pols, time_tables, c0, lanes, tile, unused, planes[_DIP])
            holes = planes[_SHALLOW : _SHALLOW + 2]
            both = planes[_HIGH : _HIGH + 2]
            find_runs(tile, kurtosis_windows, kurtosis_limits, False, both, holes, remaining, scratch_planes)
            for t in range(times):
                planes[_HIGH, t] &= ~planes[_SHALLOW, t]
                planes[_LOW, t] &= ~planes[_DEEP, t]
                excluded[t] = unused[t] | planes[_RUN, t] | planes[_HIGH, t] | planes[_LOW, t]
            _add_moments(tile, excluded, c0, lanes, moments[1])
        for t in range(times):
            planes[_RUN, t] &= ~planes[_HOLE, t]
        _write_marks(planes, kurtosis_pols, c0, lanes, marks)


def cell_statistics(
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    n_pols: int,
    flags: NDArray[np.uint16],
    channel_tables: NDArray[np.float32],
    time_tables: NDArray[np.float32],
    run_windows: NDArray[np.int64],
    run_limits: NDArray[np.float32],
    kurtosis_windows: NDArray[np.int64],
    kurtosis_limits: NDArray[np.float32],
    event_threshold: float,
    group_threshold: float,
    marks: NDArray[np.uint8],
    groups: NDArray[np.uint8],
    moments: NDArray[np.float64],
    start: int,
    stop: int,
) -> None:
    r"""Mark runs of power and kurtosis in channels ``[start, stop)``, and add up what is left.

    A cell's power is ``z = (intensity - centre) · per_unit · weight - gain_drift``; its kurtosis is the mean over the
    polarisations of ``k = (gain (moment4 / power² - 1) - 1) · per_sigma``, the estimator of Nita & Gary (2010, MNRAS
    406, L60) for ``gain = (M+1)/(M-1)``, times √polarisations. Cells whose flags are not 0 count as 0 in a run.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``: the first products are means of \|v\|² of the polarisations.
    moment4
        float32 ``[time, channel, pol]``: mean of \|v\|⁴; of no polarisation if it is not known.
    n_pols
        Products that add up to the intensity.
    flags
        uint16 ``[time, channel]``; a cell is used where it is 0.
    channel_tables
        float32 ``[2, channel]``: centre and per_unit, background and 1 / standard deviation of the intensity.
    time_tables
        float32 ``[4, time]``: weight, √(M / usual M), and gain_drift, by how much all channels are up together, in
        standard deviations; gain and per_sigma of the kurtosis.
    run_windows, run_limits
        As :func:`edgefilter_kernels.rfi.sumthreshold.find_runs` takes them; limits are ``[2, window]``.
    kurtosis_windows, kurtosis_limits
        The same.
    event_threshold
        Power of a single cell from which on it is marked EVENT.
    group_threshold
        The same for 16 times together, in their own standard deviations; of a cell, no more than ``event_threshold`` is
        counted, so that a single strong one does not make a group.
    marks
        Output, uint8 ``[time, channel]``: POWER_RUN, HIGH_KURTOSIS, LOW_KURTOSIS, EVENT, KURTOSIS_DIP, RUN_HOLE.
    groups
        Output, uint8 ``[⌈time / 16⌉, channel]``: EVENT.
    moments
        Output, float64 ``[2, 4, channel]``: of z over the used cells in no run of power, and of k over those in no run
        at all: their number, sum, sum of squares, and sum of the squared sums over 16 times. 0 without ``moment4``.
    start, stop
        Channels to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    flat = flatten_cells(power, flags, n_pols)
    times, channels = flags.shape
    if moment4.shape[:2] != flags.shape or marks.shape != flags.shape or moments.shape != (2, 4, channels):
        raise ValueError(f"moment4 {moment4.shape}, marks {marks.shape} do not go with cells {power.shape}")
    if not marks.flags.c_contiguous:
        raise ValueError("marks must be C-contiguous")
    if groups.shape != (-(-times // GROUP_TIMES), channels):
        raise ValueError(f"groups {groups.shape} do not go with cells {power.shape}")
    if channel_tables.shape != (2, channels) or time_tables.shape != (4, times):
        raise ValueError(f"tables {channel_tables.shape} and {time_tables.shape} do not go with cells {power.shape}")
    if run_limits.shape != (2, *run_windows.shape) or kurtosis_limits.shape != (2, *kurtosis_windows.shape):
        raise ValueError(f"limits {run_limits.shape} and {kurtosis_limits.shape} do not go with the windows")
    _cell_statistics(
        flat, moment4.reshape(times, -1), n_pols, flags, channel_tables, time_tables, run_windows, run_limits,
        kurtosis_windows, kurtosis_limits, event_threshold, group_threshold, marks, groups, moments,
        *thread_scratch(times), start, stop,
    )  # fmt: skip
