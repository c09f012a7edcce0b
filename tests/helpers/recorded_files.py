"""Writers of small recorded files."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PSRFITS_TBIN = 0.001
"""Sampling interval of the PSRFITS files, s."""

_SIGPROC_INTEGERS = {"telescope_id", "machine_id", "data_type", "nbits", "nchans", "nifs", "nsamples"}


def sigproc_header(**fields: object) -> bytes:
    """Return a SIGPROC header; ``frequencies``, a list in MHz, becomes a table."""
    out = _text("HEADER_START")
    for name, value in fields.items():
        if name == "frequencies":
            out += _text("FREQUENCY_START")
            out += b"".join(_text("fchannel") + struct.pack("<d", each) for each in value)  # type: ignore[attr-defined]
            out += _text("FREQUENCY_END")
        elif isinstance(value, str):
            out += _text(name) + _text(value)
        else:
            struct_format = "<i" if name in _SIGPROC_INTEGERS else "<b" if name == "signed" else "<d"
            out += _text(name) + struct.pack(struct_format, value)
    return out + _text("HEADER_END")


def sigproc(path: Path, numbers: NDArray[np.generic], bits: int, **fields: object) -> Path:
    """Write a SIGPROC file of ``numbers [time, IF, channel]``."""
    _, ifs, channels = numbers.shape
    header = {
        "source_name": "TEST",
        "telescope_id": 4,
        "tstart": 58000.25,
        "tsamp": 0.001,
        "fch1": 1500.0,
        "foff": -1.0,
    }
    header |= {"nchans": channels, "nifs": ifs, "nbits": bits} | fields
    path.write_bytes(sigproc_header(**header) + pack(numbers, bits))
    return path


def pack(numbers: NDArray[np.generic], bits: int, *, high_first: bool = False) -> bytes:
    """Pack numbers, last axis fastest; below 8 bits the first is in the low bits, or in the high bits."""
    if bits >= 8:
        return numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()
    each = 8 // bits
    groups = numbers.reshape(-1, each).astype(int)
    positions = range(each - 1, -1, -1) if high_first else range(each)
    return bytes(sum(int(n) << (bits * p) for n, p in zip(group, positions, strict=True)) for group in groups)


def psrfits(
    path: Path,
    raw: NDArray[np.generic],
    bits: int,
    *,
    centres: list[float] | None = None,
    columns: dict[str, NDArray[np.float32]] | None = None,
    **header: Any,
) -> Path:
    """Write a PSRFITS search-mode file with astropy.

    Parameters
    ----------
    raw
        Numbers ``[row, time, pol, channel]``.
    bits
        NBITS.
    centres
        OFFS_SUB of the rows, s; by default the rows are contiguous.
    columns
        DAT_WTS, DAT_OFFS or DAT_SCL of all rows.
    **header
        Keywords of the SUBINT header.
    """
    from astropy.io import fits

    rows, samples, pols, channels = raw.shape
    if bits < 8:
        packed = np.stack([np.frombuffer(pack(row, bits, high_first=True), np.uint8) for row in raw])
    else:
        big = raw.astype(raw.dtype.newbyteorder(">"))
        packed = np.stack([np.frombuffer(row.tobytes(), np.uint8) for row in big])
    width = channels * pols
    numbers = {
        "DAT_WTS": np.ones(channels, np.float32),
        "DAT_OFFS": np.zeros(width, np.float32),
        "DAT_SCL": np.ones(width, np.float32),
    } | (columns or {})
    centres = centres or [(row + 0.5) * samples * PSRFITS_TBIN for row in range(rows)]
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("TSUBINT", "1D", array=np.full(rows, samples * PSRFITS_TBIN)),
            fits.Column("OFFS_SUB", "1D", array=np.array(centres)),
            fits.Column("DAT_FREQ", f"{channels}D", array=np.tile(1500.0 - np.arange(channels), (rows, 1))),
            *(
                fits.Column(name, f"{values.size}E", array=np.tile(values.reshape(-1), (rows, 1)))
                for name, values in numbers.items()
            ),
            fits.Column("DATA", f"{packed.shape[1]}B", array=packed),
        ],
        name="SUBINT",
    )
    table.header.update({"TBIN": PSRFITS_TBIN, "NSBLK": samples, "NPOL": pols, "NCHAN": channels, "NBITS": bits})
    table.header.update({"POL_TYPE": "AA+BB", "ZERO_OFF": 0.0, "SIGNINT": 0, "CHAN_BW": -1.0} | header)
    primary = fits.PrimaryHDU()
    primary.header.update(
        {"SRC_NAME": "TEST", "TELESCOP": "Parkes", "STT_IMJD": 58000, "STT_SMJD": 100, "STT_OFFS": 0.25}
    )
    fits.HDUList([primary, table]).writeto(path, overwrite=True)
    return path


def damage(content: bytes, length: int, changes: list[tuple[int, int]]) -> bytes:
    """Return the first ``length`` bytes after setting bytes, given as (offset modulo the size, value)."""
    damaged = bytearray(content)
    for offset, value in changes:
        damaged[offset % len(damaged)] = value
    return bytes(damaged[:length])


def _text(text: str) -> bytes:
    return struct.pack("<i", len(text)) + text.encode()
