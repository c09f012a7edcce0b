"""Cut-outs and power as SIGPROC filterbank files."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.analysis.export.atomic_file import atomic_write
from edgefilter.products.cutout import Cutout, filterbank_header


def write_cutout(cutout: Cutout, path: str | Path, fill: float | None = None) -> Path:
    """Write a cut-out as 32-bit SIGPROC filterbank (D. Lorimer, SIGPROC documentation, appendix).

    The first channel is the highest one, as most readers expect.

    Parameters
    ----------
    cutout
        The cut-out.
    path
        The file; an existing one is replaced.
    fill
        Value of cells that were lost, flagged or not kept, which the format cannot mark. If None, Gaussian noise of the
        level and scatter of the channel, always the same: a constant has no scatter, and would raise every S/N that a
        tool measures. edgefilter's own replay reads NaN as lost.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        If the file cannot be written.
    """
    unused = np.broadcast_to(cutout.mask[:, None] != 0, cutout.data.shape)
    data = np.where(unused, _noise(cutout) if fill is None else np.float32(fill), cutout.data)
    header = filterbank_header(cutout)
    if cutout.channel_mhz > 0:
        data = data[..., ::-1]
        header |= {"fch1": float(cutout.frequencies_mhz[-1]), "foff": -cutout.channel_mhz}
    return _write_file(path, header, data)


def _noise(cutout: Cutout) -> NDArray[np.float32]:
    # Noise of each plane and channel, [time, stokes, channel].
    power = cutout.masked
    level, scatter = power.mean(axis=0).filled(0), power.std(axis=0).filled(0)
    if cutout.level is not None and cutout.scatter is not None:
        known = cutout.scatter > 0
        level, scatter = np.where(known, cutout.level, level), np.where(known, cutout.scatter, scatter)
    noise = np.random.default_rng(0).standard_normal(cutout.data.shape, np.float32)
    return np.asarray(level + scatter * noise, np.float32)


def write_power(
    path: str | Path,
    power: NDArray[Any],
    first_channel_mhz: float,
    channel_mhz: float,
    row_seconds: float,
    start_mjd: float = 60000.0,
    source: str = "simulated",
) -> Path:
    """Write an array of power as 32-bit SIGPROC filterbank, for example a simulated burst.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    power
        ``[time, channel]``, any real type, in any unit.
    first_channel_mhz, channel_mhz
        Centre of channel 0 and the signed step to channel 1, MHz.
    row_seconds
        Duration of a row, s.
    start_mjd
        UTC MJD of the first row.
    source
        Name of the source.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        If the file cannot be written.
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
