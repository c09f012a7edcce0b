"""Pulse candidates: measurements, cut-outs with units, figures, exports."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from edgefilter.analysis.tables import TableView
from edgefilter.core.clock import to_time, utc_us
from edgefilter.core.errors import StoreError
from edgefilter.core.html import data_table, property_table
from edgefilter.products.pulses import PulseRow

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr
    from astropy.coordinates import SkyCoord
    from astropy.time import Time

    from edgefilter.analysis.export.voevent import Detection
    from edgefilter.analysis.plots.pulse_diagnostic import PulseDiagnostic
    from edgefilter.analysis.plots.style import NotebookFigure
    from edgefilter.core.stream import Stream
    from edgefilter.products.cutout import Cutout
    from edgefilter.store.reader import StoreReader


@dataclass(frozen=True, eq=False, repr=False)
class Pulse:
    """A pulse candidate of a store.

    Parameters
    ----------
    row
        Row of the table ``pulses``, in the units of :data:`edgefilter.products.pulses.SCHEMA`.
    stream, block, config, code, node
        Provenance: id of the stream, number of the block, digest of the settings, version of edgefilter, node.
    read_header
        Returns the header of the stream of an id.
    read_cutout
        Returns the cut-out of a name.
    """

    row: PulseRow
    stream: str
    block: int
    config: str
    code: str
    node: str
    read_header: "Callable[[str], Stream]"
    read_cutout: "Callable[[str], Cutout]"

    @cached_property
    def id(self) -> str:
        """Unique identifier: stream, sample, and a digest of the other columns that distinguish pulses."""
        row = self.row
        rest = (self.config, self.code, self.block, row.dm, row.width, row.freq_low, row.freq_high)
        return f"{self.stream}-{row.sample}-{hashlib.sha256(repr(rest).encode()).hexdigest()[:6]}"

    @property
    def dm(self) -> float:
        """Dispersion measure, pc cm⁻³."""
        return self.row.dm

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio."""
        return self.row.snr

    @property
    def width(self) -> float:
        """Width of the boxcar with the highest S/N, s."""
        return self.row.width

    @property
    def seconds(self) -> float:
        """Arrival time at the top of the band, s since the stream's first sample."""
        return self.row.seconds

    @property
    def time(self) -> "Time":
        """Arrival time at the top of the band as astropy ``Time`` of scale UTC."""
        return to_time(self.row.tai_ns)

    @cached_property
    def header(self) -> "Stream":
        """Header of the stream.

        Raises
        ------
        StoreError
            If the store does not have it.
        """
        return self.read_header(self.stream)

    @cached_property
    def product(self) -> "Cutout":
        """The cut-out; if several pulses of a block share one, the part around this pulse.

        Raises
        ------
        StoreError
            If the store has no cut-out of this pulse, or it is damaged.
        """
        if not self.row.cutout:
            raise StoreError(f"pulse {self.id} has no cut-out: its block had more candidates than pulses.cutouts keeps")
        return self.read_cutout(self.row.cutout).around(self.row)

    @property
    def cutout(self) -> "xr.DataArray":
        """Power around the pulse, ``[time, stokes, frequency]``, NaN for lost and flagged cells.

        Coordinates: ``time``, centres of the rows in s since the stream's first sample; ``utc``, the same as
        ``datetime64[us]``; ``frequency``, centres of the channels in MHz; ``stokes``.
        """
        product = self.product
        return self._to_dataarray(np.asarray(product.masked.filled(np.nan), np.float32), product.seconds)

    def dedisperse(self, dm: float | None = None, normalise: bool = False) -> "xr.DataArray":
        """Return the cut-out with its dispersion removed: channels are shifted by whole rows relative to the top one.

        Parameters
        ----------
        dm
            Dispersion measure to remove, pc cm⁻³; that of the pulse if None.
        normalise
            Whether to normalise each channel to zero mean and unit variance first, as the search does. The result then
            has only the intensity.

        Returns
        -------
        xr.DataArray
            As :attr:`cutout`; also NaN where the shifted rows lie outside of the cut-out.

        Raises
        ------
        StoreError
            If the dispersion measure is negative or not finite.
        """
        from edgefilter.analysis.plots.pulse_diagnostic import delay_rows_per_dm, normalise_channels, shift_channels

        dm = self.dm if dm is None else dm
        if not 0 <= dm < np.inf:
            raise StoreError(f"dm is {dm}, must be 0 or more pc/cm3")
        product = self.product
        delays = np.rint(dm * delay_rows_per_dm(product)).astype(np.int64)
        if normalise:
            value, weights = normalise_channels(product)
            planes = np.where(weights > 0, value, np.nan)[None]
        else:
            planes = product.masked.filled(np.nan).transpose(1, 2, 0)
        moved = np.stack([shift_channels(plane, 0, delays, plane.shape[1], np.nan) for plane in planes])
        shown = self._to_dataarray(moved.transpose(2, 0, 1).astype(np.float32), product.seconds)
        shown.attrs["dm"] = dm
        if normalise:
            shown.attrs["units"] = "standard deviations"
        return shown

    def diagnose(self, dm: float | None = None, subbands: int | None = None) -> "PulseDiagnostic":
        """Return the arrays behind :meth:`plot`, see :func:`edgefilter.analysis.plots.pulse_diagnostic.diagnose`."""
        from edgefilter.analysis.plots.pulse_diagnostic import diagnose

        return diagnose(self.product, dm, subbands)

    def plot(self, dm: float | None = None, subbands: int | None = None) -> "NotebookFigure":
        """Draw the diagnostic figure: dedispersed dynamic spectrum, profile, spectrum, and S/N over DM and time.

        Parameters
        ----------
        dm
            Dispersion measure to remove, pc cm⁻³; that of the pulse if None.
        subbands
            Number of sub-bands; chosen by the S/N of the pulse if None.

        Returns
        -------
        NotebookFigure
            The figure.
        """
        from edgefilter.analysis.plots.pulse import pulse_figure

        return pulse_figure(self.diagnose(dm, subbands), self.id)

    def to_filterbank(self, path: str | Path, fill: float | None = None) -> Path:
        """Write the cut-out as SIGPROC filterbank, see :func:`edgefilter.analysis.export.sigproc.write_cutout`."""
        from edgefilter.analysis.export.sigproc import write_cutout

        return write_cutout(self.product, path, fill)

    def to_voevent(self, **options: Any) -> str:
        """Return the pulse as a VOEvent 2.0 packet, see :func:`edgefilter.analysis.export.voevent.voevent`."""
        from edgefilter.analysis.export.voevent import voevent

        return voevent(self._detection, **options)

    def to_json(self, position: "SkyCoord | None" = None) -> str:
        """Return the pulse as a JSON notice, see :func:`edgefilter.analysis.export.voevent.gcn_notice`."""
        from edgefilter.analysis.export.voevent import gcn_notice

        return gcn_notice(self._detection, position)

    @property
    def _detection(self) -> "Detection":
        from edgefilter.analysis.export.voevent import Detection

        return Detection(self.id, self.row, self.header, self.config, self.code)

    def _to_dataarray(self, values: NDArray[np.float32], seconds: NDArray[np.float64]) -> "xr.DataArray":
        import xarray as xr

        product = self.product
        middles = seconds + product.row_seconds / 2
        tai = product.tai_ns + np.rint((middles - seconds[0]) * 1e9).astype(np.int64)
        units = {"units": "s", "long_name": "time since the stream's first sample"}
        return xr.DataArray(
            values,
            dims=("time", "stokes", "frequency"),
            coords={
                "time": ("time", middles, units),
                "utc": ("time", utc_us(tai).astype("datetime64[us]")),
                "stokes": list(product.stokes[: values.shape[1]]),
                "frequency": ("frequency", product.frequencies_mhz, {"units": "MHz", "long_name": "frequency"}),
            },
            name="power",
            attrs={"pulse": self.id, "pulse_dm": self.dm, "units": "of the stream", "dm": 0.0},
        )

    def __repr__(self) -> str:
        return f"<pulse {self.id}: S/N {self.snr:.1f}, DM {self.dm:.2f} pc/cm3, {self.seconds:.4f} s>"

    def _repr_html_(self) -> str:
        row = self.row
        shown = [
            ("S/N", f"{row.snr:.2f}"),
            ("DM", f"{row.dm:.3f} ± {row.dm_error:.3f} pc cm⁻³"),
            ("width", f"{row.width * 1e3:.4g} ms"),
            ("arrival at the top of the band", f"{row.seconds:.6f} s, {self.time.isot} UTC"),
            ("found in", f"{row.freq_low:.3f} to {row.freq_high:.3f} MHz"),
            ("lost or flagged in its sweep", f"{row.flagged:.1%}"),
            ("trials in its cluster", row.members),
            ("cut-out", row.cutout or "none was kept"),
        ]
        return property_table(f"pulse {self.id}", shown)


class Pulses(TableView):
    """The pulse candidates of a store, strongest first: a table and a sequence of :class:`Pulse`.

    Parameters
    ----------
    reader
        The store.
    arrow
        Rows of the table ``pulses``, each pulse once.
    """

    def __init__(self, reader: "StoreReader", arrow: "pa.Table") -> None:
        super().__init__("pulses", arrow)
        self._reader = reader
        self._headers = cache(reader.streams)

    @overload
    def __getitem__(self, at: int) -> Pulse: ...

    @overload
    def __getitem__(self, at: slice) -> "Pulses": ...

    def __getitem__(self, at: int | slice) -> "Pulse | Pulses":
        """Return one pulse by its rank from 0, or a slice as a table."""
        numbers = range(len(self))[at]
        if isinstance(numbers, range):
            return self._with_rows(self.arrow.take(np.array(numbers, np.int64)))
        return self._pulse(self.arrow.slice(numbers, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Pulse]:
        return (self._pulse(row) for row in self.arrow.to_pylist())

    def find(self, name: str) -> Pulse:
        """Return the pulse of an id.

        Parameters
        ----------
        name
            The id, or the beginning of it if no other id begins like this.

        Returns
        -------
        Pulse
            The pulse.

        Raises
        ------
        StoreError
            If no id, or several ids, begin like this.
        """
        found = [pulse for pulse in self if pulse.id.startswith(name)]
        matches = [pulse for pulse in found if pulse.id == name] or found
        if len(matches) != 1:
            many = f"is the beginning of {len(found)} pulses" if found else f"is not one of the {len(self)} pulses"
            raise StoreError(f"pulse {name!r} {many} of {self._reader.location}")
        return matches[0]

    def _pulse(self, row: dict[str, Any]) -> Pulse:
        values = {field.name: row[field.name] for field in fields(PulseRow)}
        provenance = {name: row[name] for name in ("stream", "block", "config", "code", "node")}
        return Pulse(PulseRow(**values), **provenance, read_header=self._header, read_cutout=self._reader.cutout)

    def _header(self, stream: str) -> "Stream":
        headers = self._headers()
        if stream not in headers:
            raise StoreError(f"store {self._reader.location}: the header of stream {stream} is missing")
        return headers[stream]

    def _with_rows(self, arrow: "pa.Table") -> "Pulses":
        return Pulses(self._reader, arrow)

    def _repr_html_(self) -> str:
        names = ("", "S/N", "DM (pc cm⁻³)", "arrival (s)", "width (ms)", "band (MHz)", "id")
        rows = [
            (
                number, f"{pulse.snr:.1f}", f"{pulse.dm:.2f} ± {pulse.row.dm_error:.2f}", f"{pulse.seconds:.4f}",
                f"{pulse.width * 1e3:.3g}", f"{pulse.row.freq_low:.1f} to {pulse.row.freq_high:.1f}", pulse.id,
            )
            for number, pulse in enumerate(self[:20])
        ]  # fmt: skip
        more = len(self) - len(rows)
        return data_table(f"{len(self)} pulse candidates", names, rows, f"… and {more} weaker ones" if more > 0 else "")
