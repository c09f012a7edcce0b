"""Vectors of eight float32 numbers: LLVM code for loops that Numba does not reliably vectorise.

A function decorated with :func:`vector_code` writes LLVM instructions on vectors of eight numbers into the kernel that
calls it. LLVM maps each vector to the registers of the processor: one of AVX2, half a one of AVX-512, two of SSE or
NEON. The arithmetic is the same on all of them.

Arrays are flat, and offsets count numbers. Nothing is checked here: the kernels that call this code check.
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
_BYTE_POINTER = ir.IntType(8).as_pointer()
FLOATS = ir.VectorType(_FLOAT, LANES)
"""LLVM type of eight float32."""
INTEGERS = ir.VectorType(_INT32, LANES)
"""LLVM type of eight int32."""


def multiply_add(builder: Any, one: Any, two: Any, addend: Any) -> Any:
    """Emit ``one * two + addend``, rounded once where the processor has such an instruction.

    LLVM is never left to choose which product of a sum it fuses (flag ``contract``): the choice depends on the code
    around it, and so would the last bits of all products.

    Parameters
    ----------
    builder
        LLVM builder.
    one, two, addend
        LLVM vectors of float32, of one length.

    Returns
    -------
    object
        LLVM vector of float32.
    """
    kind = addend.type
    name = f"llvm.fmuladd.v{kind.count}f32"
    fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(fused, [one, two, addend])


@dataclass(frozen=True)
class Lanes:
    """Eight complex numbers during code generation: its operators emit instructions.

    Parameters
    ----------
    builder
        LLVM builder.
    real, imaginary
        LLVM vectors of eight float32.
    """

    builder: Any
    real: Any
    imaginary: Any

    def __add__(self, other: "Lanes") -> "Lanes":
        b = self.builder
        return Lanes(b, b.fadd(self.real, other.real), b.fadd(self.imaginary, other.imaginary))

    def __sub__(self, other: "Lanes") -> "Lanes":
        b = self.builder
        return Lanes(b, b.fsub(self.real, other.real), b.fsub(self.imaginary, other.imaginary))

    def __mul__(self, other: "Lanes") -> "Lanes":
        b = self.builder
        real = multiply_add(b, self.real, other.real, b.fneg(b.fmul(self.imaginary, other.imaginary)))
        imaginary = multiply_add(b, self.real, other.imaginary, b.fmul(self.imaginary, other.real))
        return Lanes(b, real, imaginary)

    def scaled(self, factor: float) -> "Lanes":
        """Return the product with a real constant.

        Parameters
        ----------
        factor
            The constant.

        Returns
        -------
        Lanes
            The product.
        """
        constant = ir.Constant(FLOATS, [factor] * LANES)
        b = self.builder
        return Lanes(b, b.fmul(self.real, constant), b.fmul(self.imaginary, constant))

    def times_minus_i(self) -> "Lanes":
        """Return the product with -i."""
        return Lanes(self.builder, self.imaginary, self.builder.fneg(self.real))

    def conjugate(self) -> "Lanes":
        """Return the complex conjugate."""
        return Lanes(self.builder, self.real, self.builder.fneg(self.imaginary))

    def reversed(self) -> "Lanes":
        """Return the numbers in reverse order."""
        order = ir.Constant(INTEGERS, list(range(LANES))[::-1])
        return _shuffled(self, self, order)


@dataclass(frozen=True)
class Pointers:
    """Two flat arrays that hold the real and the imaginary parts of complex numbers.

    Parameters
    ----------
    builder
        LLVM builder.
    real, imaginary
        Addresses of the first numbers.
    """

    builder: Any
    real: Any
    imaginary: Any

    def load(self, at: Any) -> Lanes:
        """Return numbers ``[at, at + 8)``.

        Parameters
        ----------
        at
            Offset of the first number.

        Returns
        -------
        Lanes
            The numbers.
        """
        return Lanes(self.builder, load(self.builder, self.real, at), load(self.builder, self.imaginary, at))

    def store(self, value: Lanes, at: Any) -> None:
        """Write numbers ``[at, at + 8)``.

        Parameters
        ----------
        value
            The numbers.
        at
            Offset of the first number.
        """
        store(self.builder, value.real, self.real, at)
        store(self.builder, value.imaginary, self.imaginary, at)


def constant(builder: Any, values: ArrayLike) -> Lanes:
    """Return eight complex constants.

    Parameters
    ----------
    builder
        LLVM builder.
    values
        Eight numbers, or one that is repeated.

    Returns
    -------
    Lanes
        The constants.
    """
    numbers: NDArray[np.complex64] = np.broadcast_to(np.asarray(values, np.complex64), LANES)
    return Lanes(
        builder,
        ir.Constant(FLOATS, [float(value) for value in numbers.real]),
        ir.Constant(FLOATS, [float(value) for value in numbers.imag]),
    )


def vector_code(write: Callable[..., None]) -> Callable[..., None]:
    """Turn a function that writes LLVM code into a function that kernels can call.

    Parameters
    ----------
    write
        Called while a kernel is compiled, with the LLVM builder and, for each argument of the call: the address of an
        array's first number; a list for a tuple, whose members are treated alike; otherwise the number, integers as
        64 bits.

    Returns
    -------
    Callable
        Takes the arguments of ``write`` without the builder; returns nothing.
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
    if isinstance(kind, types.BaseTuple):
        members = zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
        return [_llvm_value(context, builder, *member) for member in members]
    return value


def index(value: int) -> Any:
    """Return a constant offset.

    Parameters
    ----------
    value
        The offset.

    Returns
    -------
    llvmlite.ir.Constant
        As a 64-bit integer.
    """
    return ir.Constant(_INT64, value)


def offset_at(builder: Any, start: Any, step: Any, times: int) -> Any:
    """Return ``start + times * step``.

    Parameters
    ----------
    builder
        LLVM builder.
    start, step
        Offsets that are known at run time.
    times
        Constant factor.

    Returns
    -------
    llvmlite.ir.Instruction
        The offset.
    """
    return builder.add(start, builder.mul(step, index(times)))


def load(builder: Any, pointer: Any, at: Any, kind: Any = FLOATS) -> Any:
    """Load a vector, which need not be aligned.

    Parameters
    ----------
    builder
        LLVM builder.
    pointer
        Address of an array's first element.
    at
        Offset in elements.
    kind
        Type of the vector.

    Returns
    -------
    llvmlite.ir.Instruction
        The vector.
    """
    return builder.load(builder.bitcast(builder.gep(pointer, [at]), kind.as_pointer()), align=1)


def store(builder: Any, value: Any, pointer: Any, at: Any) -> None:
    """Store a vector, which need not be aligned.

    Parameters
    ----------
    builder
        LLVM builder.
    value
        The vector.
    pointer
        Address of an array's first element.
    at
        Offset in elements.
    """
    builder.store(value, builder.bitcast(builder.gep(pointer, [at]), value.type.as_pointer()), align=1)


def splat(builder: Any, value: Any, lanes: int = LANES) -> Any:
    """Return a vector that holds one number in every lane.

    Parameters
    ----------
    builder
        LLVM builder.
    value
        The number.
    lanes
        Length of the vector.

    Returns
    -------
    llvmlite.ir.Instruction
        The vector.
    """
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first_lane = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(first_lane, undefined, ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes))


def prefetch(builder: Any, address: Any) -> None:
    """Ask the processor to bring a cache line into the L1 cache, to be read.

    Parameters
    ----------
    builder
        LLVM builder.
    address
        An address within the line; it may lie outside any array.
    """
    kind = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER, *[_INT32] * 3])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, keep_in_all_levels, data = (ir.Constant(_INT32, number) for number in (0, 3, 1))
    builder.call(function, [builder.bitcast(address, _BYTE_POINTER), read, keep_in_all_levels, data])


def dft(values: Sequence[Lanes]) -> list[Lanes]:
    """Fourier transform values lane by lane, by decimation in time (Cooley and Tukey 1965).

    Parameters
    ----------
    values
        The input, a power of two of vectors.

    Returns
    -------
    list
        The spectrum, in natural order.
    """
    count = len(values)
    if count == 1:
        return list(values)
    even, odd = dft(values[::2]), dft(values[1::2])
    twiddled = [_twiddled(value, k, count) for k, value in enumerate(odd)]
    return [e + o for e, o in zip(even, twiddled, strict=True)] + [e - o for e, o in zip(even, twiddled, strict=True)]


def _twiddled(value: Lanes, k: int, count: int) -> Lanes:
    """Multiply by exp(-2 pi i k / count), 0 <= k < count / 2, with as few multiplications as possible."""
    if k == 0:
        return value
    if 4 * k == count:
        return value.times_minus_i()
    if 8 * k in (count, 3 * count):
        # (1 - i) / sqrt 2; for 3/8 of a turn once more times -i.
        twiddled = value if 8 * k == count else value.times_minus_i()
        return (twiddled + twiddled.times_minus_i()).scaled(float(np.float32(np.sqrt(0.5))))
    return value * constant(value.builder, np.exp(-2j * np.pi * k / count))


def transpose(rows: Sequence[Lanes]) -> list[Lanes]:
    """Transpose eight rows of eight numbers, by exchanging blocks of 1, 2 and 4 lanes.

    Parameters
    ----------
    rows
        Eight vectors.

    Returns
    -------
    list
        The columns.
    """
    result = list(rows)
    block = 1
    while block < LANES:
        low = ir.Constant(INTEGERS, [lane if not lane & block else LANES + lane - block for lane in range(LANES)])
        high = ir.Constant(INTEGERS, [lane + block if not lane & block else LANES + lane for lane in range(LANES)])
        for i in range(LANES):
            if not i & block:
                one, two = result[i], result[i + block]
                result[i], result[i + block] = _shuffled(one, two, low), _shuffled(one, two, high)
        block *= 2
    return result


def _shuffled(one: Lanes, two: Lanes, mask: Any) -> Lanes:
    b = one.builder
    return Lanes(b, b.shuffle_vector(one.real, two.real, mask), b.shuffle_vector(one.imaginary, two.imaginary, mask))
