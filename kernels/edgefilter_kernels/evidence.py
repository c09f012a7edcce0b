"""What the cells of a channel say of interference: runs of power, and runs of spectral kurtosis of either sign.

Both are expressed in standard deviations of a cell and go through :mod:`edgefilter_kernels.sumthreshold`. Kurtosis is
averaged over a run from that of each cell. To compute it of the summed cells would be the tighter test for noise, but
takes a pulse that brightens and fades over the run for interference.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.intensity import LANES, flatten, intensity, masked
from edgefilter_kernels.jit import kernel
from edgefilter_kernels.sumthreshold import runs

RUN, HIGH, LOW, ABOVE, SKY, DIP = 1, 2, 4, 8, 16, 32
"""Marks of a cell: in a run of power; in one of high or of low kurtosis; single cell above a level; on a sky track;
single cell whose kurtosis is a standard deviation below that of noise."""

_UNUSED = 64  # a cell that is flagged, while a tile is worked on: the flags are read once

GROUP = 16
"""Neighbouring times that are added up to see faint wide pulses, and slow changes of a channel."""


@kernel
def _power_tile(
    flat: NDArray[np.float32], products: int, hands: int, flags: NDArray[np.uint16], centre: NDArray[np.float32],
    per_unit: NDArray[np.float32], weight: NDArray[np.float32], c0: int, lanes: int, tile: NDArray[np.float32],
    found: NDArray[np.uint8],
) -> None:  # fmt: skip
    none, unused = np.float32(0.0), np.uint8(_UNUSED)
    if c0 < 0 or lanes > LANES:  # tells the compiler that no index counts from the end
        return
    for t in range(len(tile)):
        share = weight[t]
        intensity(flat, t, products, hands, c0, lanes, tile, t)
        for i in range(lanes):
            z = (tile[t, i] - centre[c0 + i]) * (per_unit[c0 + i] * share)
            used = flags[t, c0 + i] == 0
            tile[t, i] = z if used else none
            found[t, i] = unused & masked(not used)


@kernel
def _kurtosis_tile(
    flat: NDArray[np.float32], products: int, moment4: NDArray[np.float32], hands: int,
    gain: NDArray[np.float32], middle: NDArray[np.float32], per_sigma: NDArray[np.float32], c0: int, lanes: int,
    tile: NDArray[np.float32], found: NDArray[np.uint8],
) -> None:  # fmt: skip
    dip, clear, unused = np.uint8(DIP), np.uint8(0), np.uint8(_UNUSED)
    tiny, none, one = np.float32(1e-30), np.float32(0.0), np.float32(1.0)
    root = np.float32(np.sqrt(hands))
    if c0 < 0 or lanes > LANES:  # tells the compiler that no index counts from the end
        return
    for t in range(len(tile)):
        share, factor = per_sigma[t] / root, gain[t]
        if products == 1:
            for i in range(lanes):
                square = flat[t, c0 + i] * flat[t, c0 + i]
                estimate = factor * (moment4[t, c0 + i] / max(square, tiny) - one) - middle[c0 + i]
                tile[t, i] = estimate if square > tiny else none
        else:
            for i in range(lanes):
                total = none
                for h in range(hands):
                    mean = flat[t, products * (c0 + i) + h]
                    square = mean * mean
                    estimate = factor * (moment4[t, hands * (c0 + i) + h] / max(square, tiny) - one) - middle[c0 + i]
                    total += estimate if square > tiny else none
                tile[t, i] = total
        for i in range(lanes):
            value = tile[t, i] * share if (found[t, i] & unused) == clear else none
            tile[t, i] = value
            found[t, i] |= dip & masked(value < -one)


@kernel
def _moments(
    tile: NDArray[np.float32], marks: NDArray[np.uint8], c0: int, lanes: int, moments: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add up the cells that nothing speaks against."""
    some = np.zeros((3, LANES), np.float32)
    whole = np.zeros((4, LANES), np.float64)
    times = len(tile)
    if c0 < 0 or lanes > LANES:  # tells the compiler that no index counts from the end
        return
    seen = np.uint8(RUN | HIGH | LOW | _UNUSED)
    one, none = np.float32(1.0), np.float32(0.0)
    for first in range(0, times, GROUP):
        some[:] = none
        for t in range(first, min(first + GROUP, times)):
            for i in range(lanes):
                good = one if (marks[t, i] & seen) == 0 else none
                value = good * tile[t, i]
                some[0, i] += good
                some[1, i] += value
                some[2, i] += value * value
        for i in range(lanes):
            for m in range(3):
                whole[m, i] += some[m, i]
            whole[3, i] += some[1, i] * some[1, i]
    for m in range(4):
        for i in range(lanes):
            moments[m, c0 + i] = whole[m, i]


@kernel
def _events(
    tile: NDArray[np.float32], above: float, above_group: float, c0: int, lanes: int, found: NDArray[np.uint8],
    groups: NDArray[np.uint8],
) -> None:  # fmt: skip
    none, event = np.uint8(0), np.uint8(ABOVE)
    level, sum_level = np.float32(above), np.float32(above_group * np.sqrt(GROUP))
    total = np.empty(LANES, np.float32)
    for n in range(len(groups)):
        total[:] = 0.0
        for t in range(n * GROUP, min(n * GROUP + GROUP, len(tile))):
            for i in range(LANES):
                total[i] += min(tile[t, i], level)
                found[t, i] |= event & masked(tile[t, i] > level)
        for i in range(lanes):
            groups[n, c0 + i] = event if total[i] > sum_level else none


@kernel
def _evidence(
    flat: NDArray[np.float32], moment4: NDArray[np.float32], hands: int, flags: NDArray[np.uint16],
    centre: NDArray[np.float32], per_unit: NDArray[np.float32], weight: NDArray[np.float32],
    gain: NDArray[np.float32], middle: NDArray[np.float32], per_sigma: NDArray[np.float32],
    run_windows: NDArray[np.int64], run_limits: NDArray[np.float32],
    kurtosis_windows: NDArray[np.int64], kurtosis_limits: NDArray[np.float32], above: float, above_group: float,
    marks: NDArray[np.uint8], groups: NDArray[np.uint8], moments: NDArray[np.float64], start: int, stop: int,
) -> None:  # fmt: skip
    times, channels = flags.shape
    products, each = flat.shape[1] // channels, moment4.shape[1] // channels
    tile = np.zeros((times, LANES), np.float32)
    found = np.zeros((times, LANES), np.uint8)
    hits = np.empty((times, LANES), np.uint8)
    left = np.empty_like(tile)
    known = np.uint8(255 - _UNUSED)
    if start < 0:  # tells the compiler that no index counts from the end
        return
    for c0 in range(start, stop, LANES):
        lanes = min(LANES, stop - c0)
        if lanes < LANES:
            tile[:] = 0.0
        _power_tile(flat, products, hands, flags, centre, per_unit, weight, c0, lanes, tile, found)
        _events(tile, above, above_group, c0, lanes, found, groups)
        runs(tile, run_windows, run_limits, RUN, 0, True, found, left, hits)
        _moments(tile, found, c0, lanes, moments[0])
        if each:
            _kurtosis_tile(flat, products, moment4, each, gain, middle, per_sigma, c0, lanes, tile, found)
            runs(tile, kurtosis_windows, kurtosis_limits, HIGH, LOW, False, found, left, hits)
            _moments(tile, found, c0, lanes, moments[1])
        for t in range(times):
            for i in range(lanes):
                marks[t, c0 + i] = found[t, i] & known


def evidence(
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    hands: int,
    flags: NDArray[np.uint16],
    centre: NDArray[np.float32],
    per_unit: NDArray[np.float32],
    weight: NDArray[np.float32],
    gain: NDArray[np.float32],
    middle: NDArray[np.float32],
    per_sigma: NDArray[np.float32],
    run_windows: NDArray[np.int64],
    run_limits: NDArray[np.float32],
    kurtosis_windows: NDArray[np.int64],
    kurtosis_limits: NDArray[np.float32],
    above: float,
    above_group: float,
    marks: NDArray[np.uint8],
    groups: NDArray[np.uint8],
    moments: NDArray[np.float64],
    start: int,
    stop: int,
) -> None:
    r"""Mark runs of power and kurtosis in channels ``[start, stop)``, and add up what is left.

    A cell's power is ``z = (intensity - centre) · per_unit · weight``; its kurtosis is the mean over the hands of
    ``k = (gain (moment4 / power² - 1) - middle) · per_sigma``, the estimator of Nita & Gary (2010, MNRAS 406, L60) for
    ``gain = (M+1)/(M-1)``, times √hands. Cells whose flags are not 0 count as 0 in a run.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``: the first products are means of \|v\|² of the hands.
    moment4
        float32 ``[time, channel, hand]``: mean of \|v\|⁴; of no hand if it is not known.
    hands
        Products that add up to the intensity.
    flags
        uint16 ``[time, channel]``; a cell is used where it is 0.
    centre, per_unit
        float32 ``[channel]``: background, and 1 / standard deviation, of the intensity.
    weight
        float32 ``[time]``: √(M / usual M).
    gain, per_sigma
        float32 ``[time]``.
    middle
        float32 ``[channel]``: kurtosis of noise, 1 but for coarse quantisation.
    run_windows, run_limits
        As :func:`edgefilter_kernels.sumthreshold.runs` takes them; limits are ``[2, window]``.
    kurtosis_windows, kurtosis_limits
        The same.
    above
        Power of a single cell from which on it is marked ABOVE.
    above_group
        The same for 16 times together, in their own standard deviations; of a cell, no more than ``above`` is counted,
        so that a single strong one does not make a group.
    marks
        Output, uint8 ``[time, channel]``: RUN, HIGH, LOW, ABOVE, DIP.
    groups
        Output, uint8 ``[⌈time / 16⌉, channel]``: ABOVE.
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
    flat = flatten(power, flags, hands)
    times, channels = flags.shape
    if moment4.shape[:2] != flags.shape or marks.shape != flags.shape or moments.shape != (2, 4, channels):
        raise ValueError(f"moment4 {moment4.shape}, marks {marks.shape} do not go with cells {power.shape}")
    if groups.shape != (-(-times // GROUP), channels):
        raise ValueError(f"groups {groups.shape} do not go with cells {power.shape}")
    if not (centre.shape == per_unit.shape == middle.shape == (channels,)):
        raise ValueError(f"backgrounds {centre.shape} do not go with cells {power.shape}")
    if not (weight.shape == gain.shape == per_sigma.shape == (times,)):
        raise ValueError(f"gains {gain.shape} do not go with cells {power.shape}")
    if run_limits.shape != (2, *run_windows.shape) or kurtosis_limits.shape != (2, *kurtosis_windows.shape):
        raise ValueError(f"limits {run_limits.shape} and {kurtosis_limits.shape} do not go with the windows")
    _evidence(
        flat, moment4.reshape(times, -1), hands, flags, centre, per_unit, weight, gain, middle, per_sigma,
        run_windows, run_limits, kurtosis_windows, kurtosis_limits, above, above_group, marks, groups, moments,
        start, stop,
    )  # fmt: skip
