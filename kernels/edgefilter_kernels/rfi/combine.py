"""Combine the marks of cells and the flags of whole channels to the flags of a block."""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.simd.float8 import index, vector_code

_WIDTH = 64  # channels that are tested together; in most cases none of them gets a flag
_MARKS, _FLAGS, _ONES = (ir.VectorType(ir.IntType(bits), _WIDTH) for bits in (8, 16, 1))


class FlagRules(NamedTuple):
    """How marks and channels become flags.

    Parameters
    ----------
    tables
        uint16 ``[2, 256]``: flags of each combination of marks.
    table_index
        bool ``[channel]``: which of the two tables holds for a channel.
    channel_flags
        uint16 ``[channel]``: flags of whole channels.
    lost
        Cells with this flag get no other.
    """

    tables: Any
    table_index: Any
    channel_flags: Any
    lost: int


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    places = ir.VectorType(ir.IntType(32), _WIDTH)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(places, [0] * _WIDTH))


@vector_code
def _flag_block(
    builder: Any, marks: Any, flags: Any, channel_flags: Any, keys: Any, values: Any, numbers: Any
) -> None:  # fmt: skip
    """Flag 64 cells: each key that equals their wanted marks adds its row of ``values``.

    ``numbers`` are the offset of the cells, their first channel, the marks that are wanted, the flag of lost cells, the
    number of keys, the length of a row of values, and whether cells without marks have a key.
    """
    at, c, wanted, gone, count, stride, always = numbers

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
def _combine(marks: NDArray[np.uint8], rules: FlagRules, flags: NDArray[np.uint16], start: int, stop: int) -> None:
    tables, table_index, channel_flags, lost = rules
    if start < 0:  # tells the compiler that no index counts from the end
        return
    channels = flags.shape[1]
    wanted = 0  # marks that change a flag: few do, and few of their combinations make a flag
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
    flat_marks, flat, flat_values = marks.reshape(-1), flags.reshape(-1), values.reshape(-1)
    together = channels // _WIDTH * _WIDTH
    for t in range(start, stop):
        for c in range(0, together, _WIDTH):
            numbers = t * channels + c, c, wanted, lost, count, channels, always
            _flag_block(flat_marks, flat, channel_flags, keys, flat_values, numbers)
        for c in range(together, channels):
            if not flags[t, c] & lost:
                flags[t, c] |= tables[np.uint8(table_index[c]), marks[t, c]] | channel_flags[c]


def check_combine(marks: NDArray[np.uint8], rules: FlagRules, flags: NDArray[np.uint16]) -> None:
    """Check that the arguments of :func:`combine` fit together.

    Parameters
    ----------
    marks, rules, flags
        As of :func:`combine`, on the host or on a GPU.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    fits = marks.shape == flags.shape and rules.tables.shape == (2, 256)
    if not fits or not rules.table_index.shape == rules.channel_flags.shape == flags.shape[1:]:
        raise ValueError(
            f"marks {marks.shape} and channels {rules.channel_flags.shape} do not go with flags {flags.shape}"
        )
    if marks.dtype != np.uint8 or any(array.dtype != np.uint16 for array in (rules.tables, rules.channel_flags, flags)):
        raise ValueError("marks must be uint8 and flags uint16")


def combine(marks: NDArray[np.uint8], rules: FlagRules, flags: NDArray[np.uint16], start: int, stop: int) -> None:
    """Set the flags that follow from marks and channels at times ``[start, stop)``.

    Parameters
    ----------
    marks
        uint8 ``[time, channel]``.
    rules
        Flags of marks and of channels.
    flags
        uint16 ``[time, channel]``, changed in place.
    start, stop
        Times to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    check_combine(marks, rules, flags)
    if not all(array.flags.c_contiguous for array in (marks, flags, rules.channel_flags)):
        raise ValueError("marks and flags must be C-contiguous")
    _combine(marks, rules, flags, start, stop)
