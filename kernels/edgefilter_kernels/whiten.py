"""Robust level and scatter, and channels brought to zero mean and unit variance."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.lanes import LANES, Lanes, at_step, index, load, store, transpose, vector_code

_MAD_TO_SIGMA = 1.482602218505602
_CLIP = 3.0
# Standard deviation of a unit Gaussian that is cut at ±3.
_CLIPPED_SIGMA = 0.9865784
_RUN = 1024  # values that are summed in single precision
_SAMPLE = 128  # values that median and MAD of a channel are taken from
_LEAST_ROWS = 16
_TURN_ROWS = 2 * LANES  # times that are transposed together
_STRIP = 64  # channels that are transposed together

COUNTS = 8
"""Counts to a sigma of whitened channels: rounding adds 0.13 % to the variance."""
LIMIT_SIGMA = 10.0
"""Where whitened values are cut: one bad cell is not a pulse."""
WHOLE = 64
"""Share of a complete row."""


@kernel
def median(values: NDArray[np.float32]) -> float:
    """Middle of ``values`` (the upper one of two); puts them in another order.

    Parameters
    ----------
    values
        float32 ``[n]``, n > 0, finite.
    """
    low, high, middle = 0, values.size - 1, values.size // 2
    while low < high:  # Hoare's selection
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if middle <= right:
            high = right
        elif middle >= left:
            low = left
        else:
            break
    return float(values[middle])


@kernel
def level_scatter(values: NDArray[np.float32], sample: int) -> tuple[float, float]:
    """Mean and standard deviation of the bulk of ``values``, whatever a minority of outliers does.

    Median and MAD of an evenly spaced sample say where the bulk is; mean and standard deviation of all values within
    three sigma of it follow, corrected for the cut. Values of which more than half are equal (few bits) have no MAD:
    they give their plain mean and standard deviation.

    Parameters
    ----------
    values
        float32 ``[n]``, finite, not changed.
    sample
        Least number of values that median and MAD are taken from (all, if there are fewer).

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
    reach = np.float32(_CLIP * _MAD_TO_SIGMA * median(some))
    correction = _CLIPPED_SIGMA
    if reach == 0.0:
        reach, correction = np.float32(np.inf), 1.0
    kept, total, square = 0.0, 0.0, 0.0
    for start in range(0, count, _RUN):
        k, s, q = _within(values[start : start + _RUN], centre, reach)
        kept, total, square = kept + k, total + s, square + q
    mean = total / kept
    return float(centre + mean), float(np.sqrt(max(square / kept - mean * mean, 0.0)) / correction)


@kernel
def _within(
    values: NDArray[np.float32], centre: np.float32, reach: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    # Number, sum and sum of squares of the offsets from the centre that are in reach. Without branches and all in
    # float32, so that it runs in lanes: 0.13 ns a value, against 1.6 with a conditional sum.
    kept, total, square = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for i in range(values.size):
        off = values[i] - centre
        power = off * off
        inside = np.float32(power <= reach * reach)
        kept += inside
        total += off * inside
        square += power * inside
    return kept, total, square


@kernel
def whiten(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    full: int,
    first: int,
    start: int,
    stop: int,
    value: NDArray[np.int8],
    share: NDArray[np.int8],
) -> None:
    """Bring channels to zero mean and a variance of their share, :data:`COUNTS` to a sigma.

    What a row of weight w contributes is (x - level) / scatter · w / full: so every cell counts the same in a sum.
    Level and scatter are those of all rows that are given.

    Parameters
    ----------
    power
        float32 ``[time, channel]``, C-contiguous.
    weight
        uint16 ``[time, channel]``: cells that a row is the mean of; 0 is no data, as is power that is not finite.
    full
        Weight of a complete row.
    first
        Rows before this one serve for level and scatter alone.
    start, stop
        Channels that are made.
    value
        int8 ``[channel, time - first]``: cut at ± :data:`LIMIT_SIGMA`; 0 where there is no data.
    share
        int8 ``[channel, time - first]``: w / full in parts of :data:`WHOLE`, at least 1 where there is data. Channels
        with fewer than 16 valid rows, or that do not scatter, have no data.
    """
    rows = power.shape[0]
    # Odd lengths in cache lines: a transposition with a stride of a power of two falls on few sets of the cache.
    line = np.empty((_STRIP, rows + 16), np.float32)
    part = np.empty((_STRIP, rows + 64), np.int8)
    parts = np.zeros(full + 1, np.int8)
    for w in range(1, full + 1):
        parts[w] = max(1, (2 * WHOLE * w + full) // (2 * full))
    for strip in range(start, stop, _STRIP):
        count = min(_STRIP, stop - strip)
        _transpose(power, strip, count, line)
        _shares(weight, parts, strip, count, part)
        for c in range(count):
            _whiten_channel(line[c, :rows], part[c, :rows], first, value[strip + c], share[strip + c])


@kernel
def _transpose(power: NDArray[np.float32], strip: int, count: int, line: NDArray[np.float32]) -> None:
    # Channels [strip, strip + count) to rows; 16 x 8 at a time, where that many are left.
    channels, stride = power.shape[1], line.shape[1]
    flat, out = power.reshape(-1), line.reshape(-1)
    rows, columns = power.shape[0] // _TURN_ROWS * _TURN_ROWS, count // LANES * LANES
    for t in range(0, rows, _TURN_ROWS):
        for c in range(0, columns, LANES):
            _turn(flat, t * channels + strip + c, channels, out, c * stride + t, stride)
    for t in range(power.shape[0]):
        here = power[t, strip : strip + count]
        for c in range(columns if t < rows else 0, count):
            line[c, t] = here[c]


@vector_code
def _turn(builder: Any, source: Any, at: Any, step: Any, out: Any, to: Any, stride: Any) -> None:
    # Sixteen rows of eight to eight rows of sixteen: real and imaginary parts are the first and the last rows.
    def row(number: int) -> Any:
        return load(builder, source, at_step(builder, at, step, number))

    turned = transpose([Lanes(builder, row(t), row(t + LANES)) for t in range(LANES)])
    for c, column in enumerate(turned):
        place = at_step(builder, to, stride, c)
        store(builder, column.real, out, place)
        store(builder, column.imaginary, out, builder.add(place, index(LANES)))


@kernel
def _shares(
    weight: NDArray[np.uint16], parts: NDArray[np.int8], strip: int, count: int, part: NDArray[np.int8]
) -> None:
    # The shares of channels [strip, strip + count), channel-major.
    full = np.uint16(parts.size - 1)
    missing = np.uint16(0)
    for t in range(weight.shape[0]):
        cells = weight[t, strip : strip + count]
        for c in range(count):
            missing |= cells[c] ^ full
    if missing == 0:
        part[:] = WHOLE
        return
    for t in range(weight.shape[0]):
        cells = weight[t, strip : strip + count]
        for c in range(count):
            part[c, t] = parts[cells[c]]


@kernel
def _whiten_channel(
    line: NDArray[np.float32],
    part: NDArray[np.int8],
    first: int,
    value: NDArray[np.int8],
    share: NDArray[np.int8],
) -> None:
    value[:] = 0
    share[:] = 0
    whole, infinite, none = np.float32(1 / WHOLE), np.float32(np.inf), np.float32(0.0)
    for t in range(line.size):
        good = abs(line[t]) < infinite
        part[t] = part[t] if good else np.int8(0)
        line[t] = line[t] if good else none
    some, root = _sample(line, part)
    if some.size < _LEAST_ROWS:
        return
    centre = np.float32(median(some.copy()))
    for i in range(some.size):
        some[i] = abs(some[i] - centre) * root[i]
    reach, correction = np.float32(_CLIP * _MAD_TO_SIGMA * median(some)), _CLIPPED_SIGMA
    if reach == 0.0:
        reach, correction = infinite, 1.0
    kept, weight, total, square = 0.0, 0.0, 0.0, 0.0
    for start in range(0, line.size, _RUN):
        k, w, s, q = _within_parts(line[start : start + _RUN], part[start : start + _RUN], centre, reach)
        kept, weight, total, square = kept + k, weight + w, total + s, square + q
    mean = total / weight
    level = centre + mean
    scatter = np.sqrt(max(square - weight * mean * mean, 0.0) / kept) / correction
    # Rounding of a constant channel is no scatter.
    if scatter <= 1e-6 * abs(level):
        return
    low, factor, limit = np.float32(level), np.float32(COUNTS / scatter), np.float32(COUNTS * LIMIT_SIGMA)
    for t in range(value.size):
        counts = min(max((line[first + t] - low) * factor, -limit), limit) * (np.float32(part[first + t]) * whole)
        value[t] = np.int8(np.floor(counts + np.float32(0.5)))
    share[:] = part[first:]


@kernel
def _sample(line: NDArray[np.float32], part: NDArray[np.int8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    # About 128 valid values, evenly spaced, and the roots of their shares.
    some, root = np.empty(2 * _SAMPLE, np.float32), np.empty(2 * _SAMPLE, np.float32)
    count, step = 0, max(line.size // _SAMPLE, 1)
    for t in range(0, line.size, step):
        if part[t] > 0:
            some[count], root[count] = line[t], np.sqrt(np.float32(part[t]) * np.float32(1 / WHOLE))
            count += 1
    if count < _SAMPLE // 2 and step > 1:
        valid = np.flatnonzero(part)
        count, step = 0, max(valid.size // _SAMPLE, 1)
        for i in range(0, valid.size, step):
            t = valid[i]
            some[count], root[count] = line[t], np.sqrt(np.float32(part[t]) * np.float32(1 / WHOLE))
            count += 1
    return some[:count], root[:count]


@kernel
def _within_parts(
    line: NDArray[np.float32], part: NDArray[np.int8], centre: np.float32, reach: np.float32
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    # Number, weight, sum and sum of squares of the offsets that are in reach, all but the number weighted.
    whole = np.float32(1 / WHOLE)
    kept, weight, total, square = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for t in range(line.size):
        off, w = line[t] - centre, np.float32(part[t]) * whole
        power = off * off * w
        inside = np.float32(power <= reach * reach)
        kept += inside * np.float32(w > 0.0)
        weight += w * inside
        total += off * w * inside
        square += power * inside
    return kept, weight, total, square


@kernel
def halve(value: NDArray[np.int8], out: NDArray[np.int8]) -> None:
    """Add neighbouring times, and keep the variance.

    Parameters
    ----------
    value
        int8 ``[channel, 2 n]``.
    out
        int8 ``[channel, n]``: written.
    """
    root = np.float32(np.sqrt(0.5))
    for c in range(value.shape[0]):
        pairs, halved = value[c], out[c]
        for t in range(halved.size):
            total = np.rint(np.float32(pairs[2 * t] + pairs[2 * t + 1]) * root)
            halved[t] = np.int8(min(max(total, np.float32(-127.0)), np.float32(127.0)))


@kernel
def widest(share: NDArray[np.int8], repeat: int, out: NDArray[np.int8]) -> None:
    """Take the largest of every ``repeat`` times.

    Parameters
    ----------
    share
        int8 ``[channel, repeat n]``, not negative.
    repeat
        Times that become one.
    out
        int8 ``[channel, n]``: written.
    """
    for c in range(share.shape[0]):
        line, most = share[c], out[c]
        for t in range(most.size):
            largest = np.int8(0)
            for part in line[t * repeat : (t + 1) * repeat]:
                largest = max(largest, part)
            most[t] = largest
