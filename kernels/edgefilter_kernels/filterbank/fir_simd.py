"""Vector code of the filter: unpack eight numbers, and weight and add rows of eight numbers.

``at`` holds the first offset of a filter's input, weights and output, ``step`` the distances of their rows. Arrays are
passed one by one: a tuple of them costs reference counts in the innermost loop. The code is checked by nothing, see
:mod:`edgefilter_kernels.simd.float8`.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from edgefilter_kernels.simd.float8 import (
    FLOATS,
    INTEGERS,
    LANES,
    index,
    load,
    multiply_add,
    offset_at,
    prefetch,
    splat,
    store,
    vector_code,
)

_PREFETCH_BYTES = 128  # two cache lines


def _make_unpack(word_bytes: int, contiguous: bool, floats: bool = False) -> Callable[..., None]:
    """Unpack eight numbers, each from a word of its own; floats are copied.

    ``field`` is int32 ``(shift, mask, flip, bias)``: a number is ``((word >> shift & mask) ^ flip) - bias``.
    """
    word = ir.IntType(8 * word_bytes)
    words = ir.VectorType(word, LANES)

    @vector_code
    def unpack(builder: Any, raw: Any, at: Any, stride: Any, field: Any, out: Any, to: Any) -> None:
        if contiguous:
            value = load(builder, raw, at, words)
        else:
            value = ir.Constant(words, ir.Undefined)
            for lane in range(LANES):
                address = builder.gep(raw, [offset_at(builder, at, stride, lane)])
                number = builder.load(builder.bitcast(address, word.as_pointer()), align=1)
                value = builder.insert_element(value, number, ir.Constant(ir.IntType(32), lane))
        if floats:
            value = builder.bitcast(value, FLOATS)
        else:
            shift, mask, flip, bias = (splat(builder, number) for number in field)
            value = value if word_bytes == 4 else builder.zext(value, INTEGERS)
            value = builder.xor(builder.and_(builder.lshr(value, shift), mask), flip)
            value = builder.sitofp(builder.sub(value, bias), FLOATS)
        store(builder, value, out, to)

    return unpack


unpack_1, unpack_2, unpack_4 = (_make_unpack(size, True) for size in (1, 2, 4))
unpack_1_apart, unpack_2_apart = (_make_unpack(size, False) for size in (1, 2))
unpack_float_apart = _make_unpack(4, False, floats=True)


def _weighted(builder: Any, weight: Any, value: Any, total: Any) -> Any:
    """Return ``total + weight * value``, the first total being None; every filter rounds it alike."""
    if total is None:
        return builder.fmul(weight, value)
    return multiply_add(builder, weight, value, total)


def _make_fir(taps: int, add: bool) -> Callable[..., None]:
    """Weight and add ``taps`` rows for four neighbouring outputs at once, so that each row is loaded once."""

    @vector_code
    def fir(builder: Any, rows: Any, weights: Any, out: Any, at: Any, step: Any) -> None:
        x = [load(builder, rows, offset_at(builder, at[0], step[0], i)) for i in range(taps + 3)]
        h = [load(builder, weights, offset_at(builder, at[1], step[1], i)) for i in range(taps)]
        for k in range(4):
            to = offset_at(builder, at[2], step[2], k)
            total = load(builder, out, to) if add else None
            for tap in range(taps):
                total = _weighted(builder, h[tap], x[k + tap], total)
            store(builder, total, out, to)

    return fir


fir_4, fir_4_add, fir_1, fir_1_add = (_make_fir(taps, add) for taps in (4, 1) for add in (False, True))


def _make_fir_words(word_bytes: int, add: bool) -> Callable[..., None]:
    """Unpack, weight and add four rows of words of four numbers, for several neighbouring outputs of each number.

    The unpacked numbers stay in registers: a row is loaded once and serves four outputs. ``at`` holds one offset into
    the bytes, two into the weights (of the first two numbers and of the others) and four into the outputs; ``step`` has
    the number of outputs as its last member; ``code`` is int32 ``(flip, bias)``.
    """
    bits = 2 * word_bytes
    words = ir.VectorType(ir.IntType(8 * word_bytes), LANES)

    @vector_code
    def fir(builder: Any, raw: Any, weights: Any, out: Any, at: Any, step: Any, code: Any) -> None:
        b = builder
        h = [[load(b, weights, offset_at(b, start, step[1], tap)) for tap in range(4)] for start in at[1]]
        # A field in the last bits of the float 2^23 is 2^23 + field, without a conversion.
        flip, bias = (splat(b, number) for number in code)
        flip = b.xor(flip, ir.Constant(INTEGERS, [0x4B000000] * LANES))
        bias = b.fadd(b.sitofp(bias, FLOATS), ir.Constant(FLOATS, [2.0**23] * LANES))
        mask = ir.Constant(INTEGERS, [(1 << bits) - 1] * LANES)

        def unpacked(number: Any) -> list[Any]:
            first = b.add(at[0], b.mul(step[0], number))
            # Rows of bytes are more streams than the processor's own prefetching follows.
            prefetch(b, b.gep(raw, [b.add(first, index(_PREFETCH_BYTES))]))
            word = load(b, raw, first, words)
            word = word if word_bytes == 4 else b.zext(word, INTEGERS)
            fields = [b.and_(b.lshr(word, ir.Constant(INTEGERS, [bits * i] * LANES)), mask) for i in range(4)]
            return [b.fsub(b.bitcast(b.xor(field, flip), FLOATS), bias) for field in fields]

        kept = [[cgutils.alloca_once_value(b, value) for value in unpacked(index(i))] for i in range(3)]
        with cgutils.for_range_slice(b, index(0), step[3], index(4), intp=ir.IntType(64)) as (first, _):
            x = [[b.load(slot) for slot in slots] for slots in kept]
            for k in range(4):
                row = b.add(first, index(k))
                x.append(unpacked(b.add(row, index(3))))
                for i in range(4):
                    to = b.add(at[2][i], b.mul(step[2], row))
                    total = load(b, out, to) if add else None
                    for tap in range(4):
                        total = _weighted(b, h[i // 2][tap], x[k + tap][i], total)
                    store(b, total, out, to)
            for slots, values in zip(kept, x[4:], strict=True):
                for slot, value in zip(slots, values, strict=True):
                    b.store(value, slot)

    return fir


fir_words_4, fir_words_4_add, fir_words_2, fir_words_2_add = (
    _make_fir_words(size, add) for size in (4, 2) for add in (False, True)
)
