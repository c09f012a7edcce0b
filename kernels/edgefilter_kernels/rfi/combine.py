"""Marks of the cell statistics become flags."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.simd.float8 import index, vector_code

_WIDTH = 64  # channels that are looked at together; mostly, nothing is wrong with any of them
_MARKS, _FLAGS, _ONES = (ir.VectorType(ir.IntType(bits), _WIDTH) for bits in (8, 16, 1))


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    places = ir.VectorType(ir.IntType(32), _WIDTH)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(places, [0] * _WIDTH))


@vector_code
def _flag_block(
    builder: Any, marks: Any, at: Any, wanted: Any, keys: Any, values: Any, size: Any, channel_flags: Any, c: Any,
    gone: Any, flags: Any,
) -> None:  # fmt: skip
    """Flag 64 cells: the marks that are wanted are compared with each of the keys, ``size`` gives number and stride."""
    count, stride, always = size

    def load(kind: Any, pointer: Any, place: Any) -> Any:
        return builder.load(builder.bitcast(builder.gep(pointer, [place]), kind.as_pointer()), align=1)

    none, nothing = ir.Constant(_MARKS, [0] * _WIDTH), ir.Constant(_FLAGS, [0] * _WIDTH)
    byte, half = ir.IntType(8), ir.IntType(16)
    mark = builder.and_(load(_MARKS, marks, at), _splat(builder, builder.trunc(wanted, byte), _MARKS))
    whole = load(_FLAGS, channel_flags, c)
    some = builder.or_(builder.icmp_unsigned("!=", mark, none), builder.icmp_unsigned("!=", whole, nothing))
    some = builder.or_(builder.bitcast(some, ir.IntType(64)), always)
    with builder.if_then(builder.icmp_unsigned("!=", some, index(0))):
        found = cgutils.alloca_once_value(builder, whole)
        with cgutils.for_range(builder, count) as loop:
            key = _splat(builder, builder.load(builder.gep(keys, [loop.index])), _MARKS)
            value = load(_FLAGS, values, builder.add(builder.mul(loop.index, stride), c))
            value = builder.select(builder.icmp_unsigned("==", mark, key), value, nothing)
            builder.store(builder.or_(builder.load(found), value), found)
        old = load(_FLAGS, flags, at)
        lost = builder.and_(old, _splat(builder, builder.trunc(gone, half), _FLAGS))
        new = builder.select(builder.icmp_unsigned("==", lost, nothing), builder.load(found), nothing)
        place = builder.bitcast(builder.gep(flags, [at]), _FLAGS.as_pointer())
        builder.store(builder.or_(old, new), place, align=1)


@kernel
def _combine(
    marks: NDArray[np.uint8], tables: NDArray[np.uint16], table_index: NDArray[np.bool_],
    channel_flags: NDArray[np.uint16], lost: int, flags: NDArray[np.uint16], start: int, stop: int,
) -> None:  # fmt: skip
    if start < 0:  # tells the compiler that no index counts from the end
        return
    channels = flags.shape[1]
    wanted = 0  # marks that make a difference: few do, and few of their combinations make a flag
    for bit in range(8):
        for mark in range(256):
            other = mark ^ (1 << bit)
            if tables[0, mark] != tables[0, other] or tables[1, mark] != tables[1, other]:
                wanted |= 1 << bit
    keys = np.empty(256, np.uint8)
    count = 0
    for mark in range(256):
        if not mark & ~wanted and tables[0, mark] | tables[1, mark]:
            keys[count] = mark
            count += 1
    values = np.empty((count, channels), np.uint16)
    for k in range(count):
        for c in range(channels):
            values[k, c] = tables[np.uint8(table_index[c]), keys[k]]
    always = 1 if count and keys[0] == 0 else 0
    size = count, channels, always
    flat_marks, flat, flat_values = marks.reshape(-1), flags.reshape(-1), values.reshape(-1)
    together = channels // _WIDTH * _WIDTH
    for t in range(start, stop):
        for c in range(0, together, _WIDTH):
            at = t * channels + c
            _flag_block(flat_marks, at, wanted, keys, flat_values, size, channel_flags, c, lost, flat)
        for c in range(together, channels):
            if not flags[t, c] & lost:
                flags[t, c] |= tables[np.uint8(table_index[c]), marks[t, c]] | channel_flags[c]


def combine(
    marks: NDArray[np.uint8],
    tables: NDArray[np.uint16],
    table_index: NDArray[np.bool_],
    channel_flags: NDArray[np.uint16],
    lost: int,
    flags: NDArray[np.uint16],
    start: int,
    stop: int,
) -> None:
    """Set the flags that marks and channels ask for at times ``[start, stop)``.

    Parameters
    ----------
    marks
        uint8 ``[time, channel]``.
    tables
        uint16 ``[2, 256]``: flags of every combination of marks.
    table_index
        bool ``[channel]``: which of the two tables a channel goes by.
    channel_flags
        uint16 ``[channel]``: flags of whole channels.
    lost
        Cells with this flag get no other.
    flags
        uint16 ``[time, channel]``, changed in place.
    start, stop
        Times to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    fits = marks.shape == flags.shape and tables.shape == (2, 256)
    if not fits or not table_index.shape == channel_flags.shape == flags.shape[1:]:
        raise ValueError(f"marks {marks.shape} and channels {channel_flags.shape} do not go with flags {flags.shape}")
    if marks.dtype != np.uint8 or any(array.dtype != np.uint16 for array in (tables, channel_flags, flags)):
        raise ValueError("marks must be uint8 and flags uint16")
    if not (marks.flags.c_contiguous and flags.flags.c_contiguous and channel_flags.flags.c_contiguous):
        raise ValueError("marks and flags must be C-contiguous")
    _combine(marks, tables, table_index, channel_flags, lost, flags, start, stop)
