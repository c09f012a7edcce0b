"""Vector code of the detection: add squares and fourth powers of eight channels to sums.

Voltages are one flat array. ``first`` is the offset of a spectrum's real parts, ``steps`` holds the numbers from
spectrum to spectrum and from real to imaginary parts, and ``sums`` the arrays of squares and of fourth powers. The code
is checked by nothing, see :mod:`edgefilter_kernels.simd.float8`.
"""

from collections.abc import Callable
from typing import Any

from edgefilter_kernels.filterbank.fft import rfft_postprocessed
from edgefilter_kernels.simd.float8 import Lanes, load, multiply_add, offset_at, store, vector_code


def _load_spectrum(builder: Any, voltage: Any, start: Any, part: Any) -> Lanes:
    return Lanes(builder, load(builder, voltage, start), load(builder, voltage, builder.add(start, part)))


def _add_power(sums: Lanes, value: Lanes) -> Lanes:
    """Add the squared magnitude of numbers to the first of two sums, and its square to the second."""
    b = sums.builder
    power = multiply_add(b, value.imaginary, value.imaginary, b.fmul(value.real, value.real))
    return Lanes(b, b.fadd(sums.real, power), multiply_add(b, power, power, sums.imaginary))


@vector_code
def power_4(builder: Any, voltage: Any, first: Any, steps: Any, sums: Any, at: Any) -> None:
    """Add the powers of channels ``[at, at + 8)`` of four spectra, one after the other.

    Parameters
    ----------
    builder
        LLVM builder.
    voltage, first, steps, sums
        See the module.
    at
        Position of the first channel.
    """
    total = Lanes(builder, *(load(builder, array, at) for array in sums))
    for k in range(4):
        start = builder.add(offset_at(builder, first, steps[0], k), at)
        total = _add_power(total, _load_spectrum(builder, voltage, start, steps[1]))
    for value, array in zip((total.real, total.imaginary), sums, strict=True):
        store(builder, value, array, at)


def _make_power_real(spectra: int) -> Callable[..., None]:
    """As :func:`power_4`, of spectra of real input: eight positions ``at[0]`` and their mirror images ``at[1]``.

    The transforms are postprocessed on the way, with ``factors``, the real and imaginary twiddles.
    """

    @vector_code
    def power_real(builder: Any, voltage: Any, first: Any, steps: Any, factors: Any, sums: Any, at: Any) -> None:
        rfft_twiddle = Lanes(builder, *(load(builder, array, at[0]) for array in factors))
        totals = [Lanes(builder, *(load(builder, array, position) for array in sums)) for position in at]
        totals[1] = totals[1].reversed()
        for k in range(spectra):
            starts = [builder.add(offset_at(builder, first, steps[0], k), position) for position in at]
            one, two = (_load_spectrum(builder, voltage, start, steps[1]) for start in starts)
            pair = rfft_postprocessed(one, two.reversed().conjugate(), rfft_twiddle)
            totals = [_add_power(total, value) for total, value in zip(totals, pair, strict=True)]
        for position, total in zip(at, (totals[0], totals[1].reversed()), strict=True):
            store(builder, total.real, sums[0], position)
            store(builder, total.imaginary, sums[1], position)

    return power_real


power_real_4, power_real_1 = _make_power_real(4), _make_power_real(1)
