"""What is marked of 64 channels at one time, as the bits of a word: the vector code of the flagging kernels.

A tile of 64 channels and all times is float32 ``[time, 64]``; of each mark it has a *plane*, uint64 ``[time]``, whose
bit ``i`` is lane ``i``. A plane of thousands of times stays in the L1 cache, and most of its words are 0.

As in :mod:`edgefilter_kernels.simd.float8`, LLVM makes of 64 numbers as many registers as the processor needs for
them, and nothing is checked.
"""

import threading
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from edgefilter_kernels.filterbank.workspace import huge_page_zeros
from edgefilter_kernels.simd.float8 import index, offset_at, vector_code

WIDTH = 64
"""Channels of a tile: as many as a word has bits."""
PREFETCH_TIMES = 4
"""Times that are asked of memory before they are needed: more rows a page apart push each other out of the cache."""

_CONTRACT = ("contract",)
_FLOAT, _BYTE, _HALF, _WORD = ir.FloatType(), ir.IntType(8), ir.IntType(16), ir.IntType(64)
_FLOATS, _BYTES, _HALVES, _BITS = (ir.VectorType(kind, WIDTH) for kind in (_FLOAT, _BYTE, _HALF, ir.IntType(1)))
_ZEROS = ir.Constant(_FLOATS, [0.0] * WIDTH)


_thread_local = threading.local()


def thread_scratch(times: int) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Return room for two tiles, float32 ``[2, time, 64]``, and their planes, uint64 ``[11, time]``; it holds anything.

    Each thread keeps its own from call to call: pages that are new cost as much as what is done with them here, and
    threads wait for each other to get them.
    """
    if getattr(_thread_local, "times", 0) != times:
        _thread_local.tiles, _thread_local.planes = huge_page_zeros(
            ((2, times, WIDTH), np.float32), ((11, times), np.uint64)
        )
        _thread_local.times = times
    return _thread_local.tiles, _thread_local.planes


def _splat(builder: Any, value: Any) -> Any:
    """Put one number on every lane."""
    kind = ir.VectorType(value.type, WIDTH)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))


def _load(builder: Any, kind: Any, pointer: Any, at: Any) -> Any:
    place = builder.bitcast(builder.gep(pointer, [at]), kind.as_pointer())
    return builder.load(place, align=1)


def _store(builder: Any, value: Any, pointer: Any, at: Any) -> None:
    place = builder.bitcast(builder.gep(pointer, [at]), value.type.as_pointer())
    builder.store(value, place, align=1)


def _row(builder: Any, values: Any, t: Any) -> Any:
    return _load(builder, _FLOATS, values, offset_at(builder, index(0), t, WIDTH))


def _store_row(builder: Any, row: Any, values: Any, t: Any) -> None:
    _store(builder, row, values, offset_at(builder, index(0), t, WIDTH))


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
    """Return the place of the lowest bit of a word that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@vector_code
def prefetch_range(builder: Any, array: Any, at: Any, count: Any) -> None:
    """Ask memory for numbers ``[at, at + count)``, wherever these are.

    Rows of a tile lie on as many pages as there are times: the processor does not guess where the next one is.
    """
    kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), *[ir.IntType(32)] * 3])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    first, stop = (builder.ptrtoint(builder.gep(array, [place]), _WORD) for place in (at, builder.add(at, count)))
    read, keep, data = (ir.Constant(ir.IntType(32), number) for number in (0, 3, 1))
    with cgutils.for_range_slice(builder, builder.and_(first, index(-64)), stop, index(64)) as (line, _):
        builder.call(prefetch, [builder.inttoptr(line, _BYTE.as_pointer()), read, keep, data])


@vector_code
def normalise_row(
    builder: Any, tile: Any, t: Any, flags: Any, at: Any, centre: Any, per_unit: Any, factor: Any, gain_drift: Any,
    level: Any, total: Any, unused: Any, above: Any,
) -> None:  # fmt: skip
    """Turn intensities of one time to ``(x - centre) · (per_unit · factor) - gain_drift``, or 0 where flags are not 0.

    Add them, each ``level`` at most, to a total, and say which are unused and which are above it.
    """
    zero, unit = index(0), _load(builder, _FLOATS, per_unit, index(0))
    distance = builder.fsub(_row(builder, tile, t), _load(builder, _FLOATS, centre, zero))
    value = builder.fmul(distance, builder.fmul(unit, _splat(builder, factor)))
    value = builder.fsub(value, _splat(builder, gain_drift))
    used = builder.icmp_unsigned("==", _load(builder, _HALVES, flags, at), ir.Constant(_HALVES, [0] * WIDTH))
    value = builder.select(used, value, _ZEROS)
    most = _splat(builder, level)
    low = builder.select(builder.fcmp_ordered("<", value, most), value, most)
    _store_row(builder, value, tile, t)
    _store(builder, builder.fadd(_load(builder, _FLOATS, total, zero), low), total, zero)
    _set(builder, builder.not_(_word(builder, used)), unused, t)
    _set(builder, _word(builder, builder.fcmp_ordered(">", value, most)), above, t)


@vector_code
def scale_row(builder: Any, tile: Any, t: Any, factor: Any, unused: Any, dips: Any) -> None:
    """Multiply a row by ``factor``, make what is unused 0, and say what is below -1."""
    value = builder.fmul(_row(builder, tile, t), _splat(builder, factor))
    value = builder.select(_bits(builder, _get(builder, unused, t)), _ZEROS, value)
    _store_row(builder, value, tile, t)
    low = builder.fcmp_ordered("<", value, ir.Constant(_FLOATS, [-1.0] * WIDTH))
    _set(builder, _word(builder, low), dips, t)


@vector_code
def add_moments(builder: Any, tile: Any, first: Any, stop: Any, out: Any, sums: Any) -> None:
    """Write number, sum and sum of squares of rows ``[first, stop)`` of what is not ``out`` to ``sums``."""
    totals = [cgutils.alloca_once_value(builder, _ZEROS) for _ in range(3)]
    ones = ir.Constant(_FLOATS, [1.0] * WIDTH)
    with cgutils.for_range_slice(builder, first, stop, index(1)) as (t, _):
        masked_out = _bits(builder, _get(builder, out, t))
        value = builder.select(masked_out, _ZEROS, _row(builder, tile, t))
        terms = builder.select(masked_out, _ZEROS, ones), value, builder.fmul(value, value, flags=_CONTRACT)
        for total, term in zip(totals, terms, strict=True):
            builder.store(builder.fadd(builder.load(total), term, flags=_CONTRACT), total)
    for m, total in enumerate(totals):
        _store(builder, builder.load(total), sums, index(m * WIDTH))


def _exceeds(builder: Any, value: Any, limit: Any, below: bool) -> Any:
    return builder.fcmp_ordered("<" if below else ">", value, builder.fneg(limit) if below else limit)


def _make_single(below: bool) -> Any:
    @vector_code
    def single(builder: Any, values: Any, times: Any, limit: Any, remaining: Any, hits: Any) -> None:
        """Say which values are over the limit, and copy the others to ``remaining``."""
        most = _splat(builder, limit)
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
        """Say at the end of which windows the sum is over the limit."""
        most, total = _splat(builder, limit), cgutils.alloca_once_value(builder, _ZEROS)
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
        """Make those values 0 that are inside, on this side of 0."""
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
    """Write a byte a lane: each of the marks of whose word the bit is set."""
    total = ir.Constant(_BYTES, [0] * WIDTH)
    for word, mark in zip(words, marks, strict=True):
        byte = _splat(builder, builder.trunc(mark, _BYTE))
        total = builder.or_(total, builder.select(_bits(builder, word), byte, ir.Constant(_BYTES, [0] * WIDTH)))
    _store(builder, total, out, at)
