"""Marks of a few channels, turned so that time is contiguous: what tracks are counted in.

A turned array is uint8 ``[channel, step]`` with room for :data:`ROOM` steps before the first and after the last, which
are 0: so a row can be read at any shift. Its rows are as many as channels or more, in sixteens.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.intensity import masked
from edgefilter_kernels.simd.bitmask64 import fetch
from edgefilter_kernels.simd.float8 import at_step, index, vector_code

ROOM = 256
"""Steps that are counted together."""

_TURN = 64  # steps that are turned together: time and channels both stay in the L1 cache
_SIDE = 16  # bytes of a square that is turned in registers
_AHEAD = 8  # times that are asked of memory before they are needed
_PARTS = 4  # vectors of ROOM steps

_SQUARE, _STEPS = ir.VectorType(ir.IntType(8), _SIDE), ir.VectorType(ir.IntType(8), ROOM // _PARTS)


def _place(builder: Any, kind: Any, pointer: Any, at: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [at]), kind.as_pointer())


@vector_code
def _turn_square(builder: Any, source: Any, at: Any, stride: Any, out: Any, to: Any, step: Any) -> None:
    """Turn 16 rows of 16 bytes: rows that are half of them apart are interleaved, four times."""
    rows = [
        builder.load(_place(builder, _SQUARE, source, at_step(builder, at, stride, k)), align=1) for k in range(_SIDE)
    ]
    half, places = _SIDE // 2, ir.VectorType(ir.IntType(32), _SIDE)
    low, high = (
        ir.Constant(places, [n for k in range(first, first + half) for n in (k, _SIDE + k)]) for first in (0, half)
    )
    for _ in range(4):
        pairs = [(rows[k], rows[k + half]) for k in range(half)]
        rows = [builder.shuffle_vector(*pair, order) for pair in pairs for order in (low, high)]
    for k, row in enumerate(rows):
        builder.store(row, _place(builder, _SQUARE, out, at_step(builder, to, step, k)), align=1)


@vector_code
def _count_block(
    builder: Any, events: Any, rows: Any, shifts: Any, at: Any, count: Any, first: Any, length: Any, out: Any, to: Any
) -> None:  # fmt: skip
    """Add up steps ``[first, first + ROOM)`` of rows, each from its own shift on; beyond the room there is nothing."""
    nothing = ir.Constant(_STEPS, [0] * (ROOM // _PARTS))
    totals = [cgutils.alloca_once_value(builder, nothing) for _ in range(_PARTS)]
    least = index(-ROOM)
    with cgutils.for_range(builder, count) as loop:
        shift = builder.load(builder.gep(shifts, [builder.add(at, loop.index)]))
        shift = builder.add(first, builder.sext(shift, ir.IntType(64)))
        shift = builder.select(builder.icmp_signed("<", shift, least), least, shift)
        shift = builder.select(builder.icmp_signed(">", shift, length), length, shift)
        start = builder.add(builder.load(builder.gep(rows, [loop.index])), shift)
        for k, total in enumerate(totals):
            some = _place(builder, _STEPS, events, builder.add(start, index(k * ROOM // _PARTS)))
            builder.store(builder.add(builder.load(total), builder.load(some, align=1)), total)
    for k, total in enumerate(totals):
        place = _place(builder, _STEPS, out, builder.add(to, index(k * ROOM // _PARTS)))
        builder.store(builder.load(total), place, align=1)


@kernel
def turned(channels: int, steps: int) -> NDArray[np.uint8]:
    """Return room for turned marks, all 0."""
    rows, length = -(-channels // _SIDE) * _SIDE, -(-steps // _TURN) * _TURN
    return np.zeros((rows, length + 2 * ROOM), np.uint8)


@kernel
def gather(marks: NDArray[np.uint8], bits: int, step: int, c0: int, c1: int, events: NDArray[np.uint8]) -> None:
    """Turn events, ``step`` times to one; an event is 1."""
    times, wanted, none, one = marks.shape[0], np.uint8(bits), np.uint8(0), np.uint8(1)
    tile = np.zeros((_TURN, len(events)), np.uint8)
    if c0 < 0:  # tells the compiler that no index counts from the end
        return
    flat, square, out = marks.reshape(-1), tile.reshape(-1), events.reshape(-1)
    for first in range(0, events.shape[1] - 2 * ROOM, _TURN):
        tile[:] = none
        for t in range(step * first, min(step * (first + _TURN), times)):
            fetch(flat, (t + _AHEAD) * marks.shape[1] + c0, c1 - c0)
            row, found = marks[t, c0:c1], tile[t // step - first]
            for c in range(len(row)):
                found[c] |= row[c]
        for i in range(len(square)):
            square[i] = one & masked((square[i] & wanted) != none)
        for c in range(0, len(events), _SIDE):
            for u in range(0, _TURN, _SIDE):
                at, to = u * len(events) + c, c * events.shape[1] + ROOM + first + u
                _turn_square(square, at, len(events), out, to, events.shape[1])


@kernel
def scatter(sky: NDArray[np.uint8], step: int, c0: int, c1: int, mark: int, marks: NDArray[np.uint8]) -> None:
    """Turn back, and set a mark where ``sky`` is not 0."""
    times, bit, none = marks.shape[0], np.uint8(mark), np.uint8(0)
    tile = np.empty((_TURN, len(sky)), np.uint8)
    square, source = tile.reshape(-1), sky.reshape(-1)
    for first in range(0, sky.shape[1] - 2 * ROOM, _TURN):
        some = none
        for c in range(len(sky)):
            track = sky[c, ROOM + first : ROOM + first + _TURN]
            for u in range(_TURN):
                some |= track[u]
        if some == none:
            continue
        for c in range(0, len(sky), _SIDE):
            for u in range(0, _TURN, _SIDE):
                at, to = c * sky.shape[1] + ROOM + first + u, u * len(sky) + c
                _turn_square(source, at, sky.shape[1], square, to, len(sky))
        for t in range(step * first, min(step * (first + _TURN), times)):
            row, found = marks[t, c0:c1], tile[t // step - first]
            for c in range(len(row)):
                row[c] |= bit & masked(found[c] != none)


@kernel
def widen(events: NDArray[np.uint8], steps: int, length: int, out: NDArray[np.uint8]) -> None:
    """Windows of twice the length: those that end here or ``length`` earlier."""
    for c in range(len(events)):
        row, wide = events[c, ROOM : ROOM + steps], out[c, ROOM : ROOM + steps]
        near = min(length, steps)
        wide[:near] = row[:near]
        late, now, before = wide[near:], row[near:], row[: steps - near]
        for t in range(len(late)):
            late[t] = now[t] | before[t]


@kernel
def count(
    events: NDArray[np.uint8], rows: NDArray[np.int64], shifts: NDArray[np.int32], counts: NDArray[np.uint8]
) -> None:
    """Count the events of channels that lie on tracks, at every step.

    Parameters
    ----------
    events
        Turned.
    rows
        int64 ``[row]``: channels, at most 255.
    shifts
        int32 ``[track, row]``: steps by which a row's events are later on a track.
    counts
        Output, uint8 ``[track, step]``.
    """
    places = rows * events.shape[1] + ROOM
    length, steps = events.shape[1] - 2 * ROOM, counts.shape[1]
    flat, shift, out = events.reshape(-1), shifts.reshape(-1), counts.reshape(-1)
    last = np.empty(ROOM, np.uint8)
    # One track after another sees almost the same part of every row: it stays in the L1 cache.
    for first in range(0, steps, ROOM):
        for s in range(len(counts)):
            at = s * shifts.shape[1]
            if first + ROOM <= steps:
                _count_block(flat, places, shift, at, len(rows), first, length, out, s * steps + first)
            else:
                _count_block(flat, places, shift, at, len(rows), first, length, last, 0)
                counts[s, first:] = last[: steps - first]
