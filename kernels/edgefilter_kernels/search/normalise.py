"""Robust level and scatter, and channels normalised to zero mean and unit variance."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

_MAD_TO_SIGMA = 1.482602218505602
_BULK_SIGMA = 3.0
_MIN_BULK = 0.8  # of the values of a channel
_CLIPPED_STD = 0.9865784  # standard deviation of a unit Gaussian that is clipped at ±3
_SUM_LENGTH = 1024  # values that are summed in single precision
_SAMPLE = 128  # values from which median and MAD of a channel are computed
_MIN_ROWS = 16
_TILE_TIMES = 256  # times that are transposed together
_STRIP = 64  # channels that are computed together
_MAX_FINITE = 3e38  # larger values count as infinite

COUNTS_PER_SIGMA = 8
"""Counts per sigma of normalised channels: rounding adds 0.13 % to the variance."""
CLIP_SIGMA = 10.0
"""Largest normalised value, sigma: one bad cell is not a pulse."""
FULL_WEIGHT = 64
"""Relative weight of a complete row."""

_ZERO, _ONE, _MAX_FLOAT, _HALF = (np.float32(number) for number in (0, 1, _MAX_FINITE, 128.5))
_CLIP_COUNTS, _FULL = np.float32(COUNTS_PER_SIGMA * CLIP_SIGMA), np.float32(FULL_WEIGHT)

# Compiled into its callers, with products and sums rounded apart, as in the CUDA version: both make the same bytes.
_exact_kernel = njit(nogil=True)


@kernel
def median(values: NDArray[np.float32]) -> float:
    """Return the median of some values, the upper one of two.

    Bisects the range of the values, as integers of the same order, and counts the values below the pivot: no branch
    depends on the values, while a quickselect mispredicts every second branch.

    Parameters
    ----------
    values
        float32 ``[n]``, n > 0, finite.

    Returns
    -------
    median
        One of the values.
    """
    keys = np.empty(values.size, np.int32)
    keys.view(np.float32)[:] = values
    for i in range(keys.size):
        keys[i] = keys[i] if keys[i] >= 0 else keys[i] ^ 0x7FFFFFFF
    middle = values.size // 2
    low, high = np.int64(keys.min()), np.int64(keys.max()) + 1
    while high - low > 1:
        pivot = np.int32((low + high) >> 1)
        below = np.int32(0)
        for i in range(keys.size):
            below = np.int32(below + np.int32(keys[i] < pivot))
        if below <= middle:
            low = np.int64(pivot)
        else:
            high = np.int64(pivot)
    found = np.full(1, low if low >= 0 else low ^ 0x7FFFFFFF, np.int32)
    return float(found.view(np.float32)[0])


@kernel
def clipped_mean_std(values: NDArray[np.float32], sample: int) -> tuple[float, float]:
    """Return mean and standard deviation of the bulk of some values, robust against outliers.

    Median and MAD of an evenly spaced sample locate the bulk; mean and standard deviation of all values within three
    sigma of it follow, corrected for the clipping. If more than half of the values are equal (few bits), the MAD is 0,
    and the plain mean and standard deviation are returned.

    Parameters
    ----------
    values
        float32 ``[n]``, finite.
    sample
        Least number of values from which median and MAD are computed (all, if there are fewer).

    Returns
    -------
    level, scatter
        Both 0 if there are no values.
    """
    count = values.size
    if count == 0:
        return 0.0, 0.0
    step = max(count // sample, 1)
    some = values[::step].copy()
    centre = np.float32(median(some))
    for i in range(some.size):
        some[i] = abs(some[i] - centre)
    reach = np.float32(_BULK_SIGMA * _MAD_TO_SIGMA * median(some))
    correction = _CLIPPED_STD
    if reach == 0.0:
        reach, correction = np.float32(np.inf), 1.0
    kept, total, square = 0.0, 0.0, 0.0
    for start in range(0, count, _SUM_LENGTH):
        k, s, q = _within(values[start : start + _SUM_LENGTH], centre, reach)
        kept, total, square = kept + k, total + s, square + q
    mean = total / kept
    return float(centre + mean), float(np.sqrt(max(square / kept - mean * mean, 0.0)) / correction)


@kernel
def _within(
    values: NDArray[np.float32], centre: np.float32, reach: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    # Number, sum and sum of squares of the offsets from the centre that are within reach. Without branches and all in
    # float32, so that it is vectorised: 0.13 ns a value, against 1.6 ns with a conditional sum.
    kept, total, square = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for i in range(values.size):
        off = values[i] - centre
        power = off * off
        inside = np.float32(power <= reach * reach)
        kept += inside
        total += off * inside
        square += power * inside
    return kept, total, square


class NormalisedPower(NamedTuple):
    """Normalised channels.

    Parameters
    ----------
    value
        int8 ``[channel, time]``, C-contiguous: cut at ± :data:`CLIP_SIGMA`; 0 where there is no data.
    weight
        int8 ``[channel, time]``, C-contiguous: weight over that of a complete row, in parts of :data:`FULL_WEIGHT`; at
        least 1 where there is data, otherwise 0.
    """

    value: NDArray[np.int8]
    weight: NDArray[np.int8]


@kernel
def normalise(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    full: int,
    first: int,
    start: int,
    stop: int,
    out: NormalisedPower,
) -> None:
    """Bring channels to zero mean and a variance of their weight, :data:`COUNTS_PER_SIGMA` to a sigma.

    A row of weight w contributes (x - level) / scatter · w / full, so that every cell counts the same in a sum. Level
    and scatter are those of all rows. Channels with fewer than 16 valid rows, or without scatter, have no data.

    Parameters
    ----------
    power
        float32 ``[time, channel]``, C-contiguous.
    weight
        uint16 ``[time, channel]``, C-contiguous: cells that a row is the mean of; 0 is no data, as is power that is not
        finite.
    full
        Weight of a complete row.
    first
        Rows before this one contribute to level and scatter only.
    start, stop
        Channels ``[start, stop)`` are normalised.
    out
        ``[channel, time - first]``: channels ``[start, stop)`` are written.
    """
    unit, count = np.float32(1 / full), stop - start
    scale, complete = _measure_scale(power, weight, first, start, stop, unit)
    # Transposed through small tiles: lines of the cache that are a power of two apart displace each other.
    values, weights = np.empty((2, len(scale), _TILE_TIMES, _STRIP), np.int8)
    partial = [s for s in range(len(scale)) if not complete[s * _STRIP : (s + 1) * _STRIP].all()]
    for begin in range(first, power.shape[0], _TILE_TIMES):
        times = min(power.shape[0] - begin, _TILE_TIMES)
        for t in range(times):
            for s in range(len(scale)):
                strip = slice(start + s * _STRIP, min(start + (s + 1) * _STRIP, stop))
                _normalise_row(power[begin + t, strip], weight[begin + t, strip], unit, scale[s], values[s, t])
            for s in partial:
                strip = slice(start + s * _STRIP, min(start + (s + 1) * _STRIP, stop))
                _weight_row(power[begin + t, strip], weight[begin + t, strip], unit, scale[s], weights[s, t])
        for c in range(count):
            s, j, to = c // _STRIP, c % _STRIP, begin - first
            out.value[start + c, to : to + times] = values[s, :times, j]
            if not complete[c]:
                out.weight[start + c, to : to + times] = weights[s, :times, j]
    for c in range(count):
        if complete[c]:
            out.weight[start + c] = FULL_WEIGHT


@kernel
def _measure_scale(
    power: NDArray[np.float32], weight: NDArray[np.uint16], first: int, start: int, stop: int, unit: np.float32
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    # Level, and counts to a unit of power, of each channel, [strip, 2 _STRIP]; NaN where there is no data. Whether all
    # weights of a channel are full.
    count, strips = stop - start, -(-(stop - start) // _STRIP)
    bulk = np.zeros((2, strips * _STRIP), np.float32)
    _find_bulk(power, weight, first, start, unit, bulk[:, :count])
    bulk = np.ascontiguousarray(bulk.reshape(2, strips, _STRIP).transpose(1, 0, 2)).reshape(strips, 2 * _STRIP)
    sums = np.zeros((strips, 5 * _STRIP), np.float32)
    for t in range(power.shape[0]):
        for s in range(strips):
            strip = slice(start + s * _STRIP, min(start + (s + 1) * _STRIP, stop))
            _accumulate_row(power[t, strip], weight[t, strip], unit, bulk[s], sums[s])
    scale, complete = np.full((strips, 2 * _STRIP), np.float32(np.nan)), np.zeros(count, np.bool_)
    for c in range(count):
        s, j = c // _STRIP, c % _STRIP
        kept, total = sums[s, j], sums[s, _STRIP + j]
        if kept < _MIN_ROWS:
            continue
        mean = sums[s, 2 * _STRIP + j] / max(total, np.float32(1e-30))
        level = bulk[s, j] + mean
        scatter = np.sqrt(max(sums[s, 3 * _STRIP + j] - total * mean * mean, np.float32(0.0)) / kept)
        if bulk[s, _STRIP + j] < _MAX_FINITE:
            scatter /= _CLIPPED_STD
        # Rounding of a constant channel is no scatter.
        if scatter > 1e-6 * abs(level):
            scale[s, j], scale[s, _STRIP + j] = level, COUNTS_PER_SIGMA / scatter
            complete[c] = sums[s, 4 * _STRIP + j] == power.shape[0] and np.isfinite(level)
    return scale, complete


@_exact_kernel
def _accumulate_row(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    unit: np.float32,
    bulk: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    # Adds the number, the weight, the weighted offset and the weighted square of the offset of the values in the bulk,
    # and the weight of all that is finite.
    for c in range(power.size):
        w = np.float32(weight[c]) * unit
        off = power[c] - bulk[c]
        distance = off * off
        square = distance * w
        inside = (square <= bulk[_STRIP + c]) & (w > _ZERO)
        sums[c] += _ONE if inside else _ZERO
        sums[_STRIP + c] += w if inside else _ZERO
        sums[2 * _STRIP + c] += off * w if inside else _ZERO
        sums[3 * _STRIP + c] += square if inside else _ZERO
        sums[4 * _STRIP + c] += w if distance < _MAX_FLOAT else _ZERO


@_exact_kernel
def _normalise_row(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    unit: np.float32,
    scale: NDArray[np.float32],
    out: NDArray[np.int8],
) -> None:
    for c in range(power.size):
        w = np.float32(weight[c]) * unit
        x = (power[c] - scale[c]) * scale[_STRIP + c]
        valid = (x < _MAX_FLOAT) & (x > -_MAX_FLOAT) & (w > _ZERO)
        counts = x if x < _CLIP_COUNTS else _CLIP_COUNTS
        counts = (counts if counts > -_CLIP_COUNTS else -_CLIP_COUNTS) * w
        # To the nearest integer: positive before the fraction is cut off.
        out[c] = np.int8(np.int32((counts if valid else _ZERO) + _HALF) - np.int32(128))


@_exact_kernel
def _weight_row(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    unit: np.float32,
    scale: NDArray[np.float32],
    out: NDArray[np.int8],
) -> None:
    for c in range(power.size):
        w = np.float32(weight[c]) * unit
        x = (power[c] - scale[c]) * scale[_STRIP + c]
        valid = (x < _MAX_FLOAT) & (x > -_MAX_FLOAT) & (w > _ZERO)
        relative = w * _FULL
        relative = _ONE if relative < _ONE else relative
        out[c] = np.int8(np.int32((relative if valid else _ZERO) + _HALF) - np.int32(128))


@kernel
def _find_bulk(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    first: int,
    start: int,
    unit: np.float32,
    bulk: NDArray[np.float32],
) -> None:
    # Writes the median of about 128 evenly spaced valid values, and the square of three sigma from their MAD.
    rows, count = power.shape[0], bulk.shape[1]
    # Rows that are written count up to a multiple of eight: it fixes which rows of an odd block are the sample.
    step = max((rows + -(rows - first) % 8) // _SAMPLE, 1)
    some, root = np.empty((2, count, 2 * _SAMPLE), np.float32)
    found = np.zeros(count, np.int64)
    for t in range(0, rows, step):
        for c in range(count):
            x, w = power[t, start + c], weight[t, start + c]
            if w > 0 and abs(x) < _MAX_FINITE:
                some[c, found[c]], root[c, found[c]] = x, np.sqrt(w * unit)
                found[c] += 1
    for c in range(count):
        if found[c] < _SAMPLE // 2 and step > 1:
            valid = np.flatnonzero((weight[:, start + c] > 0) & (np.abs(power[:, start + c]) < _MAX_FINITE))
            valid = valid[:: max(valid.size // _SAMPLE, 1)]
            found[c] = valid.size
            for i in range(valid.size):
                some[c, i] = power[valid[i], start + c]
                root[c, i] = np.sqrt(weight[valid[i], start + c] * unit)
        if found[c] == 0:
            continue
        line = some[c, : found[c]]
        centre = np.float32(median(line))
        for i in range(line.size):
            line[i] = abs(line[i] - centre) * root[c, i]
        reach = np.float32(_BULK_SIGMA * _MAD_TO_SIGMA * median(line))
        inside = 0
        for i in range(line.size):
            inside += line[i] <= reach
        # Of one or two bits, more than half of the values may lie close together, and most others far from them.
        is_bulk = reach > 0.0 and inside > _MIN_BULK * line.size
        bulk[0, c], bulk[1, c] = centre, reach * reach if is_bulk else np.float32(_MAX_FINITE)


@kernel
def tscrunch2(value: NDArray[np.int8], out: NDArray[np.int8]) -> None:
    """Add neighbouring pairs of times, divided by √2 to keep the variance.

    Parameters
    ----------
    value
        int8 ``[channel, 2 n]``.
    out
        int8 ``[channel, n]``: written.
    """
    root = np.float32(np.sqrt(0.5))
    for c in range(value.shape[0]):
        pairs, scrunched = value[c], out[c]
        for t in range(scrunched.size):
            total = np.rint(np.float32(pairs[2 * t] + pairs[2 * t + 1]) * root)
            scrunched[t] = np.int8(min(max(total, np.float32(-127.0)), np.float32(127.0)))


@kernel
def max_pool(relative_weight: NDArray[np.int8], repeat: int, out: NDArray[np.int8]) -> None:
    """Take the maximum of every ``repeat`` times.

    Parameters
    ----------
    relative_weight
        int8 ``[channel, repeat n]``, 0 or more.
    repeat
        Times of which the maximum is taken.
    out
        int8 ``[channel, n]``: written.
    """
    for c in range(relative_weight.shape[0]):
        line, most = relative_weight[c], out[c]
        for t in range(most.size):
            largest = np.int8(0)
            for part in line[t * repeat : (t + 1) * repeat]:
                largest = max(largest, part)
            most[t] = largest
