"""From packed bytes to float32 numbers.

An integer of ``bits`` bits is ``(field ^ flip) - bias`` in every encoding: unsigned numbers need neither, offset binary
has a bias of 2^(bits-1), and two's complement has the same bias after its sign bit is flipped.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel

_BITS = {
    "unsigned": (1, 2, 4, 8, 16),
    "signed": (4, 8, 16),
    "offset": (2, 4, 8, 16),
    "float": (32,),
}


def flip_and_bias(bits: int, encoding: str) -> tuple[int, int]:
    """Return ``flip`` and ``bias`` of an encoding.

    Parameters
    ----------
    bits
        Bits of a number.
    encoding
        ``unsigned``, ``signed`` (two's complement), ``offset`` (zero at 2^(bits-1)) or ``float``.

    Returns
    -------
    flip, bias
        int, both 0 for floats.

    Raises
    ------
    ValueError
        If the encoding is unknown.
    """
    if bits not in _BITS.get(encoding, ()):
        raise ValueError(f"{bits} bits {encoding} is not an encoding, must be one of {_BITS}")
    half = 1 << (bits - 1)
    return (half if encoding == "signed" else 0), (half if encoding in ("signed", "offset") else 0)


def _as_words(raw: NDArray[np.uint8], bits: int) -> NDArray[np.unsignedinteger]:
    """Return the bytes as a flat array of words, one a number from 16 bits on; a copy only if they are not aligned."""
    if raw.dtype != np.uint8 or not raw.flags.c_contiguous:
        raise ValueError(f"raw is {raw.dtype}, must be C-contiguous uint8")
    flat = raw.reshape(-1)
    if bits <= 8:
        return flat
    if flat.size % (bits // 8):
        raise ValueError(f"{flat.size} bytes, must be a multiple of the {bits} bits of a number")
    view: NDArray[np.unsignedinteger] = flat.view(np.uint16 if bits == 16 else np.uint32)
    return view if view.flags.aligned else view.copy()


def unpack(raw: NDArray[np.uint8], bits: int, encoding: str, out: NDArray[np.float32]) -> None:
    """Unpack numbers to float32.

    Parameters
    ----------
    raw
        uint8, C-contiguous, of any shape; little-endian, below 8 bits the first number is in the low bits.
    bits
        Bits of a number.
    encoding
        ``unsigned``, ``signed`` (two's complement), ``offset`` (zero at 2^(bits-1)) or ``float`` (IEEE 754, 32 bits).
    out
        float32, C-contiguous, of any shape of ``raw.size * 8 / bits`` numbers; written.

    Raises
    ------
    ValueError
        If the encoding is unknown or an array does not fit.
    """
    flip, bias = flip_and_bias(bits, encoding)
    words = _as_words(raw, bits)
    if out.dtype != np.float32 or not out.flags.c_contiguous or out.size * bits != raw.size * 8:
        raise ValueError(f"out is {out.dtype} {out.shape}, must be contiguous float32, {raw.size * 8 // bits} numbers")
    if bits == 32:
        out.reshape(-1)[:] = words.view(np.float32)
    elif bits >= 8:
        _unpack_words(words, flip, bias, out.reshape(-1))
    else:
        _unpack_bytes(words, bits, flip, bias, out.reshape(-1))


@kernel
def _unpack_words(words: NDArray[np.unsignedinteger], flip: int, bias: int, out: NDArray[np.float32]) -> None:
    flip32, bias32 = np.int32(flip), np.int32(bias)
    for i in range(words.size):
        out[i] = np.float32((np.int32(words[i]) ^ flip32) - bias32)


@kernel
def _unpack_bytes(words: NDArray[np.uint8], bits: int, flip: int, bias: int, out: NDArray[np.float32]) -> None:
    # Copying a row of a table that fits the L1 cache is faster than shifting.
    per_byte = 8 // bits
    table = np.empty((256, per_byte), np.float32)
    for byte in range(256):
        for j in range(per_byte):
            table[byte, j] = np.float32((((byte >> (j * bits)) & ((1 << bits) - 1)) ^ flip) - bias)
    if per_byte == 8:  # constant lengths, so that the compiler makes each copy one or two moves
        for i in range(words.size):
            for j in range(8):
                out[8 * i + j] = table[words[i], j]
    elif per_byte == 4:
        for i in range(words.size):
            for j in range(4):
                out[4 * i + j] = table[words[i], j]
    else:
        for i in range(words.size):
            for j in range(2):
                out[2 * i + j] = table[words[i], j]


@kernel
def _flag_nonfinite(bits: NDArray[np.int32], products: int, flags: NDArray[np.uint16], lost: np.uint16) -> None:
    times, channels = flags.shape
    exponent, none, one = np.int32(0x7F800000), np.int32(0), np.int32(1)
    for t in range(times):
        any_nonfinite = none
        for i in range(channels * products):
            any_nonfinite |= one if bits[t, i] & exponent == exponent else none
        for i in range(channels * products if any_nonfinite else 0):
            if bits[t, i] & exponent == exponent:
                flags[t, i // products] = lost


def flag_nonfinite(power: NDArray[np.float32], flags: NDArray[np.uint16], lost: int) -> None:
    """Flag every cell that holds a NaN or an infinity.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``, C-contiguous.
    flags
        uint16 ``[time, channel]``, changed in place.
    lost
        Value of a flag.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit each other.
    """
    times, channels, products = power.shape
    if flags.shape != (times, channels) or power.dtype != np.float32 or not power.flags.c_contiguous:
        raise ValueError(
            f"{power.dtype} cells {power.shape} do not fit flags {flags.shape}, must be C-contiguous float32"
        )
    _flag_nonfinite(power.view(np.int32).reshape(times, channels * products), products, flags, np.uint16(lost))


@kernel
def zero_nonfinite(power: NDArray[np.float32], flags: NDArray[np.uint16], lost: int) -> None:
    """Zero and flag every cell that holds a NaN or an infinity.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``, changed in place.
    flags
        uint16 ``[time, channel]``, changed in place.
    lost
        Value of a flag.
    """
    times, channels, products = power.shape
    for t in range(times):
        for c in range(channels):
            finite = True
            for p in range(products):
                finite &= np.isfinite(power[t, c, p])
            if not finite:
                for p in range(products):
                    power[t, c, p] = 0
                flags[t, c] = lost
