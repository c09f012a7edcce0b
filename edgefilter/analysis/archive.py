"""An open store for astronomers: tables, pulses, waterfall, bandpass, balance."""

import shutil
import weakref
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow.compute as pc

from edgefilter.analysis.balance import LedgerBalance
from edgefilter.analysis.pulse import Pulse, Pulses
from edgefilter.analysis.spectra import BlockSpectra, Spectrum, evenly_spaced
from edgefilter.analysis.tables import TableView, first_rows
from edgefilter.core.clock import sample_at, tai_ns_from_iso
from edgefilter.core.config import Reduction
from edgefilter.core.errors import ConfigError, StoreError
from edgefilter.core.html import property_table, settings_html
from edgefilter.core.plan import Plan
from edgefilter.core.stream import Stream
from edgefilter.core.validation import validate
from edgefilter.products.schemas import SCHEMAS
from edgefilter.store.base import Store
from edgefilter.store.connect import connect
from edgefilter.store.reader import StoreReader

if TYPE_CHECKING:
    import xarray as xr
    from astropy.time import Time

    from edgefilter.analysis.plots.style import NotebookFigure

Instant: TypeAlias = "float | str | Time | None"
"""Seconds since the stream's first sample, or a date in UTC as ISO text or astropy ``Time``; None is no limit."""

_SPECTRA = ("stream", "config", "code", "block", "tai_ns", "seconds", "stokes", "frequencies", "power", "cells", "node")
_FLAGS = ("stream", "config", "code", "block", "tai_ns", "flagger", "first", "node")
_FIGURE_BLOCKS = 2000  # evenly spaced blocks in a figure of a long run; a screen cannot show more
_WATERFALL_ROWS, _WATERFALL_CHANNELS = 1000, 800


def open_store(path: str | Path) -> "Archive":
    """Open a store for reading.

    Parameters
    ----------
    path
        A directory, its ``file://`` URL, or ``s3://BUCKET/PREFIX``.

    Returns
    -------
    Archive
        The open store.

    Raises
    ------
    StoreError
        If there is no such store, or it cannot be read.
    """
    return Archive(connect(path))


class Configuration(dict[str, Any]):
    """Settings of a reduction by section and key; ``digest`` is their name in the tables."""

    def __init__(self, digest: str, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.digest = digest

    def _repr_html_(self) -> str:
        return settings_html(f"settings {self.digest}", self)


class Archive(StoreReader):
    """An open store, with what a notebook needs. Each call reads the store anew.

    Parameters
    ----------
    store
        Objects of the store.
    temporary
        Directory to remove when the archive is garbage collected.
    """

    def __init__(self, store: Store, temporary: str | None = None) -> None:
        super().__init__(store)
        if temporary is not None:
            weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)

    def configs(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the reductions by their digests, each as :class:`Configuration`."""
        return {digest: Configuration(digest, settings) for digest, settings in super().configs().items()}

    def account(self) -> LedgerBalance:  # type: ignore[override]  # a view of the table that a reader returns
        """Return the sums of the ledger as a balance of samples and cells."""
        return LedgerBalance(super().account())

    @property
    def pulses(self) -> Pulses:
        """Pulse candidates, strongest first."""
        # Several nodes may have found the same pulse.
        keys = ["stream", "config", "code", "block", "sample", "dm", "width", "freq_low", "freq_high"]
        order = [("snr", "descending"), ("stream", "ascending"), ("sample", "ascending")]
        return Pulses(self, first_rows(self.table("pulses"), keys).sort_by(order))

    @property
    def spectra(self) -> TableView:
        """Spectra of all blocks."""
        return TableView("spectra", self.table("spectra"))

    @property
    def flags(self) -> TableView:
        """Flagged cells of each channel, by block and flagger."""
        return TableView("flags", self.table("flags"))

    @property
    def ledger(self) -> TableView:
        """Counts of samples, cells and bytes of all blocks."""
        return TableView("ledger", self.table("ledger"))

    def pulse(self, name: str) -> Pulse:
        """Return a pulse by its id, see :meth:`edgefilter.analysis.pulse.Pulses.find`."""
        return self.pulses.find(name)

    def blocks(
        self,
        start: Instant = None,
        stop: Instant = None,
        stream: str | None = None,
        stokes: str = "I",
        config: str | None = None,
        max_blocks: int | None = None,
    ) -> BlockSpectra:
        """Read spectra and flags of the blocks that begin in ``[start, stop)``.

        Parameters
        ----------
        start, stop
            Seconds since the stream's first sample, or dates in UTC as ISO text or astropy ``Time``; None is no limit.
        stream
            Id of the stream; may be left out if the store has one.
        stokes
            Stokes parameter or polarisation product.
        config
            Digest of the settings; may be left out if the stream was reduced with one.
        max_blocks
            Read at most so many blocks, evenly spaced; all if None.

        Returns
        -------
        BlockSpectra
            Spectra and flags.

        Raises
        ------
        StoreError
            If there are no such blocks, or the stream or the settings are ambiguous.
        """
        streams = self.streams()
        stream = _choose("stream", streams, stream, self.location)
        config = self._config(stream, config)
        first, last = (None if bound is None else _to_tai_ns(bound, streams[stream]) for bound in (start, stop))
        condition = (pc.field("stream") == stream) & (pc.field("config") == config)
        if first is not None:
            condition &= pc.field("tai_ns") >= first
        if last is not None:
            condition &= pc.field("tai_ns") < last
        block_filter = self._blocks_between(streams[stream], config, first, last)
        if max_blocks is not None:
            ledger = self.table("ledger", ["block"], condition, blocks=block_filter)
            block_filter = set(evenly_spaced(np.unique(ledger.column("block").to_numpy()), max_blocks).tolist())
        spectra = self.table("spectra", _SPECTRA, condition & (pc.field("stokes") == stokes), blocks=block_filter)
        if not spectra.num_rows:
            raise StoreError(f"stream {stream} has no spectrum of {stokes!r} in this time range")
        return BlockSpectra.from_tables(spectra, self.table("flags", _FLAGS, condition, blocks=block_filter))

    def waterfall(
        self,
        start: Instant = None,
        stop: Instant = None,
        stream: str | None = None,
        stokes: str = "I",
        config: str | None = None,
        rows: int | None = None,
        channels: int | None = None,
        **options: Any,
    ) -> "xr.Dataset":
        """Return power and flags over time and frequency.

        Parameters
        ----------
        start, stop, stream, stokes, config, **options
            As those of :meth:`blocks`.
        rows, channels
            As those of :meth:`edgefilter.analysis.spectra.BlockSpectra.waterfall`.

        Returns
        -------
        xr.Dataset
            Result of :meth:`edgefilter.analysis.spectra.BlockSpectra.waterfall`.
        """
        return self.blocks(start, stop, stream, stokes, config, **options).waterfall(rows, channels)

    def spectrum(
        self,
        start: Instant = None,
        stop: Instant = None,
        stream: str | None = None,
        stokes: str = "I",
        config: str | None = None,
        max_blocks: int | None = None,
    ) -> Spectrum:
        """Return the mean bandpass of the blocks that begin in ``[start, stop)``.

        Parameters
        ----------
        start, stop, stream, stokes, config, max_blocks
            As those of :meth:`blocks`.

        Returns
        -------
        Spectrum
            The bandpass.
        """
        blocks = self.blocks(start, stop, stream, stokes, config, max_blocks)
        name = _choose("stream", self.streams(), stream, self.location)
        stop_s = float(blocks.seconds[-1] + blocks.duration)
        return Spectrum.from_blocks(
            blocks, {"stream": name, "stokes": stokes, "start_s": float(blocks.seconds[0]), "stop_s": stop_s}
        )

    def plot(self, what: str = "waterfall", **options: Any) -> "NotebookFigure":
        """Draw a figure of the store.

        Parameters
        ----------
        what
            ``waterfall``, ``bandpass``, ``flags`` or ``candidates``.
        **options
            As those of :meth:`blocks`. ``max_blocks`` is 2000 by default.

        Returns
        -------
        NotebookFigure
            The figure.

        Raises
        ------
        StoreError
            If there is no such figure, or nothing to draw.
        """
        # Imported here, because matplotlib takes a second.
        from edgefilter.analysis.plots import figures

        options = {"max_blocks": _FIGURE_BLOCKS} | options
        if what == "waterfall":
            dataset = self.waterfall(rows=_WATERFALL_ROWS, channels=_WATERFALL_CHANNELS, **options)
            return figures.waterfall_figure(dataset, self.pulses.column("seconds"))
        if what == "bandpass":
            return figures.bandpass_figure(self.spectrum(**options))
        if what == "flags":
            return figures.flags_figure(self.blocks(**options))
        if what == "candidates":
            return figures.candidates_figure(self.pulses)
        raise StoreError(f"{what!r} is none of waterfall, bandpass, flags, candidates")

    def _config(self, stream: str, config: str | None) -> str:
        """Return the digest of the settings with which a stream was reduced."""
        if config is None:
            known = list(self.configs())
            if len(known) == 1:  # saves reading the ledger
                return known[0]
        ledger = self.table("ledger", ["config"], pc.field("stream") == stream)
        return _choose("config", ledger.column("config").unique().to_pylist(), config, f"stream {stream}")

    def _blocks_between(
        self, stream: Stream, config: str, first: int | None, last: int | None
    ) -> Container[int] | None:
        """Return the blocks that begin in ``[first, last)``, TAI in ns; files without these blocks are not opened."""
        settings = self.configs().get(config)
        if settings is None or (first is None and last is None):
            return None
        try:
            own = {name: values for name, values in settings.items() if name != "stages"}  # a plug-in may be missing
            samples = Plan(stream, validate(Reduction, own)).samples_per_block
        except ConfigError:  # settings of another version: the filter on time gives the same result, but slower
            return None
        begin = 0 if first is None else sample_at(stream.epoch_tai_ns, stream.rate, first) // samples
        end = 1 << 62 if last is None else -(-sample_at(stream.epoch_tai_ns, stream.rate, last) // samples)
        return range(max(begin, 0), end + 1)

    def __getattr__(self, name: str) -> TableView:
        """Return a table that has no property; stages of plug-ins bring tables of their own."""
        if name.startswith("_") or (name not in SCHEMAS and name not in self.table_names()):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return TableView(name, self.table(name))

    def __repr__(self) -> str:
        rows = ", ".join(f"{count} {name}" for name, count in self.tables().items())
        return f"<store {self.location}: {rows}>"

    def _repr_html_(self) -> str:
        balance = self.account()
        shown: list[tuple[str, object]] = [("streams", ", ".join(self.streams()) or "none")]
        shown += [(name, f"{count:,} rows") for name, count in self.tables().items()]
        shown += [
            ("cut-outs", len(self.cutouts())),
            ("samples", f"{balance['samples_received']:,} of {balance['samples_expected']:,} received"),
            ("bytes", f"{balance['bytes_in']:,} in, {balance['bytes_out']:,} of products"),
        ]
        return property_table(f"store {self.location}", shown)


def _choose(what: str, choices: "Mapping[str, Any] | Sequence[str]", name: str | None, where: str) -> str:
    names = list(choices)
    if name is not None:
        if name not in names:
            raise StoreError(f"{where} has no {what} {name!r}, it has {', '.join(names) or 'none'}")
        return name
    if len(names) != 1:
        raise StoreError(f"{where} has {len(names)} {what}s, choose one with {what}=: {', '.join(names) or 'none'}")
    return names[0]


def _to_tai_ns(instant: "float | str | Time", stream: Stream) -> int:
    """Return TAI of an instant, ns since 1970-01-01 TAI."""
    if isinstance(instant, int | float | np.number):
        if not np.isfinite(instant):
            raise StoreError(f"{instant} is not a time")
        return stream.epoch_tai_ns + round(float(instant) * 1e9)
    if not isinstance(instant, str):
        instant = instant.utc.copy()
        instant.precision = 9
    text = instant if isinstance(instant, str) else instant.isot
    try:
        return tai_ns_from_iso(text)
    except ValueError:
        raise StoreError(f"{text!r} is not a date such as 2026-11-23T12:00:00, nor a number of seconds") from None
