"""The HDF5 file of a cut-out.

A cut-out follows the sweep of its pulse: of each channel it holds the same number of rows, from the delay of the pulse
in that channel on. ``/data`` is uint16 ``[row, stokes, channel]``: 0 where a cell is not used, otherwise the power is
``zero + step * (data - 32896)``. ``/channels`` is float32 ``[value, channel]``: ``first``, then ``zero``, ``step`` and,
where they are known, ``level`` and ``scatter``, each for all Stokes planes. Row r of channel c is row ``first[c] + r``
of the rectangle that :func:`decode` returns. ``step`` is a power of two and at most a quarter of the scatter of a row,
so rounding adds at most 0.5 % to the variance of a cell; S/N in the tables was measured before. The step is larger
where the range of the values needs it, so that nothing is clipped. Compression is HDF5's own (shuffle, gzip), so plain
h5py reads it.

Versions up to 0.1 wrote the rectangle itself, as FBH5 (Price et al. 2019, arXiv:1906.07391, section 4): ``/data``
float32 ``[time, feed_id, frequency]`` and ``/mask``. They are read as well. The same cut-out always gives the same
bytes for the same version of the HDF5 library: no times, no uninitialised bytes.
"""

import io
from dataclasses import MISSING, fields
from fractions import Fraction
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from edgefilter.core.errors import StoreError
from edgefilter.products.base import SCHEMA_VERSION, Provenance
from edgefilter.products.cutout import Cutout, filterbank_header
from edgefilter.products.pulses import PulseRow

_READ_ERRORS = (OSError, KeyError, ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError, MemoryError)
"""What h5py raises on damaged bytes, depending on where the damage is."""
_DATA_NOTE = "[row, stokes, channel]. 0: not used, all was lost or flagged; else power = zero + step * (data - 32896)"
_CHANNELS_NOTE = (
    "[value, channel]. The first of the channel's rows in the rectangle of band and sweep; then of each Stokes plane: "
    "zero, step, and, where they are known, level and scatter of the power beside the pulse"
)
_CENTRE = 0x8080  # values near zero differ in the low byte only, which compresses well
_STEPS_PER_SIGMA = 4
_MAX_CODE = 32_600.0
_MIN_EXPONENT = -120.0  # of a step: smaller ones are not normal numbers in single precision
_EPSILON = 1e-7
_MEAN_TO_SIGMA = 1.2533  # from the mean distance to the standard deviation of a Gaussian
_CHUNK = (256, 1, 1024)
_PULSE_TYPES: dict[str, Any] = {"snr_search": float}
_STATISTICS_STEPS = 4  # level and scatter are rounded to such parts of a step, which compresses them


def encode(cutout: Cutout) -> bytes:
    """Write a cut-out as HDF5.

    Parameters
    ----------
    cutout
        The cut-out.

    Returns
    -------
    bytes
        The file.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=("earliest", "v108"), track_order=False) as file:
        _write_attributes(file, _file_attributes(cutout))
        zero, step = _quantisation(cutout)
        data = _dataset(file, "data", _codes(cutout, zero, step))
        _write_attributes(data, {"description": _DATA_NOTE, **filterbank_header(cutout)})
        channels = _dataset(file, "channels", _channel_values(cutout, zero, step))
        _write_attributes(channels, {"description": _CHANNELS_NOTE})
    return memory.getvalue()


def _quantisation(cutout: Cutout) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    # Zero and step of each plane and channel. A step is a power of two, and a zero a whole number of steps, so that
    # whole numbers stay exact. It grows where the range of values would not fit.
    used = np.broadcast_to((cutout.mask == 0)[:, None], cutout.data.shape) & np.isfinite(cutout.data)
    count = np.maximum(used.sum(axis=0), 1)
    data = np.where(used, cutout.data, np.float32(0))
    mean = data.sum(axis=0, dtype=np.float64) / count
    offset = np.abs(np.where(used, data - mean, 0.0))
    sigma, reach = _MEAN_TO_SIGMA * offset.sum(axis=0) / count, offset.max(axis=0)
    if cutout.scatter is not None:
        sigma = np.where(cutout.scatter > 0, cutout.scatter, sigma)
    with np.errstate(divide="ignore"):
        wanted, least = np.floor(np.log2(sigma / _STEPS_PER_SIGMA)), np.ceil(np.log2(reach / _MAX_CODE))
    exponent = np.maximum(np.maximum(wanted, least), _MIN_EXPONENT)
    step = np.exp2(exponent)
    constant = reach <= _EPSILON * np.abs(mean)
    zero = np.where(constant, mean, np.rint(mean / step) * step)
    return zero.astype(np.float32), step.astype(np.float32)


def _channel_values(cutout: Cutout, zero: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    # In one array, because each of HDF5 takes kilobytes of its own.
    unit = step.astype(np.float64) / _STATISTICS_STEPS  # the step of a dead channel is tiny
    known = [cutout.level, cutout.scatter] if cutout.level is not None and cutout.scatter is not None else []
    rounded = [np.rint(values / unit) * unit for values in known if values is not None]
    first = np.zeros(cutout.data.shape[2]) if cutout.first is None else cutout.first
    return np.concatenate([first[None], zero, step, *rounded]).astype(np.float32)


def _codes(cutout: Cutout, zero: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.uint16]:
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.rint((cutout.data - zero.astype(np.float64)) / step)
    used = np.broadcast_to((cutout.mask == 0)[:, None], cutout.data.shape) & ~np.isnan(steps)
    codes = np.clip(np.where(used, steps, 0.0), 1 - _CENTRE, 65535 - _CENTRE) + _CENTRE
    return np.where(used, codes, 0).astype(np.uint16)


def decode(content: bytes, name: str = "cut-out") -> Cutout:
    """Read a cut-out from HDF5: the inverse of :func:`encode`.

    Parameters
    ----------
    content
        The bytes.
    name
        What to call them in an error.

    Returns
    -------
    Cutout
        The cut-out.

    Raises
    ------
    StoreError
        If the bytes are damaged or not a cut-out of this version.
    """
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            return _read(file)
    except _READ_ERRORS as error:
        raise StoreError(f"{name}: damaged, or not a cut-out of edgefilter ({_first_line(error)})") from None


def _read(file: h5py.File) -> Cutout:
    file_attributes, header = file.attrs, file["data"].attrs
    read_rows = _read_rectangle if "mask" in file else _read_track
    if file_attributes["edgefilter_schema"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {file_attributes['edgefilter_schema']}, this code reads {SCHEMA_VERSION}")
    pulse = {
        field.name: _PULSE_TYPES.get(field.name, field.type)(file_attributes[f"pulse_{field.name}"])  # type: ignore[operator]
        for field in fields(PulseRow)
        if f"pulse_{field.name}" in file_attributes or field.default is MISSING  # a later field has a default
    }
    cutout = Cutout(
        **read_rows(file),
        stokes=tuple(_read_text(file_attributes, "stokes").split(",")),
        first_sample=int(file_attributes["first_sample"]),
        tai_ns=int(file_attributes["tai_ns"]),
        rate=Fraction(_read_text(file_attributes, "rate_hz")),
        samples_per_row=int(file_attributes["samples_per_row"]),
        first_channel_mhz=float(header["fch1"]),
        channel_mhz=float(header["foff"]),
        pulse=PulseRow(**pulse),
        provenance=Provenance(
            _read_text(file_attributes, "stream"),
            _read_text(file_attributes, "config"),
            _read_text(file_attributes, "code"),
        ),
        block=int(file_attributes["block"]),
        telescope=_read_text(file_attributes, "telescope"),
        source=_read_text(file_attributes, "source"),
    )
    return cutout.rectangle()


def _read_rectangle(file: h5py.File) -> dict[str, Any]:
    return {"data": file["data"][()], "mask": file["mask"][:, 0, :]}


def _read_track(file: h5py.File) -> dict[str, Any]:
    codes, channels = file["data"][()], file["channels"][()]
    zero, step, *known = channels[1:].reshape(-1, *codes.shape[1:])
    mask = (codes[:, 0] == 0).astype(np.uint8)
    data = zero + step * (codes.astype(np.float32) - _CENTRE)
    data[np.broadcast_to(mask[:, None] > 0, data.shape)] = 0
    arrays = {"data": data, "mask": mask, "first": channels[0].astype(np.int64)}
    return arrays | dict(zip(("level", "scatter"), known, strict=False))


def _file_attributes(cutout: Cutout) -> dict[str, Any]:
    pulse = {
        f"pulse_{field.name}": getattr(cutout.pulse, field.name)
        for field in fields(PulseRow)
        if field.name != "cutout" and getattr(cutout.pulse, field.name) is not None
    }
    return {
        "edgefilter_schema": SCHEMA_VERSION,
        "stream": cutout.provenance.stream,
        "block": cutout.block,
        "config": cutout.provenance.config,
        "code": cutout.provenance.code,
        "first_sample": cutout.first_sample,
        "tai_ns": cutout.tai_ns,
        "rate_hz": str(cutout.rate),
        "samples_per_row": cutout.samples_per_row,
        "stokes": ",".join(cutout.stokes),
        "telescope": cutout.telescope,
        "source": cutout.source,
        **pulse,
    }


def _dataset(file: h5py.File, name: str, values: NDArray[Any]) -> h5py.Dataset:
    return file.create_dataset(
        name,
        data=np.ascontiguousarray(values),
        chunks=tuple(map(min, values.shape, _CHUNK[-values.ndim :])),
        compression="gzip",
        compression_opts=6,
        shuffle=True,
        fletcher32=True,
        track_times=False,
    )


def _write_attributes(target: h5py.File | h5py.Dataset, attributes: dict[str, Any]) -> None:
    """Write attributes in the order given; text of fixed length, integers and floats of 64 bits."""
    for name, value in attributes.items():
        if isinstance(value, str):
            text = value.encode()
            target.attrs[name] = np.array(text, f"S{max(len(text), 1)}")  # HDF5 has no text of length 0
        elif isinstance(value, int):
            target.attrs[name] = np.int64(value)
        else:
            target.attrs[name] = value


def _read_text(attributes: Any, name: str) -> str:
    value: bytes = attributes[name]
    return value.decode()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
