"""Writers of small recorded files, for the tests of their readers."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

INTEGERS = {"telescope_id", "machine_id", "data_type", "nbits", "nchans", "nifs", "nsamples"}


def sigproc_header(**fields: object) -> bytes:
    """Write a SIGPROC header; a list of ``frequencies`` becomes a table."""
    out = _text("HEADER_START")
    for name, value in fields.items():
        if name == "frequencies":
            out += _text("FREQUENCY_START")
            out += b"".join(_text("fchannel") + struct.pack("<d", each) for each in value)  # type: ignore[attr-defined]
            out += _text("FREQUENCY_END")
        elif isinstance(value, str):
            out += _text(name) + _text(value)
        else:
            struct_format = "<i" if name in INTEGERS else "<b" if name == "signed" else "<d"
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
    """Pack numbers, last axis fastest; below 8 bits the first goes to the low bits, or the high ones."""
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
    pol_type: str = "AA+BB",
    tsamp: float = 0.001,
    zero_offset: float = 0.0,
    scale: NDArray[np.float32] | None = None,
    offset: NDArray[np.float32] | None = None,
    weights: NDArray[np.float32] | None = None,
    signed: bool = False,
) -> Path:
    """Write a search-mode file of ``raw [row, time, pol, channel]`` through astropy."""
    from astropy.io import fits

    rows, samples, pols, channels = raw.shape
    if bits < 8:
        packed = np.stack([np.frombuffer(pack(row, bits, high_first=True), np.uint8) for row in raw])
    else:
        big = raw.astype(raw.dtype.newbyteorder(">"))
        packed = np.stack([np.frombuffer(row.tobytes(), np.uint8) for row in big])
    centres = centres if centres is not None else [(r + 0.5) * samples * tsamp for r in range(rows)]

    def tile_rows(values: NDArray[np.float32] | None, count: int, default: float) -> NDArray[np.float32]:
        return np.tile(np.full(count, default, np.float32) if values is None else values.reshape(-1), (rows, 1))

    width = channels * pols
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("TSUBINT", "1D", array=np.full(rows, samples * tsamp)),
            fits.Column("OFFS_SUB", "1D", array=np.array(centres)),
            fits.Column("DAT_FREQ", f"{channels}D", array=np.tile(1500.0 - np.arange(channels), (rows, 1))),
            fits.Column("DAT_WTS", f"{channels}E", array=tile_rows(weights, channels, 1)),
            fits.Column("DAT_OFFS", f"{width}E", array=tile_rows(offset, width, 0)),
            fits.Column("DAT_SCL", f"{width}E", array=tile_rows(scale, width, 1)),
            fits.Column("DATA", f"{packed.shape[1]}B", array=packed),
        ],
        name="SUBINT",
    )
    table.header.update({"TBIN": tsamp, "NSBLK": samples, "NPOL": pols, "NCHAN": channels, "NBITS": bits})
    table.header.update({"POL_TYPE": pol_type, "ZERO_OFF": zero_offset, "SIGNINT": int(signed), "CHAN_BW": -1.0})
    primary = fits.PrimaryHDU()
    primary.header.update(
        {"SRC_NAME": "TEST", "TELESCOP": "Parkes", "STT_IMJD": 58000, "STT_SMJD": 100, "STT_OFFS": 0.25}
    )
    fits.HDUList([primary, table]).writeto(path, overwrite=True)
    return path


def _text(text: str) -> bytes:
    return struct.pack("<i", len(text)) + text.encode()
