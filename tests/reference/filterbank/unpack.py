"""Reference of unpacking, bit by bit."""

import numpy as np
from numpy.typing import NDArray


def unpack(raw: NDArray[np.uint8], bits: int, encoding: str) -> NDArray[np.float32]:
    if encoding == "float":
        return np.frombuffer(raw.tobytes(), "<f4").copy()
    digits = np.unpackbits(raw.reshape(-1), bitorder="little").reshape(-1, bits)
    values = digits @ (1 << np.arange(bits, dtype=np.int64))
    if encoding == "signed":
        values = np.where(digits[:, -1], values - (1 << bits), values)
    elif encoding == "offset":
        values = values - (1 << (bits - 1))
    return values.astype(np.float32)
