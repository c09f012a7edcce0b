"""Marks of a few channels in channel-major order, so that times are contiguous: dispersion tracks are counted in them.

A channel-major array is uint8 ``[channel, step]`` with :data:`STEP_PADDING` steps of 0 before the first step and after
the last, so that a row can be read at any shift. The number of its rows is rounded up to a multiple of 16.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.rfi.intensity import mask_if
from edgefilter_kernels.simd.bitmask64 import prefetch_range
from edgefilter_kernels.simd.float8 import index, offset_at, vector_code

STEP_PADDING = 256
"""Steps that are counted together."""

_TILE_STEPS = 64  # steps that are transposed together, so that times and channels both stay in the L1 cache
_SQUARE_SIDE = 16  # bytes of a square that is transposed in registers
_PREFETCH_TIMES = 8  # times that are fetched before they are needed
_VECTORS_PER_BLOCK = 4  # vectors of STEP_PADDING steps

_SQUARE = ir.VectorType(ir.IntType(8), _SQUARE_SIDE)
_STEPS = ir.VectorType(ir.IntType(8), STEP_PADDING // _VECTORS_PER_BLOCK)


def _pointer_at(builder: Any, kind: Any, pointer: Any, at: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [at]), kind.as_pointer())


@vector_code
def _transpose_square(builder: Any, source: Any, at: Any, stride: Any, out: Any, to: Any, step: Any) -> None:
    """Transpose 16 rows of 16 bytes: four times, interleave the rows of the two halves."""
    rows = [
        builder.load(_pointer_at(builder, _SQUARE, source, offset_at(builder, at, stride, k)), align=1)
        for k in range(_SQUARE_SIDE)
    ]
    half, places = _SQUARE_SIDE // 2, ir.VectorType(ir.IntType(32), _SQUARE_SIDE)
    low, high = (
        ir.Constant(places, [n for k in range(first, first + half) for n in (k, _SQUARE_SIDE + k)])
        for first in (0, half)
    )
    for _ in range(4):
        pairs = [(rows[k], rows[k + half]) for k in range(half)]
        rows = [builder.shuffle_vector(*pair, order) for pair in pairs for order in (low, high)]
    for k, row in enumerate(rows):
        builder.store(row, _pointer_at(builder, _SQUARE, out, offset_at(builder, to, step, k)), align=1)


@vector_code
def _count_block(
    builder: Any, events: Any, rows: Any, shifts: Any, out: Any, numbers: Any
) -> None:  # fmt: skip
    """Add up steps ``[first, first + STEP_PADDING)`` of rows, each from its own shift on, where the row has them.

    ``numbers`` are the offset of the shifts, the number of rows, ``first``, the steps of a row, and the offset in
    ``out``.
    """
    at, count, first, length, to = numbers
    nothing = ir.Constant(_STEPS, [0] * (STEP_PADDING // _VECTORS_PER_BLOCK))
    totals = [cgutils.alloca_once_value(builder, nothing) for _ in range(_VECTORS_PER_BLOCK)]
    least = index(-STEP_PADDING)
    with cgutils.for_range(builder, count) as loop:
        shift = builder.load(builder.gep(shifts, [builder.add(at, loop.index)]))
        shift = builder.add(first, builder.sext(shift, ir.IntType(64)))
        shift = builder.select(builder.icmp_signed("<", shift, least), least, shift)
        shift = builder.select(builder.icmp_signed(">", shift, length), length, shift)
        start = builder.add(builder.load(builder.gep(rows, [loop.index])), shift)
        for k, total in enumerate(totals):
            some = _pointer_at(
                builder, _STEPS, events, builder.add(start, index(k * STEP_PADDING // _VECTORS_PER_BLOCK))
            )
            builder.store(builder.add(builder.load(total), builder.load(some, align=1)), total)
    for k, total in enumerate(totals):
        place = _pointer_at(builder, _STEPS, out, builder.add(to, index(k * STEP_PADDING // _VECTORS_PER_BLOCK)))
        builder.store(builder.load(total), place, align=1)


@kernel
def channel_major_zeros(channels: int, steps: int) -> NDArray[np.uint8]:
    """Return a channel-major array of zeros.

    Parameters
    ----------
    channels, steps
        Its size, without padding.

    Returns
    -------
    ndarray
        uint8 ``[channel, step]``, padded.
    """
    rows, length = -(-channels // _SQUARE_SIDE) * _SQUARE_SIDE, -(-steps // _TILE_STEPS) * _TILE_STEPS
    return np.zeros((rows, length + 2 * STEP_PADDING), np.uint8)


@kernel
def to_channel_major(
    marks: NDArray[np.uint8], bits: int, step: int, c0: int, c1: int, events: NDArray[np.uint8]
) -> None:
    """Transpose the events of channels ``[c0, c1)`` to channel-major order.

    Parameters
    ----------
    marks
        uint8 ``[time, channel]``.
    bits
        Marks that are events.
    step
        Times that become one step.
    c0, c1
        Channels.
    events
        Output, channel-major: 1 for an event.
    """
    times, wanted, none, one = marks.shape[0], np.uint8(bits), np.uint8(0), np.uint8(1)
    tile = np.zeros((_TILE_STEPS, len(events)), np.uint8)
    if c0 < 0:  # tells the compiler that no index counts from the end
        return
    flat, square, out = marks.reshape(-1), tile.reshape(-1), events.reshape(-1)
    for first in range(0, events.shape[1] - 2 * STEP_PADDING, _TILE_STEPS):
        tile[:] = none
        for t in range(step * first, min(step * (first + _TILE_STEPS), times)):
            prefetch_range(flat, (t + _PREFETCH_TIMES) * marks.shape[1] + c0, c1 - c0)
            row, found = marks[t, c0:c1], tile[t // step - first]
            for c in range(len(row)):
                found[c] |= row[c]
        for i in range(len(square)):
            square[i] = one & mask_if((square[i] & wanted) != none)
        for c in range(0, len(events), _SQUARE_SIDE):
            for u in range(0, _TILE_STEPS, _SQUARE_SIDE):
                at, to = u * len(events) + c, c * events.shape[1] + STEP_PADDING + first + u
                _transpose_square(square, at, len(events), out, to, events.shape[1])


@kernel
def mark_from_channel_major(
    on_track: NDArray[np.uint8], step: int, c0: int, c1: int, mark: int, marks: NDArray[np.uint8]
) -> None:
    """Set a mark in channels ``[c0, c1)`` where a channel-major array is not 0.

    Parameters
    ----------
    on_track
        Channel-major.
    step
        Times that one step stands for.
    c0, c1
        Channels.
    mark
        The mark.
    marks
        uint8 ``[time, channel]``, changed in place.
    """
    times, bit, none = marks.shape[0], np.uint8(mark), np.uint8(0)
    tile = np.empty((_TILE_STEPS, len(on_track)), np.uint8)
    square, source = tile.reshape(-1), on_track.reshape(-1)
    for first in range(0, on_track.shape[1] - 2 * STEP_PADDING, _TILE_STEPS):
        some = none
        for c in range(len(on_track)):
            track = on_track[c, STEP_PADDING + first : STEP_PADDING + first + _TILE_STEPS]
            for u in range(_TILE_STEPS):
                some |= track[u]
        if some == none:
            continue
        for c in range(0, len(on_track), _SQUARE_SIDE):
            for u in range(0, _TILE_STEPS, _SQUARE_SIDE):
                at, to = c * on_track.shape[1] + STEP_PADDING + first + u, u * len(on_track) + c
                _transpose_square(source, at, on_track.shape[1], square, to, len(on_track))
        for t in range(step * first, min(step * (first + _TILE_STEPS), times)):
            row, found = marks[t, c0:c1], tile[t // step - first]
            for c in range(len(row)):
                row[c] |= bit & mask_if(found[c] != none)


@kernel
def double_window(events: NDArray[np.uint8], steps: int, length: int, out: NDArray[np.uint8]) -> None:
    """Double the window that an event counts in, from ``length`` to twice ``length`` steps.

    Parameters
    ----------
    events
        Channel-major.
    steps
        Steps without padding.
    length
        Length of the window so far.
    out
        Output, channel-major: an event here or ``length`` steps earlier.
    """
    for c in range(len(events)):
        row, wide = events[c, STEP_PADDING : STEP_PADDING + steps], out[c, STEP_PADDING : STEP_PADDING + steps]
        near = min(length, steps)
        wide[:near] = row[:near]
        late, now, before = wide[near:], row[near:], row[: steps - near]
        for t in range(len(late)):
            late[t] = now[t] | before[t]


@kernel
def count_on_tracks(
    events: NDArray[np.uint8], rows: NDArray[np.int64], shifts: NDArray[np.int32], counts: NDArray[np.uint8]
) -> None:
    """Count the events of channels that lie on tracks, at every step.

    Parameters
    ----------
    events
        Channel-major.
    rows
        int64 ``[row]``: channels, at most 255.
    shifts
        int32 ``[track, row]``: steps by which a row's events are later on a track.
    counts
        Output, uint8 ``[track, step]``.
    """
    places = rows * events.shape[1] + STEP_PADDING
    length, steps = events.shape[1] - 2 * STEP_PADDING, counts.shape[1]
    flat, shift, out = events.reshape(-1), shifts.reshape(-1), counts.reshape(-1)
    last = np.empty(STEP_PADDING, np.uint8)
    # Successive tracks read almost the same part of each row, which stays in the L1 cache.
    for first in range(0, steps, STEP_PADDING):
        for s in range(len(counts)):
            at = s * shifts.shape[1]
            whole = first + STEP_PADDING <= steps
            to = s * steps + first if whole else 0
            _count_block(flat, places, shift, out if whole else last, (at, len(rows), first, length, to))
            if not whole:
                counts[s, first:] = last[: steps - first]
