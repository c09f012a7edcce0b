"""Cut-outs: the power around one pulse, as HDF5 that radio-astronomy tools open.

The layout is FBH5, the HDF5 form of a SIGPROC filterbank (Price et al. 2019, Breakthrough Listen's data formats,
arXiv:1906.07391, section 4; as blimpy reads it): ``/data`` is float32 ``[time, feed_id, frequency]`` with the
filterbank header as its attributes. Compression is HDF5's own (shuffle, gzip), so plain h5py reads it. The same cut-out
always gives the same bytes for the same version of the HDF5 library: no times, no uninitialised bytes.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, replace
from fractions import Fraction
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from edgefilter.core.clock import mjd, tai_ns
from edgefilter.core.errors import StoreError
from edgefilter.core.plan import cutout_margin_rows, dispersion_delay
from edgefilter.products.base import SCHEMA_VERSION, BlockInputs, Provenance
from edgefilter.products.pulses import PulseRow, pulse_row

_READ_ERRORS = (OSError, KeyError, ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError, MemoryError)
"""What h5py raises on damaged bytes, depending on where the damage is."""
_LABELS = ("time", "feed_id", "frequency")
_MASK_NOTE = (
    "1: not used, all of it was lost or flagged; its value in /data is 0 and means nothing. "
    "0: the value in /data is the mean over what was neither lost nor flagged."
)
# Numbers that SIGPROC and PRESTO (sigproc_fb.c) agree on; 0 is what they write for any other.
_TELESCOPE_IDS = {
    "arecibo": 1,
    "parkes": 4,
    "jodrell": 5,
    "gbt": 6,
    "gmrt": 7,
    "effelsberg": 8,
    "srt": 10,
    "lofar": 11,
    "vla": 12,
    "chime": 20,
    "fast": 21,
    "meerkat": 64,
}


@dataclass(frozen=True, eq=False)
class Cutout:
    """Integrated power around a pulse, or around several of one block that overlap.

    Parameters
    ----------
    data
        float32 ``[time, stokes, channel]``: the rows' mean power, 0 where a row has no good cell.
    mask
        uint8 ``[time, channel]``: 1 where ``data`` is not used, because all was lost or flagged.
    stokes
        Names of the planes, ``("I",)`` or ``("I", "Q", "U", "V")``.
    first_sample
        Number of the first sample of the first row.
    tai_ns
        Start of the first row, TAI in ns since 1970 TAI.
    rate
        Samples of the stream a second, Hz.
    samples_per_row
        Samples of the stream in a row.
    first_channel_mhz, channel_mhz
        Centre of channel 0 and the signed step to the next, MHz.
    pulse
        What was found, of several the strongest. Its ``cutout`` is not stored: the name follows from the bytes.
    provenance, block
        What it was made from.
    telescope, source
        As the stream's header gives them, or empty.

    Raises
    ------
    ValueError
        If types or shapes are not these.
    """

    data: NDArray[np.float32]
    mask: NDArray[np.uint8]
    stokes: tuple[str, ...]
    first_sample: int
    tai_ns: int
    rate: Fraction
    samples_per_row: int
    first_channel_mhz: float
    channel_mhz: float
    pulse: PulseRow
    provenance: Provenance
    block: int
    telescope: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.data.dtype != np.float32 or self.data.ndim != 3 or not self.data.size:
            raise ValueError(f"data is {self.data.dtype} {self.data.shape}, must be float32 [time, stokes, channel]")
        if self.mask.dtype != np.uint8 or self.mask.shape != (self.data.shape[0], self.data.shape[2]):
            raise ValueError(f"mask is {self.mask.dtype} {self.mask.shape}, must be uint8 [time, channel] of the data")
        if len(self.stokes) != self.data.shape[1]:
            raise ValueError(f"{len(self.stokes)} names for {self.data.shape[1]} Stokes planes")

    @property
    def row_seconds(self) -> float:
        """Duration of a row, s."""
        return float(self.samples_per_row / self.rate)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Starts of the rows, s since the stream's first sample, float64 ``[time]``."""
        first = float(self.first_sample / self.rate)
        return first + np.arange(len(self.data), dtype=np.float64) * self.row_seconds

    @property
    def frequencies_mhz(self) -> NDArray[np.float64]:
        """Centre frequencies of the channels, MHz, float64 ``[channel]``."""
        return self.first_channel_mhz + np.arange(self.data.shape[2], dtype=np.float64) * self.channel_mhz

    def around(self, pulse: PulseRow) -> "Cutout":
        """Cut out the part that belongs to one of its pulses: from before its arrival to after its sweep.

        Parameters
        ----------
        pulse
            One of the pulses.

        Returns
        -------
        Cutout
            Views of the arrays; ``pulse`` is this pulse.
        """
        low, high = float(self.frequencies_mhz.min()), float(self.frequencies_mhz.max())
        sweep = dispersion_delay(pulse.dm, low, high) / self.row_seconds if low > 0 else 0.0
        margin = cutout_margin_rows(pulse.width / self.row_seconds)
        at = (pulse.sample - self.first_sample) / self.samples_per_row
        first = min(max(math.floor(at - margin), 0), len(self.data) - 1)
        stop = max(math.ceil(at + sweep + margin), first + 1)
        before = first * self.samples_per_row
        return replace(
            self,
            data=self.data[first:stop],
            mask=self.mask[first:stop],
            first_sample=self.first_sample + before,
            tai_ns=tai_ns(self.tai_ns, self.rate, before),
            pulse=pulse,
        )

    @property
    def masked(self) -> "np.ma.MaskedArray[Any, np.dtype[np.float32]]":
        """``data`` with the unused cells masked, ``[time, stokes, channel]``."""
        return np.ma.MaskedArray(self.data, np.broadcast_to(self.mask[:, None, :] != 0, self.data.shape))


def make_cutouts(inputs: BlockInputs) -> Iterator[tuple[int, Cutout]]:
    """Make the cut-outs of a block's pulses; overlapping pulses share one, which describes the strongest.

    Parameters
    ----------
    inputs
        The block.

    Yields
    ------
    int, Cutout
        Number of its first row since the epoch, and the cut-out.
    """
    plan, made = inputs.plan, set()
    for kept in inputs.reduced.pulses:
        rows = kept.rows
        if rows is None or rows.start in made:
            continue
        made.add(rows.start)
        sample = rows.start * plan.samples_per_row
        yield (
            rows.start,
            Cutout(
                data=np.ascontiguousarray(rows.stokes.swapaxes(0, 1)),
                mask=(rows.weight == 0).astype(np.uint8),
                stokes=tuple(plan.settings.detect.stokes),
                first_sample=sample,
                tai_ns=tai_ns(plan.stream.epoch_tai_ns, plan.stream.rate, sample),
                rate=plan.stream.rate,
                samples_per_row=plan.samples_per_row,
                first_channel_mhz=float(plan.frequencies_mhz[0]),
                channel_mhz=plan.channel_mhz,
                pulse=pulse_row(plan, kept),
                provenance=inputs.provenance,
                block=inputs.block.number,
                telescope=plan.stream.telescope,
                source=plan.stream.source,
            ),
        )


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
        data = _dataset(file, "data", cutout.data)
        _write_attributes(data, filterbank_header(cutout))
        mask = _dataset(file, "mask", np.broadcast_to(cutout.mask[:, None, :], cutout.data.shape))
        _write_attributes(mask, {"description": _MASK_NOTE})
    return memory.getvalue()


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
    if file_attributes["edgefilter_schema"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {file_attributes['edgefilter_schema']}, this code reads {SCHEMA_VERSION}")
    pulse = {
        field.name: field.type(file_attributes[f"pulse_{field.name}"])  # type: ignore[operator]
        for field in fields(PulseRow)
        if f"pulse_{field.name}" in file_attributes or field.default is MISSING  # a later field has a default
    }
    return Cutout(
        data=file["data"][()],
        mask=file["mask"][:, 0, :],
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


def _file_attributes(cutout: Cutout) -> dict[str, Any]:
    """Attributes of the file: those that FBH5 requires, then ours."""
    pulse = {
        f"pulse_{field.name}": getattr(cutout.pulse, field.name) for field in fields(PulseRow) if field.name != "cutout"
    }
    return {
        "CLASS": "FILTERBANK",
        "VERSION": "1.0",
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


def filterbank_header(cutout: Cutout) -> dict[str, Any]:
    """Make the SIGPROC header of a cut-out, the attributes of ``/data``.

    Parameters
    ----------
    cutout
        The cut-out.

    Returns
    -------
    dict
        Keywords of SIGPROC; where the telescope points is not known and 0.
    """
    return {
        "machine_id": 0,
        "telescope_id": _TELESCOPE_IDS.get(cutout.telescope.lower(), 0),
        "source_name": cutout.source or "unknown",
        "data_type": 1,
        "fch1": cutout.first_channel_mhz,
        "foff": cutout.channel_mhz,
        "nchans": cutout.data.shape[2],
        "nifs": cutout.data.shape[1],
        "nbits": 32,
        "tsamp": cutout.row_seconds,
        "tstart": mjd(cutout.tai_ns),
        "src_raj": 0.0,
        "src_dej": 0.0,
        "az_start": 0.0,
        "za_start": 0.0,
        "DIMENSION_LABELS": np.array([label.encode() for label in _LABELS]),
    }


def _dataset(file: h5py.File, name: str, values: NDArray[Any]) -> h5py.Dataset:
    time, _, channels = values.shape
    return file.create_dataset(
        name,
        data=np.ascontiguousarray(values),
        chunks=(min(time, 256), 1, min(channels, 1024)),
        compression="gzip",
        compression_opts=4,
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
