"""Robust level and scatter, and channels brought to zero mean and unit variance."""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.simd.float8 import LANES, Lanes, constant, index, load, offset_at, store, transpose, vector_code

_MAD_TO_SIGMA = 1.482602218505602
_BULK_SIGMA = 3.0
# Standard deviation of a unit Gaussian that is cut at ±3.
_CLIPPED_STD = 0.9865784
_SUM_LENGTH = 1024  # values that are summed in single precision
_SAMPLE = 128  # values that median and MAD of a channel are taken from
_MIN_ROWS = 16
_TILE_TIMES = 256  # times that are transposed together
_MAX_FINITE = 3e38  # beyond this nothing is finite

COUNTS_PER_SIGMA = 8
"""Counts to a sigma of normalised channels: rounding adds 0.13 % to the variance."""
CLIP_SIGMA = 10.0
"""Where normalised values are cut: one bad cell is not a pulse."""
FULL_WEIGHT = 64
"""Share of a complete row."""


@kernel
def median(values: NDArray[np.float32]) -> float:
    """Middle of ``values``, the upper one of two.

    Halves the range of numbers that it may be among, as integers of the same order, and counts those below: no branch
    depends on the values, where a selection guesses wrong at every other step.

    Parameters
    ----------
    values
        float32 ``[n]``, n > 0, finite, not changed.
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


def normalise(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    full: int,
    first: int,
    start: int,
    stop: int,
    value: NDArray[np.int8],
    relative_weight: NDArray[np.int8],
) -> None:
    """Bring channels to zero mean and a variance of their weight, :data:`COUNTS_PER_SIGMA` to a sigma.

    What a row of weight w contributes is (x - level) / scatter · w / full: so every cell counts the same in a sum.
    Level and scatter are those of all rows that are given.

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
        Rows before this one serve for level and scatter alone.
    start, stop
        Channels that are made.
    value
        int8 ``[channel, time - first]``, C-contiguous: cut at ± :data:`CLIP_SIGMA`; 0 where there is no data.
    relative_weight
        int8 ``[channel, time - first]``, C-contiguous: w / full in parts of :data:`FULL_WEIGHT`, at least 1 where there
        is data. Channels with fewer than 16 valid rows, or that do not scatter, have no data.
    """
    rows, channels = value.shape[1], stop - start
    if not rows % LANES and not channels % LANES:
        _normalise(power, weight, full, first, start, stop, (value, relative_weight))
        return
    # Vectors take eight channels and eight rows at a time: what is missing is made up with rows without weight.
    more = (0, -rows % LANES), (0, -channels % LANES)
    padded = (np.pad(some[:, start:stop], more) for some in (power, weight))
    out = np.empty((2, channels + more[1][1], rows + more[0][1]), np.int8)
    _normalise(*padded, full, first, 0, out.shape[1], (out[0], out[1]))
    value[start:stop], relative_weight[start:stop] = out[:, :channels, :rows]


@kernel
def _normalise(
    power: NDArray[np.float32],
    weight: NDArray[np.uint16],
    full: int,
    first: int,
    start: int,
    stop: int,
    out: tuple[NDArray[np.int8], NDArray[np.int8]],
) -> None:
    value, relative_weight = out
    count, channels = stop - start, power.shape[1]
    unit = np.full(LANES, np.float32(1 / full))
    flat, cells = power.reshape(-1), weight.reshape(-1)
    # Centre and square of the reach of the bulk of each channel; what is in it: number, weight, sum and sum of squares;
    # and the weight of all that is finite.
    bulk, sums = np.zeros((2, count), np.float32), np.zeros((5, count), np.float32)
    _find_bulk(power, weight, start, unit[0], bulk)
    flat_bulk, flat_sums = bulk.reshape(-1), sums.reshape(-1)
    together = power.shape[0] // LANES * LANES
    for t in range(0, together, LANES):
        for c in range(0, count, LANES):
            at = t * channels + start + c
            _accumulate_rows(flat, cells, at, channels, unit, flat_bulk, flat_sums, c, count)
    for t in range(together, power.shape[0]):
        for c in range(0, count, LANES):
            _accumulate(flat, cells, t * channels + start + c, channels, unit, flat_bulk, flat_sums, c, count)
    # Level and counts to a unit of power; not a number where there is no data.
    scale = np.full((2, count), np.float32(np.nan))
    for c in range(count):
        kept, total, mean = sums[0, c], sums[1, c], sums[2, c] / max(sums[1, c], np.float32(1e-30))
        if kept < _MIN_ROWS:
            continue
        level = bulk[0, c] + mean
        scatter = np.sqrt(max(sums[3, c] - total * mean * mean, np.float32(0.0)) / kept)
        if bulk[1, c] < _MAX_FINITE:
            scatter /= _CLIPPED_STD
        # Rounding of a constant channel is no scatter.
        if scatter > 1e-6 * abs(level):
            scale[0, c], scale[1, c] = level, COUNTS_PER_SIGMA / scatter
    whole = (sums[4] == power.shape[0]) & np.isfinite(scale[0])
    partial = [c for c in range(0, count, LANES) if not whole[c : c + LANES].all()]
    rows = power.shape[0] - first
    flat_scale = scale.reshape(-1)
    # Through a small tile: lines of the cache that are a power of two apart would displace each other.
    tile = np.empty((2, count, _TILE_TIMES), np.int8)
    flat_value, flat_relative_weight = tile[0].reshape(-1), tile[1].reshape(-1)
    for tile_start in range(0, rows, _TILE_TIMES):
        length = min(_TILE_TIMES, rows - tile_start)
        for t in range(0, length, LANES):
            for c in range(0, count, LANES):
                at, to = (first + tile_start + t) * channels + start + c, c * _TILE_TIMES + t
                _normalise_tile(flat, cells, at, channels, unit, flat_scale, c, count, flat_value, to, _TILE_TIMES)
            for c in partial:
                at, to = (first + tile_start + t) * channels + start + c, c * _TILE_TIMES + t
                _weight_tile(
                    flat, cells, at, channels, unit, flat_scale, c, count, flat_relative_weight, to, _TILE_TIMES
                )
        for c in range(count):
            value[start + c, tile_start : tile_start + length] = tile[0, c, :length]
        for c in partial:
            block = relative_weight[start + c : start + c + LANES]
            block[:, tile_start : tile_start + length] = tile[1, c : c + LANES, :length]
    for c in range(count):
        if whole[c]:
            relative_weight[start + c] = FULL_WEIGHT


@kernel
def _find_bulk(
    power: NDArray[np.float32], weight: NDArray[np.uint16], start: int, unit: np.float32, bulk: NDArray[np.float32]
) -> None:
    # Median of about 128 evenly spaced valid values, and the square of three sigma after their MAD.
    rows, count = power.shape[0], bulk.shape[1]
    step = max(rows // _SAMPLE, 1)
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
        bulk[0, c], bulk[1, c] = centre, reach * reach if reach > 0.0 else np.float32(_MAX_FINITE)


def _make_accumulate(rows: int) -> Callable[..., None]:
    """Sum number, weight, offset and square of the offsets in reach, the last two weighted, of eight channels.

    The last sum is the weight of all that is finite. Sums are loaded once for all of the rows, which are added in turn.
    """

    @vector_code
    def accumulate(
        b: Any, power: Any, cells: Any, at: Any, step: Any, unit: Any, bulk: Any, sums: Any, c: Any, count: Any
    ) -> None:
        nothing, one, max_finite = (constant(b, x).real for x in (0, 1, _MAX_FINITE))
        centre, reach = load(b, bulk, c), load(b, bulk, b.add(c, count))
        places = [offset_at(b, c, count, number) for number in range(5)]
        totals = [load(b, sums, place) for place in places]
        for row in range(rows):
            place = offset_at(b, at, step, row)
            w = _weights(b, cells, place, unit)
            off = b.fsub(load(b, power, place), centre)
            distance = b.fmul(off, off)
            square = b.fmul(distance, w)
            inside = b.and_(b.fcmp_ordered("<=", square, reach), b.fcmp_ordered(">", w, nothing))
            finite = b.fcmp_ordered("<", distance, max_finite)
            for number, term in enumerate((one, w, b.fmul(off, w), square, w)):
                part = b.select(inside if number < 4 else finite, term, nothing)
                totals[number] = b.fadd(totals[number], part)
        for total, place in zip(totals, places, strict=True):
            store(b, total, sums, place)

    return accumulate


_accumulate, _accumulate_rows = _make_accumulate(1), _make_accumulate(LANES)


def _weights(b: Any, cells: Any, at: Any, unit: Any) -> Any:
    # Eight weights as fractions of the full one.
    words = ir.VectorType(ir.IntType(16), LANES)
    some = b.load(b.bitcast(b.gep(cells, [at]), words.as_pointer()), align=2)
    return b.fmul(b.uitofp(some, ir.VectorType(ir.FloatType(), LANES)), load(b, unit, index(0)))


def _make_normalise_tile(weights: bool) -> Callable[..., None]:
    """Normalise eight rows of eight channels, or find their weights, and write them channel by channel."""

    @vector_code
    def normalise_tile(
        b: Any, power: Any, cells: Any, at: Any, step: Any, unit: Any, scale: Any, c: Any, count: Any,
        out: Any, to: Any, stride: Any,
    ) -> None:  # fmt: skip
        nothing, most = constant(b, 0).real, constant(b, COUNTS_PER_SIGMA * CLIP_SIGMA).real
        least, max_finite, half = (constant(b, x).real for x in (-COUNTS_PER_SIGMA * CLIP_SIGMA, _MAX_FINITE, 128.5))
        level, factor = load(b, scale, c), load(b, scale, b.add(c, count))

        def row(number: int) -> Any:
            place = offset_at(b, at, step, number)
            w = _weights(b, cells, place, unit)
            x = b.fmul(b.fsub(load(b, power, place), level), factor)
            good = b.and_(b.fcmp_ordered("<", x, max_finite), b.fcmp_ordered(">", x, b.fneg(max_finite)))
            good = b.and_(good, b.fcmp_ordered(">", w, nothing))
            if weights:
                part = b.fmul(w, constant(b, FULL_WEIGHT).real)
                x = b.select(b.fcmp_ordered("<", part, constant(b, 1).real), constant(b, 1).real, part)
            else:
                x = b.select(b.fcmp_ordered("<", x, most), x, most)
                x = b.fmul(b.select(b.fcmp_ordered(">", x, least), x, least), w)
            # To the nearest integer: all are positive when the fraction is cut off.
            return b.fadd(b.select(good, x, nothing), half)

        columns = transpose([Lanes(b, row(t), nothing) for t in range(LANES)])
        integers, octets = (ir.VectorType(ir.IntType(bits), LANES) for bits in (32, 8))
        for channel, column in enumerate(columns):
            numbers = b.sub(b.fptosi(column.real, integers), ir.Constant(integers, [128] * LANES))
            place = b.gep(out, [offset_at(b, to, stride, channel)])
            b.store(b.trunc(numbers, octets), b.bitcast(place, octets.as_pointer()), align=1)

    return normalise_tile


_normalise_tile, _weight_tile = _make_normalise_tile(False), _make_normalise_tile(True)


@kernel
def tscrunch2(value: NDArray[np.int8], out: NDArray[np.int8]) -> None:
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
        pairs, scrunched = value[c], out[c]
        for t in range(scrunched.size):
            total = np.rint(np.float32(pairs[2 * t] + pairs[2 * t + 1]) * root)
            scrunched[t] = np.int8(min(max(total, np.float32(-127.0)), np.float32(127.0)))


@kernel
def max_pool(relative_weight: NDArray[np.int8], repeat: int, out: NDArray[np.int8]) -> None:
    """Take the largest of every ``repeat`` times.

    Parameters
    ----------
    relative_weight
        int8 ``[channel, repeat n]``, not negative.
    repeat
        Times that become one.
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
