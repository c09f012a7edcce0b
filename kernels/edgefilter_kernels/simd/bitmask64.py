"""Bit masks of 64 channels: the vector code of the flagging kernels.

A tile of 64 channels and all times is float32 ``[time, 64]``. For each kind of mark it has a *plane*, uint64
``[time]``: bit ``i`` of a word is the mark of channel ``i`` of the tile. A plane of thousands of times fits the L1
cache, and most of its words are 0.

As in :mod:`edgefilter_kernels.simd.float8`, LLVM maps a vector of 64 numbers to as many registers as the processor
needs, and nothing is checked.
"""

import threading
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from edgefilter_kernels.memory import huge_page_zeros
from edgefilter_kernels.simd.float8 import index, load, multiply_add, offset_at, prefetch, splat, store, vector_code

WIDTH = 64
"""Channels of a tile: the bits of a word."""
PREFETCH_TIMES = 4
"""Times that are prefetched ahead: with more, rows that lie a power of two apart evict each other from the cache."""

_FLOATS, _BYTES, _HALVES, _BITS = (
    ir.VectorType(kind, WIDTH) for kind in (ir.FloatType(), ir.IntType(8), ir.IntType(16), ir.IntType(1))
)
_WORD = ir.IntType(64)
_ZEROS = ir.Constant(_FLOATS, [0.0] * WIDTH)

_thread_local = threading.local()


def thread_scratch(times: int) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Return the calling thread's scratch memory: two tiles and eleven planes.

    Each thread keeps its scratch from call to call: new pages cost as much as the work done in them here, and threads
    wait for each other to get new pages.

    Parameters
    ----------
    times
        Times of a tile.

    Returns
    -------
    tiles
        float32 ``[2, time, 64]``, of any content.
    planes
        uint64 ``[11, time]``, of any content.
    """
    if getattr(_thread_local, "times", 0) != times:
        _thread_local.tiles, _thread_local.planes = huge_page_zeros(
            ((2, times, WIDTH), np.float32), ((11, times), np.uint64)
        )
        _thread_local.times = times
    return _thread_local.tiles, _thread_local.planes


def _row(builder: Any, values: Any, t: Any) -> Any:
    return load(builder, values, offset_at(builder, index(0), t, WIDTH), _FLOATS)


def _store_row(builder: Any, row: Any, values: Any, t: Any) -> None:
    store(builder, row, values, offset_at(builder, index(0), t, WIDTH))


def _word(builder: Any, bits: Any) -> Any:
    return builder.bitcast(bits, _WORD)


def _bits(builder: Any, word: Any) -> Any:
    return builder.bitcast(word, _BITS)


def _get(builder: Any, plane: Any, t: Any) -> Any:
    return builder.load(builder.gep(plane, [t]))


def _set(builder: Any, word: Any, plane: Any, t: Any) -> None:
    builder.store(word, builder.gep(plane, [t]))


@intrinsic  # type: ignore[untyped-decorator]
def first_bit(_: Any, word: Any) -> Any:  # noqa: ARG001
    """Return the index of the lowest bit that is set.

    Parameters
    ----------
    word
        uint64, not 0.

    Returns
    -------
    int
        0 to 63.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@vector_code
def prefetch_range(builder: Any, array: Any, at: Any, count: Any) -> None:
    """Bring part of an array into the L1 cache.

    The rows of a tile lie on as many pages as there are times: the processor does not predict the next one.

    Parameters
    ----------
    builder
        LLVM builder.
    array
        Array of any dtype.
    at, count
        First element and number of elements; they may lie outside the array.
    """
    first, stop = (builder.ptrtoint(builder.gep(array, [offset]), _WORD) for offset in (at, builder.add(at, count)))
    with cgutils.for_range_slice(builder, builder.and_(first, index(-64)), stop, index(64)) as (line, _):
        prefetch(builder, builder.inttoptr(line, ir.IntType(8).as_pointer()))


@vector_code
def normalise_row(
    builder: Any, tile: Any, flags: Any, at: Any, channel_scale: Any, time_scale: Any, outputs: Any
) -> None:
    """Normalise the intensities of one time, add them to a total and mark the unused and the high ones.

    A value becomes ``(x - centre) * (per_unit * factor) - gain_drift``, or 0 where its flag is not 0.

    Parameters
    ----------
    builder
        LLVM builder.
    tile
        float32 ``[time, 64]``: intensities, replaced by values.
    flags
        uint16, flat.
    at
        Time in the tile and offset of its first flag.
    channel_scale
        Arrays float32 ``[64]``: centre and per_unit of each channel.
    time_scale
        float32: factor, gain_drift, and the level that a value must exceed to be marked.
    outputs
        Array float32 ``[64]`` that sums the values, each limited to the level; planes of unused and of high values.
    """
    (t, first_flag), (centre, per_unit), (total, unused, above) = at, channel_scale, outputs
    factor, gain_drift, level = (splat(builder, number, WIDTH) for number in time_scale)
    zero = index(0)
    distance = builder.fsub(_row(builder, tile, t), load(builder, centre, zero, _FLOATS))
    value = builder.fmul(distance, builder.fmul(load(builder, per_unit, zero, _FLOATS), factor))
    value = builder.fsub(value, gain_drift)
    used = builder.icmp_unsigned("==", load(builder, flags, first_flag, _HALVES), ir.Constant(_HALVES, [0] * WIDTH))
    value = builder.select(used, value, _ZEROS)
    limited = builder.select(builder.fcmp_ordered("<", value, level), value, level)
    _store_row(builder, value, tile, t)
    store(builder, builder.fadd(load(builder, total, zero, _FLOATS), limited), total, zero)
    _set(builder, builder.not_(_word(builder, used)), unused, t)
    _set(builder, _word(builder, builder.fcmp_ordered(">", value, level)), above, t)


@vector_code
def scale_row(builder: Any, tile: Any, t: Any, factor: Any, unused: Any, dips: Any) -> None:
    """Multiply a row by a factor, zero the unused values and mark values below -1.

    Parameters
    ----------
    builder
        LLVM builder.
    tile
        float32 ``[time, 64]``, changed in place.
    t
        Time of the row.
    factor
        float32.
    unused, dips
        Planes: which values to zero; which are below -1 (written).
    """
    value = builder.fmul(_row(builder, tile, t), splat(builder, factor, WIDTH))
    value = builder.select(_bits(builder, _get(builder, unused, t)), _ZEROS, value)
    _store_row(builder, value, tile, t)
    low = builder.fcmp_ordered("<", value, ir.Constant(_FLOATS, [-1.0] * WIDTH))
    _set(builder, _word(builder, low), dips, t)


@vector_code
def add_moments(builder: Any, tile: Any, first: Any, stop: Any, excluded: Any, sums: Any) -> None:
    """Count and sum the values of some times and their squares, channel by channel.

    Parameters
    ----------
    builder
        LLVM builder.
    tile
        float32 ``[time, 64]``.
    first, stop
        Times ``[first, stop)``.
    excluded
        Plane of values that do not count.
    sums
        float32 ``[3, 64]``, written: number, sum, sum of squares.
    """
    slots = [cgutils.alloca_once_value(builder, _ZEROS) for _ in range(3)]
    ones = ir.Constant(_FLOATS, [1.0] * WIDTH)
    with cgutils.for_range_slice(builder, first, stop, index(1)) as (t, _):
        masked_out = _bits(builder, _get(builder, excluded, t))
        value = builder.select(masked_out, _ZEROS, _row(builder, tile, t))
        count, total, squares = (builder.load(slot) for slot in slots)
        builder.store(builder.fadd(count, builder.select(masked_out, _ZEROS, ones)), slots[0])
        builder.store(builder.fadd(total, value), slots[1])
        builder.store(multiply_add(builder, value, value, squares), slots[2])
    for m, slot in enumerate(slots):
        store(builder, builder.load(slot), sums, index(m * WIDTH))


def _exceeds(builder: Any, value: Any, limit: Any, below: bool) -> Any:
    return builder.fcmp_ordered("<" if below else ">", value, builder.fneg(limit) if below else limit)


def _make_single(below: bool) -> Any:
    @vector_code
    def single(builder: Any, values: Any, times: Any, limit: Any, remaining: Any, hits: Any) -> None:
        """Mark the values beyond the limit, and copy the others to ``remaining``."""
        most = splat(builder, limit, WIDTH)
        with cgutils.for_range(builder, times) as loop:
            t = loop.index
            value = _row(builder, values, t)
            over = _exceeds(builder, value, most, below)
            _store_row(builder, builder.select(over, _ZEROS, value), remaining, t)
            _set(builder, _word(builder, over), hits, t)

    return single


def _make_sums(below: bool) -> Any:
    @vector_code
    def sums(builder: Any, values: Any, times: Any, window: Any, limit: Any, hits: Any) -> None:
        """Mark the last time of each window whose sum is beyond the limit."""
        most, total = splat(builder, limit, WIDTH), cgutils.alloca_once_value(builder, _ZEROS)
        first = builder.sub(window, index(1))
        with cgutils.for_range(builder, first) as loop:
            builder.store(builder.fadd(builder.load(total), _row(builder, values, loop.index)), total)
            _set(builder, index(0), hits, loop.index)
        with cgutils.for_range_slice(builder, first, times, index(1)) as (t, _):
            value = builder.fadd(builder.load(total), _row(builder, values, t))
            _set(builder, _word(builder, _exceeds(builder, value, most, below)), hits, t)
            builder.store(builder.fsub(value, _row(builder, values, builder.sub(t, first))), total)

    return sums


def _make_clear(below: bool) -> Any:
    @vector_code
    def clear(builder: Any, values: Any, times: Any, inside: Any) -> None:
        """Zero the values inside windows that have the side's sign."""
        with cgutils.for_range(builder, times) as loop:
            t, word = loop.index, _get(builder, inside, loop.index)
            with builder.if_then(builder.icmp_unsigned("!=", word, index(0))):
                value = _row(builder, values, t)
                masked_out = builder.and_(_bits(builder, word), _exceeds(builder, value, _ZEROS, below))
                _store_row(builder, builder.select(masked_out, _ZEROS, value), values, t)

    return clear


single_above, single_below = _make_single(False), _make_single(True)
sums_above, sums_below = _make_sums(False), _make_sums(True)
clear_above, clear_below = _make_clear(False), _make_clear(True)


@vector_code
def spread_row(builder: Any, words: Any, marks: Any, out: Any, at: Any) -> None:
    """Write 64 bytes: in each the marks of the words whose bit of that channel is set.

    Parameters
    ----------
    builder
        LLVM builder.
    words
        Words of one time, one of each plane.
    marks
        Integers: the mark of each plane.
    out
        uint8, flat.
    at
        Offset of the first byte.
    """
    none = ir.Constant(_BYTES, [0] * WIDTH)
    total = none
    for word, mark in zip(words, marks, strict=True):
        byte = splat(builder, builder.trunc(mark, ir.IntType(8)), WIDTH)
        total = builder.or_(total, builder.select(_bits(builder, word), byte, none))
    store(builder, total, out, at)
