"""A store as an astronomer sees it: tables, pulses, the waterfall, the account."""

import shutil
import weakref
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edgefilter.analysis.balance import LedgerBalance
from edgefilter.analysis.pulse import Pulse, Pulses
from edgefilter.analysis.spectra import BlockSpectra, Spectrum
from edgefilter.analysis.tables import TableView
from edgefilter.core.clock import sample_at, tai_ns_from_iso
from edgefilter.core.config import Reduction
from edgefilter.core.errors import ConfigError, StoreError
from edgefilter.core.html import property_table, settings_html
from edgefilter.core.plan import Plan
from edgefilter.core.stream import Stream
from edgefilter.core.validation import validate
from edgefilter.products.cutout import Cutout
from edgefilter.products.schemas import SCHEMAS
from edgefilter.store import reader

if TYPE_CHECKING:
    import xarray as xr
    from astropy.time import Time

    from edgefilter.analysis.plots.figures import NotebookFigure

Instant: TypeAlias = "float | str | Time | None"
"""Seconds since the stream's first sample, or a date in UTC as ISO text or astropy ``Time``; None is no bound."""

_SPECTRA = ("stream", "config", "code", "block", "tai_ns", "seconds", "stokes", "frequencies", "power", "cells", "node")
_FLAGS = ("stream", "config", "code", "block", "tai_ns", "flagger", "first", "node")


def open_store(path: str | Path, **options: Any) -> "Archive":
    """Open a store to read from it; nothing in it is touched.

    Parameters
    ----------
    path, **options
        As :func:`edgefilter.store.reader.open_store` takes them.

    Raises
    ------
    StoreError
        If there is no such store, or it may not be read.
    """
    return Archive(reader.open_store(path, **options))


class Configuration(dict[str, Any]):
    """Settings of a reduction by section and key; ``digest`` is the name that products give them."""

    def __init__(self, digest: str, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.digest = digest

    def _repr_html_(self) -> str:
        return settings_html(f"settings {self.digest}", self)


class Archive:
    """An open store. What is written later is seen by the next call.

    Parameters
    ----------
    source
        Reader of the store.
    temporary
        Directory to remove when the store is no longer used.
    """

    def __init__(self, source: reader.StoreReader, temporary: str | None = None) -> None:
        self._reader = source
        if temporary is not None:
            weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)

    @property
    def location(self) -> str:
        """Where the store is."""
        return self._reader.location

    def tables(self) -> dict[str, int]:
        """Names of the tables and how many rows each has."""
        return self._reader.tables()

    def table(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002 - as pyarrow calls it
        **options: Any,
    ) -> pa.Table:
        """Read a table as Arrow, see :meth:`edgefilter.store.reader.StoreReader.table`."""
        return self._reader.table(name, columns, filter, **options)

    def cutouts(self) -> list[str]:
        """Names of the cut-outs, sorted by stream and block."""
        return self._reader.cutouts()

    def cutout(self, name: str) -> Cutout:
        """Read a cut-out by the name that the table ``pulses`` gives, see :meth:`Pulse.cutout` for xarray."""
        return self._reader.cutout(name)

    def streams(self) -> dict[str, Stream]:
        """Headers of the streams by their ids."""
        return self._reader.streams()

    def configs(self) -> dict[str, Configuration]:
        """Return the settings of the reductions by their digests."""
        return {digest: Configuration(digest, tree) for digest, tree in self._reader.configs().items()}

    def account(self) -> LedgerBalance:
        """Sum the ledger to a balance of samples and cells."""
        return LedgerBalance(self._reader.account())

    @property
    def pulses(self) -> Pulses:
        """Pulse candidates, strongest first: ``pulses[0].plot()``."""
        table = self.table("pulses")
        identity_columns = ["stream", "config", "code", "block", "sample", "dm", "width", "freq_low", "freq_high"]
        numbered = table.select(identity_columns).append_column("at", pa.array(np.arange(table.num_rows)))
        first_rows = numbered.group_by(identity_columns, use_threads=False).aggregate([("at", "min")]).column("at_min")
        order = [("snr", "descending"), ("stream", "ascending"), ("sample", "ascending")]
        return Pulses(self, table.take(first_rows).sort_by(order))

    @property
    def spectra(self) -> TableView:
        """Bandpass of every block."""
        return TableView("spectra", self.table("spectra"))

    @property
    def flags(self) -> TableView:
        """Occupancy of the channels by every flagger in every block."""
        return TableView("flags", self.table("flags"))

    @property
    def ledger(self) -> TableView:
        """The account of every block."""
        return TableView("ledger", self.table("ledger"))

    def pulse(self, name: str) -> Pulse:
        """Return a pulse by its id or the beginning of it.

        Raises
        ------
        StoreError
            If there is none, or there are several.
        """
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
        """Read spectra and occupancy of the blocks that begin in ``[start, stop)``.

        Parameters
        ----------
        start, stop
            Seconds since the stream's first sample, or dates in UTC as ISO text or astropy ``Time``; None is no bound.
        stream
            Its id; may be left out if the store holds one.
        stokes
            Stokes parameter or polarisation product.
        config
            Digest of the settings; may be left out if the stream was reduced with one.
        max_blocks
            Blocks to read, evenly spaced, where there are more; all if None.

        Raises
        ------
        StoreError
            If nothing answers to that, or more than one stream or settings do.
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
            numbers = (
                self.table("ledger", ["block"], condition, blocks=block_filter)
                .column("block")
                .unique()
                .sort()
                .to_numpy()
            )
            if len(numbers) > max_blocks:
                block_filter = set(
                    numbers[np.linspace(0, len(numbers) - 1, max_blocks).round().astype(np.int64)].tolist()
                )
        spectra = self.table("spectra", _SPECTRA, condition & (pc.field("stokes") == stokes), blocks=block_filter)
        if not spectra.num_rows:
            raise StoreError(f"stream {stream} has no spectrum of {stokes!r} in that span of time")
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
        max_blocks: int | None = None,
    ) -> "xr.Dataset":
        """Return power and occupancy over time and frequency: arguments of :meth:`blocks`, result of
        :meth:`edgefilter.analysis.spectra.BlockSpectra.waterfall`.
        """  # noqa: D205 - one sentence
        return self.blocks(start, stop, stream, stokes, config, max_blocks).waterfall(rows, channels)

    def spectrum(
        self,
        start: Instant = None,
        stop: Instant = None,
        stream: str | None = None,
        stokes: str = "I",
        config: str | None = None,
        max_blocks: int | None = None,
    ) -> Spectrum:
        """Average the bandpass over the blocks that begin in ``[start, stop)``; arguments as :meth:`blocks`."""
        blocks = self.blocks(start, stop, stream, stokes, config, max_blocks)
        name = _choose("stream", self.streams(), stream, self.location)
        stop_s = float(blocks.seconds[-1] + blocks.duration)
        return Spectrum.from_blocks(
            blocks, {"stream": name, "stokes": stokes, "start_s": float(blocks.seconds[0]), "stop_s": stop_s}
        )

    def plot(self, what: str = "waterfall", **options: Any) -> "NotebookFigure":
        """Draw ``waterfall``, ``bandpass``, ``flags`` or ``candidates``; ``options`` are those of :meth:`blocks`."""
        from edgefilter.analysis.plots.figures import archive_figure

        return archive_figure(self, what, **options)

    def _config(self, stream: str, config: str | None) -> str:
        """Return the digest of the settings that a stream was reduced with."""
        if config is None:
            known = list(self.configs())
            if len(known) == 1:  # no need to read the ledger
                return known[0]
        ledger = self.table("ledger", ["config"], pc.field("stream") == stream)
        return _choose("config", ledger.column("config").unique().to_pylist(), config, f"stream {stream}")

    def _blocks_between(
        self, stream: Stream, config: str, first: int | None, last: int | None
    ) -> Container[int] | None:
        """Return the blocks that begin in ``[first, last)``, TAI in ns, so that files of others need not be opened."""
        settings = self.configs().get(config)
        if settings is None or (first is None and last is None):
            return None
        try:
            samples = Plan(stream, validate(Reduction, dict(settings))).samples_per_block
        except ConfigError:  # settings of another version: the condition on times does it alone, only slower
            return None
        begin = 0 if first is None else sample_at(stream.epoch_tai_ns, stream.rate, first) // samples
        end = 1 << 62 if last is None else -(-sample_at(stream.epoch_tai_ns, stream.rate, last) // samples)
        return range(max(begin, 0), end + 1)

    def __getattr__(self, name: str) -> Any:
        # What else the reader offers, and tables that have no property of their own.
        if name.startswith("_"):
            raise AttributeError(name)
        if name in SCHEMAS:
            return TableView(name, self.table(name))
        return getattr(self._reader, name)

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
        raise StoreError(f"{where} has {len(names)} of {what}, name one with {what}=: {', '.join(names) or 'none'}")
    return names[0]


def _to_tai_ns(instant: "float | str | Time", stream: Stream) -> int:
    """TAI of an instant, ns since 1970 TAI."""
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
