"""Cut-outs as SIGPROC filterbank files, which nearly every tool of the field opens."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.analysis.export.atomic_file import atomic_write
from edgefilter.products.cutout import Cutout, filterbank_header


def write_cutout(cutout: Cutout, path: str | Path, fill: float | None = None) -> Path:
    """Write a cut-out as 32-bit SIGPROC filterbank (D. Lorimer, SIGPROC documentation, appendix).

    Channels run from the top of the band down, as most readers expect.

    Parameters
    ----------
    cutout
        What to write.
    path
        The file; one that is there is replaced.
    fill
        Value of what was lost or flagged, for which the format has no mark. If None, the median of what was used of the
        channel, with which other tools do best; with NaN, edgefilter's own replay knows it as lost.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        If it cannot be written; nothing is left of it then.
    """
    unused = np.broadcast_to(cutout.mask[:, None, :] != 0, cutout.data.shape)
    data = np.where(unused, _channel_medians(cutout.data, unused) if fill is None else np.float32(fill), cutout.data)
    header = filterbank_header(cutout)
    if cutout.channel_mhz > 0:
        data = data[..., ::-1]
        header |= {"fch1": float(cutout.frequencies_mhz[-1]), "foff": -cutout.channel_mhz}
    return _write_file(path, header, data)


def write_power(
    path: str | Path,
    power: NDArray[Any],
    first_channel_mhz: float,
    channel_mhz: float,
    row_seconds: float,
    start_mjd: float = 60000.0,
    source: str = "simulated",
) -> Path:
    """Write power that was made by hand as 32-bit SIGPROC filterbank, to be replayed.

    Parameters
    ----------
    path
        The file; one that is there is replaced.
    power
        ``[time, channel]``, any real type.
    first_channel_mhz, channel_mhz
        Centre of channel 0 and the signed step to the next, MHz.
    row_seconds
        Duration of a row, s.
    start_mjd
        UTC MJD of the first row.
    source
        Name of the source.

    Raises
    ------
    StoreError
        If it cannot be written; nothing is left of it then.
    """
    header = {
        "source_name": source, "data_type": 1, "fch1": float(first_channel_mhz), "foff": float(channel_mhz),
        "nchans": power.shape[1], "nifs": 1, "nbits": 32, "tsamp": float(row_seconds), "tstart": float(start_mjd),
    }  # fmt: skip
    return _write_file(path, header, power)


def _write_file(path: str | Path, header: dict[str, Any], data: NDArray[Any]) -> Path:
    with atomic_write(path) as part, part.open("wb") as file:
        file.write(_encode_header(header))
        file.write(np.ascontiguousarray(data, "<f4").tobytes())
    return Path(path)


def _channel_medians(data: NDArray[np.float32], unused: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Median of what is used of each channel, ``[1, stokes, channel]``; 0 for a channel of which nothing is."""
    medians = np.zeros((1, *data.shape[1:]), np.float32)
    some = ~unused.all(axis=0)
    medians[0, some] = np.nanmedian(np.where(unused, np.nan, data)[:, some], axis=0)
    return medians


def _encode_header(values: dict[str, Any]) -> bytes:
    parts = [_encode_string("HEADER_START")]
    for name, value in values.items():
        if isinstance(value, str):
            parts += [_encode_string(name), _encode_string(value)]
        elif isinstance(value, int | float):
            parts += [_encode_string(name), struct.pack("<i" if isinstance(value, int) else "<d", value)]
    return b"".join([*parts, _encode_string("HEADER_END")])


def _encode_string(text: str) -> bytes:
    raw = text.encode("ascii", "replace")[:80]
    return struct.pack("<i", len(raw)) + raw
