"""Eight float32 numbers at a time: the vector code that Numba's loops are not certain to become.

A function under :func:`vector_code` writes LLVM instructions on vectors of eight numbers into the kernel that calls it.
LLVM makes of them what the processor has: one AVX2 register, half an AVX-512 register, two of SSE or NEON. The
arithmetic is the same on all of them.

Arrays are flat, offsets count numbers; neither is checked. That is for the kernels that call them.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import ArrayLike, NDArray

LANES = 8

_FLOAT = ir.FloatType()
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INTEGERS = ir.VectorType(_INT32, LANES)
_FLAGS = ("contract",)  # a product and a sum may become one instruction; nothing else is rearranged


@dataclass(frozen=True)
class Lanes:
    """Eight complex numbers while code is made: what it makes is the arithmetic it is used for."""

    builder: Any
    real: Any
    imaginary: Any

    def __add__(self, other: "Lanes") -> "Lanes":
        b = self.builder
        return Lanes(
            b,
            b.fadd(self.real, other.real, flags=_FLAGS),
            b.fadd(self.imaginary, other.imaginary, flags=_FLAGS),
        )

    def __sub__(self, other: "Lanes") -> "Lanes":
        b = self.builder
        return Lanes(
            b,
            b.fsub(self.real, other.real, flags=_FLAGS),
            b.fsub(self.imaginary, other.imaginary, flags=_FLAGS),
        )

    def __mul__(self, other: "Lanes") -> "Lanes":
        b = self.builder

        def times(one: Any, two: Any) -> Any:
            return b.fmul(one, two, flags=_FLAGS)

        real = b.fsub(times(self.real, other.real), times(self.imaginary, other.imaginary), flags=_FLAGS)
        imaginary = b.fadd(times(self.real, other.imaginary), times(self.imaginary, other.real), flags=_FLAGS)
        return Lanes(b, real, imaginary)

    def scaled(self, factor: float) -> "Lanes":
        """Product with a real constant."""
        constant = ir.Constant(_VECTOR, [factor] * LANES)
        b = self.builder
        return Lanes(b, b.fmul(self.real, constant, flags=_FLAGS), b.fmul(self.imaginary, constant, flags=_FLAGS))

    def times_minus_i(self) -> "Lanes":
        """Product with -i."""
        return Lanes(self.builder, self.imaginary, self.builder.fneg(self.real))

    def conjugate(self) -> "Lanes":
        """Complex conjugate."""
        return Lanes(self.builder, self.real, self.builder.fneg(self.imaginary))

    def reversed(self) -> "Lanes":
        """Last number first."""
        order = ir.Constant(_INTEGERS, list(range(LANES))[::-1])
        b = self.builder
        return Lanes(
            b,
            b.shuffle_vector(self.real, self.real, order),
            b.shuffle_vector(self.imaginary, self.imaginary, order),
        )


@dataclass(frozen=True)
class Pointers:
    """Where eight complex numbers lie: two flat arrays, real and imaginary parts."""

    builder: Any
    real: Any
    imaginary: Any

    def load(self, at: Any) -> Lanes:
        """Numbers ``[at, at + 8)``."""
        return Lanes(self.builder, load(self.builder, self.real, at), load(self.builder, self.imaginary, at))

    def store(self, value: Lanes, at: Any) -> None:
        """Set numbers ``[at, at + 8)``."""
        store(self.builder, value.real, self.real, at)
        store(self.builder, value.imaginary, self.imaginary, at)


def constant(builder: Any, values: ArrayLike) -> Lanes:
    """Eight complex constants, or one eight times."""
    numbers: NDArray[np.complex64] = np.broadcast_to(np.asarray(values, np.complex64), LANES)
    return Lanes(
        builder,
        ir.Constant(_VECTOR, [float(value) for value in numbers.real]),
        ir.Constant(_VECTOR, [float(value) for value in numbers.imag]),
    )


def vector_code(write: Callable[..., None]) -> Callable[..., None]:
    """Make a function for kernels of one that writes its code.

    ``write`` is called while a kernel is compiled, with the LLVM builder and with what stands for each argument: the
    address of an array's first number, the members of a tuple, otherwise a 64-bit integer.
    """

    def typed(_: Any, *kinds: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
            write(
                builder, *(_llvm_value(context, builder, *item) for item in zip(signature.args, arguments, strict=True))
            )

        return types.void(*(types.int64 if isinstance(kind, types.Integer) else kind for kind in kinds)), generate

    typed.__signature__ = inspect.signature(write)  # type: ignore[attr-defined]  # numba would pack *kinds to a tuple
    return intrinsic(typed)  # type: ignore[no-any-return]


def _llvm_value(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        return context.make_array(kind)(context, builder, value).data
    return cgutils.unpack_tuple(builder, value) if isinstance(kind, types.UniTuple) else value


def index(value: int) -> Any:
    """Return a constant offset."""
    return ir.Constant(_INT64, value)


def offset_at(builder: Any, start: Any, step: Any, times: int) -> Any:
    """``start + times * step``, of offsets that are known when the code runs."""
    return builder.add(start, builder.mul(step, index(times)))


def load(builder: Any, pointer: Any, at: Any) -> Any:
    """Load eight float32, aligned to nothing but themselves."""
    place = builder.bitcast(builder.gep(pointer, [at]), _VECTOR.as_pointer())
    return builder.load(place, align=4)


def store(builder: Any, value: Any, pointer: Any, at: Any) -> None:
    """Store eight float32."""
    place = builder.bitcast(builder.gep(pointer, [at]), _VECTOR.as_pointer())
    builder.store(value, place, align=4)


def dft(values: Sequence[Lanes]) -> list[Lanes]:
    """Fourier transform of a power of two of values, lane by lane, by decimation in time."""
    count = len(values)
    if count == 1:
        return list(values)
    even, odd = dft(values[::2]), dft(values[1::2])
    twiddled = [_twiddled(value, k, count) for k, value in enumerate(odd)]
    return [e + o for e, o in zip(even, twiddled, strict=True)] + [e - o for e, o in zip(even, twiddled, strict=True)]


def _twiddled(value: Lanes, k: int, count: int) -> Lanes:
    """Multiply by exp(-2 pi i k / count), 0 <= k < count / 2, with as few multiplications as that takes."""
    if k == 0:
        return value
    if 4 * k == count:
        return value.times_minus_i()
    if 8 * k in (count, 3 * count):
        # (1 - i) / sqrt 2, and once more times -i.
        twiddled = value if 8 * k == count else value.times_minus_i()
        return (twiddled + twiddled.times_minus_i()).scaled(float(np.float32(np.sqrt(0.5))))
    return value * constant(value.builder, np.exp(-2j * np.pi * k / count))


def transpose(rows: Sequence[Lanes]) -> list[Lanes]:
    """Turn eight rows of eight into columns: blocks of 1, 2 and 4 lanes change places."""
    result = list(rows)
    block = 1
    while block < LANES:
        low = ir.Constant(_INTEGERS, [lane if not lane & block else LANES + lane - block for lane in range(LANES)])
        high = ir.Constant(_INTEGERS, [lane + block if not lane & block else LANES + lane for lane in range(LANES)])
        for i in range(LANES):
            if not i & block:
                one, two = result[i], result[i + block]
                result[i], result[i + block] = _shuffled(one, two, low), _shuffled(one, two, high)
        block *= 2
    return result


def _shuffled(one: Lanes, two: Lanes, mask: Any) -> Lanes:
    b = one.builder
    return Lanes(
        b,
        b.shuffle_vector(one.real, two.real, mask),
        b.shuffle_vector(one.imaginary, two.imaginary, mask),
    )


def _make_unpack(word_bytes: int, contiguous: bool, floats: bool = False) -> Callable[..., None]:
    """Unpack eight numbers, each out of a word of its own; floats are taken as they are."""
    word = ir.IntType(8 * word_bytes)
    words = ir.VectorType(word, LANES)

    @vector_code
    def unpack(builder: Any, raw: Any, at: Any, stride: Any, field: Any, out: Any, to: Any) -> None:
        if contiguous:
            value = builder.load(builder.bitcast(builder.gep(raw, [at]), words.as_pointer()), align=1)
        else:
            value = ir.Constant(words, ir.Undefined)
            for lane in range(LANES):
                place = builder.gep(raw, [offset_at(builder, at, stride, lane)])
                number = builder.load(builder.bitcast(place, word.as_pointer()), align=1)
                value = builder.insert_element(value, number, ir.Constant(_INT32, lane))
        if floats:
            value = builder.bitcast(value, _VECTOR)
        else:
            shift, mask, flip, bias = (_splat(builder, number) for number in field)
            value = value if word_bytes == 4 else builder.zext(value, _INTEGERS)
            value = builder.xor(builder.and_(builder.lshr(value, shift), mask), flip)
            value = builder.sitofp(builder.sub(value, bias), _VECTOR)
        store(builder, value, out, to)

    return unpack


def _splat(builder: Any, value: Any) -> Any:
    nothing = ir.Constant(_INTEGERS, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(_INTEGERS, [0] * LANES))


unpack_1, unpack_2, unpack_4 = (_make_unpack(size, True) for size in (1, 2, 4))
unpack_1_apart, unpack_2_apart = (_make_unpack(size, False) for size in (1, 2))
unpack_float_apart = _make_unpack(4, False, floats=True)


def _weighted(builder: Any, weight: Any, value: Any, total: Any) -> Any:
    """``total + weight * value``, the first sum being None; every filter rounds it alike."""
    if total is None:
        return builder.fmul(weight, value)
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    together = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    return builder.call(together, [weight, value, total])


def _make_fir(taps: int, add: bool) -> Callable[..., None]:
    """Weight and add ``taps`` rows, for four neighbouring outputs at once, so that a row is loaded once."""

    @vector_code
    def fir(
        builder: Any, rows: Any, at: Any, row: Any, weights: Any, by: Any, width: Any, out: Any, to: Any, step: Any
    ) -> None:
        x = [load(builder, rows, offset_at(builder, at, row, i)) for i in range(taps + 3)]
        h = [load(builder, weights, offset_at(builder, by, width, i)) for i in range(taps)]
        for k in range(4):
            place = offset_at(builder, to, step, k)
            total = load(builder, out, place) if add else None
            for tap in range(taps):
                total = _weighted(builder, h[tap], x[k + tap], total)
            store(builder, total, out, place)

    return fir


fir_4, fir_4_add, fir_1, fir_1_add = (_make_fir(taps, add) for taps in (4, 1) for add in (False, True))


def _make_fir_words(word_bytes: int, add: bool) -> Callable[..., None]:
    """Unpack, weight and add four rows of words of four numbers, for so many neighbouring outputs of each number.

    What is unpacked stays in registers: a row is loaded once, and serves four outputs.
    """
    bits = 2 * word_bytes
    words = ir.VectorType(ir.IntType(8 * word_bytes), LANES)

    @vector_code
    def fir(
        builder: Any, raw: Any, at: Any, row: Any, outputs: Any, code: Any, weights: Any, by: Any, width: Any,
        out: Any, to: Any, step: Any,
    ) -> None:  # fmt: skip
        b = builder
        h = [[load(b, weights, offset_at(b, start, width, tap)) for tap in range(4)] for start in by]
        # A field in the last bits of the float 2^23 is 2^23 + field, without a conversion.
        flip, bias = (_splat(b, number) for number in code)
        flip = b.xor(flip, ir.Constant(_INTEGERS, [0x4B000000] * LANES))
        bias = b.fadd(b.sitofp(bias, _VECTOR), ir.Constant(_VECTOR, [2.0**23] * LANES))
        mask = ir.Constant(_INTEGERS, [(1 << bits) - 1] * LANES)

        def unpacked(number: Any) -> list[Any]:
            place = b.gep(raw, [b.add(at, b.mul(row, number))])
            _prefetch(b, place)
            word = b.load(b.bitcast(place, words.as_pointer()), align=1)
            word = word if word_bytes == 4 else b.zext(word, _INTEGERS)
            fields = [b.and_(b.lshr(word, ir.Constant(_INTEGERS, [bits * i] * LANES)), mask) for i in range(4)]
            return [b.fsub(b.bitcast(b.xor(field, flip), _VECTOR), bias) for field in fields]

        kept = [[cgutils.alloca_once_value(b, value) for value in unpacked(index(i))] for i in range(3)]
        with cgutils.for_range_slice(b, index(0), outputs, index(4), intp=_INT64) as (first, _):
            x = [[b.load(slot) for slot in slots] for slots in kept]
            for k in range(4):
                now = b.add(first, index(k))
                x.append(unpacked(b.add(now, index(3))))
                for i in range(4):
                    place = b.add(to[i], b.mul(step, now))
                    total = load(b, out, place) if add else None
                    for tap in range(4):
                        total = _weighted(b, h[i // 2][tap], x[k + tap][i], total)
                    store(b, total, out, place)
            for slots, values in zip(kept, x[4:], strict=True):
                for slot, value in zip(slots, values, strict=True):
                    b.store(value, slot)

    return fir


def _prefetch(builder: Any, place: Any) -> None:
    """Ask for what lies two cache lines on: rows of bytes are more streams than a processor follows by itself."""
    ahead = builder.gep(place, [index(128)])
    kind = ir.FunctionType(ir.VoidType(), [ahead.type, _INT32, _INT32, _INT32])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch", [ahead.type], kind)
    builder.call(prefetch, [ahead, *(ir.Constant(_INT32, number) for number in (0, 3, 1))])  # read, keep, data


fir_words_4, fir_words_4_add, fir_words_2, fir_words_2_add = (
    _make_fir_words(size, add) for size in (4, 2) for add in (False, True)
)


@vector_code
def power_4(
    builder: Any, voltage: Any, first: Any, spectrum: Any, part: Any, square: Any, fourth: Any, at: Any
) -> None:
    """Add squares of eight numbers of four spectra in turn, and the squares of these, to sums that are loaded once."""
    sums = Lanes(builder, load(builder, square, at), load(builder, fourth, at))
    for k in range(4):
        place = builder.add(offset_at(builder, first, spectrum, k), at)
        imaginary = load(builder, voltage, builder.add(place, part))
        sums = _add_power(sums, Lanes(builder, load(builder, voltage, place), imaginary))
    store(builder, sums.real, square, at)
    store(builder, sums.imaginary, fourth, at)


def rfft_postprocessed(one: Lanes, two: Lanes, rfft_twiddle: Lanes) -> tuple[Lanes, Lanes]:
    """Untangle the transform of real numbers, see :func:`edgefilter_kernels.filterbank.fft.rfft_postprocess`.

    ``two`` is conjugate and reversed, and so is the second result.
    """
    even, odd = (one + two).scaled(0.5), (one - two).times_minus_i().scaled(0.5) * rfft_twiddle
    return even + odd, even - odd


def _make_power_real(spectra: int) -> Callable[..., None]:
    """As :func:`power_4`, of eight numbers and their mirror images of some spectra that are untangled on the way."""

    @vector_code
    def power_real(
        builder: Any, voltage: Any, first: Any, spectrum: Any, part: Any, cos: Any, sin: Any, square: Any, fourth: Any,
        here: Any, there: Any,
    ) -> None:  # fmt: skip
        rfft_twiddle = Lanes(builder, load(builder, cos, here), load(builder, sin, here))
        sums = [Lanes(builder, load(builder, square, at), load(builder, fourth, at)) for at in (here, there)]
        sums[1] = sums[1].reversed()
        for k in range(spectra):
            numbers = []
            for at in (here, there):
                place = builder.add(offset_at(builder, first, spectrum, k), at)
                imaginary = load(builder, voltage, builder.add(place, part))
                numbers.append(Lanes(builder, load(builder, voltage, place), imaginary))
            pair = rfft_postprocessed(numbers[0], numbers[1].reversed().conjugate(), rfft_twiddle)
            sums = [_add_power(total, value) for total, value in zip(sums, pair, strict=True)]
        for at, total in zip((here, there), (sums[0], sums[1].reversed()), strict=True):
            store(builder, total.real, square, at)
            store(builder, total.imaginary, fourth, at)

    return power_real


def _add_power(sums: Lanes, value: Lanes) -> Lanes:
    """Add the square and its square to a pair of sums."""
    b = sums.builder
    real, imag = (b.fmul(number, number, flags=_FLAGS) for number in (value.real, value.imaginary))
    power = b.fadd(real, imag, flags=_FLAGS)
    fourth = b.fadd(sums.imaginary, b.fmul(power, power, flags=_FLAGS), flags=_FLAGS)
    return Lanes(b, b.fadd(sums.real, power), fourth)


power_real_4, power_real_1 = _make_power_real(4), _make_power_real(1)
