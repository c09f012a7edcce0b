"""What a report shows, read from a store: runs, their accounts, their candidates.

A *run* is what one node reduced of one stream under one configuration. Of its ledger and candidates everything is read;
of its spectra and flags (see :mod:`edgefilter.report.waterfall`) no more than a screen can show.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from edgefilter.core.clock import NS, tai_ns_from_iso
from edgefilter.core.errors import ConfigError, StoreError
from edgefilter.core.stream import Stream
from edgefilter.products.ledger import ADDITIVE
from edgefilter.products.pulses import PulseRow
from edgefilter.store.reader import StoreReader

RUN_KEYS = ("node", "stream", "config")
RUNS_SHOWN = 8
"""Most runs on one page, the newest; more would make it unreadable."""
CANDIDATES_SHOWN = 2000
"""Most candidates of a run on the page, the strongest."""

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PULSE_COLUMNS = (*RUN_KEYS, "block", *(field.name for field in fields(PulseRow)))


@dataclass(frozen=True, slots=True)
class BalanceTerm:
    """One term of a balance: its name, its count, what it means."""

    name: str
    count: int
    meaning: str


@dataclass(frozen=True, slots=True)
class Balance:
    """A whole and the parts that it must be the sum of, to the last one."""

    whole: int
    parts: tuple[BalanceTerm, ...]

    @property
    def missing(self) -> int:
        """What the parts fall short of the whole by: 0, or the ledger is wrong."""
        return self.whole - sum(part.count for part in self.parts)


@dataclass(frozen=True, eq=False)
class Run:
    """What one node reduced of one stream under one configuration.

    Parameters
    ----------
    node, stream, config
        Its name: node, stream's id, digest of the settings.
    codes
        Versions of edgefilter that made it.
    backends
        Number of blocks by what reduced them, ``cpu`` or ``gpu``.
    header, settings
        The stream's header and the settings, None where the store does not hold them.
    blocks
        int64 ``[block]``: numbers of the blocks, ascending.
    start_ns, stop_ns
        int64 ``[block]``: TAI of their starts and ends, ns since 1970 TAI.
    cells, cells_lost
        int64 ``[block]``: time-channel cells, and those of them that lack samples.
    flagged
        Name of each flagger to int64 ``[block]``: cells whose first flagger it was.
    samples_balance, cells_balance
        The two balances, summed.
    bytes_in, bytes_out
        Raw bytes that came; bytes of the products.
    overflow
        Pulse trials beyond the bounded buffers.
    candidates
        How many there are.
    pulses
        Candidates as rows of the table ``pulses``, strongest first, at most :data:`CANDIDATES_SHOWN`.
    """

    node: str
    stream: str
    config: str
    codes: tuple[str, ...]
    backends: dict[str, int]
    header: Stream | None
    settings: dict[str, Any] | None
    blocks: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    stop_ns: NDArray[np.int64]
    cells: NDArray[np.int64]
    cells_lost: NDArray[np.int64]
    flagged: dict[str, NDArray[np.int64]]
    samples_balance: Balance
    cells_balance: Balance
    bytes_in: int
    bytes_out: int
    overflow: int
    candidates: int
    pulses: list[dict[str, Any]]

    @property
    def key(self) -> tuple[str, str, str]:
        """Node, stream, settings."""
        return self.node, self.stream, self.config

    @property
    def observed_seconds(self) -> float:
        """Duration of the samples that were expected, s; that of the blocks where the header is not known."""
        return self.header.seconds(self.samples_balance.whole) if self.header else self.seconds

    @property
    def bytes_balance(self) -> Balance:
        """The raw bytes that came: forwarded as products (the ledger cannot count itself), or left behind."""
        forwarded = min(self.bytes_out, self.bytes_in)
        return Balance(
            self.bytes_in,
            (
                BalanceTerm("forwarded", forwarded, "bytes of the products, the ledger aside"),
                BalanceTerm("left behind", self.bytes_in - forwarded, "reduced away at the telescope"),
            ),
        )

    @property
    def seconds(self) -> float:
        """From the start of the first block to the end of the last, s."""
        return float(self.stop_ns.max() - self.start_ns[0]) / NS

    @property
    def gaps(self) -> int:
        """Blocks between the first and the last that the ledger does not have."""
        return int(self.blocks[-1] - self.blocks[0] + 1 - len(np.unique(self.blocks)))


def read_runs(reader: StoreReader, since: str | None = None) -> tuple[list[Run], int]:
    """Read the runs of a store.

    Parameters
    ----------
    reader
        The store.
    since
        Leave out blocks that began before it: a UTC date, ``2026-11-23T12:00``, or a length of time before the end of
        the newest block, ``90m``, ``24h``, ``7d``.

    Returns
    -------
    tuple
        The newest runs, at most :data:`RUNS_SHOWN`, oldest first; and how many more there are.

    Raises
    ------
    ConfigError
        If ``since`` is neither.
    StoreError
        If the store has no ledger for that time, or is damaged.
    """
    limit = None if since is None else _parse_since(since)
    # In one piece: a table of as many pieces as there were files makes every step below slow.
    ledger = reader.table("ledger", _ledger_columns()).combine_chunks()
    if ledger.num_rows and limit is not None:
        starts = ledger.column("tai_ns")
        newest = int(pc.max(pc.add(starts, _duration_ns(ledger))).as_py())
        ledger = ledger.filter(pc.greater_equal(starts, limit if limit >= 0 else newest + limit))
    if not ledger.num_rows:
        raise StoreError(f"store {reader.location}: holds no blocks{f' since {since}' if since else ''}")
    pulses = reader.table("pulses", _PULSE_COLUMNS).combine_chunks()
    headers, settings = reader.streams(), reader.configs()
    keys = [tuple(row.values()) for row in ledger.select(RUN_KEYS).group_by(RUN_KEYS).aggregate([]).to_pylist()]
    runs = [
        _build_run(key, _rows_of_run(ledger, key), _rows_of_run(pulses, key), headers.get(key[1]), settings.get(key[2]))
        for key in keys
    ]
    runs.sort(key=lambda run: int(run.start_ns[0]))
    return runs[-RUNS_SHOWN:], max(0, len(runs) - RUNS_SHOWN)


def _parse_since(text: str) -> int:
    """Return TAI in ns, or, negative, how far before the newest block's end."""
    length = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd])", text)
    if length:
        return -round(float(length[1]) * _UNIT_SECONDS[length[2]] * NS)
    try:
        return tai_ns_from_iso(text.removesuffix("Z"))
    except ValueError:
        raise ConfigError(
            f"--since {text}: must be a UTC date such as 2026-11-23T12:00, or a length of time such as 90m, 24h or 7d"
        ) from None


def _ledger_columns() -> list[str]:
    return [*RUN_KEYS, "code", "block", "tai_ns", "backend", *ADDITIVE]


def _rows_of_run(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    for name, value in zip(RUN_KEYS, key, strict=True):
        table = table.filter(pc.equal(table.column(name), value))
    return table


def _duration_ns(ledger: pa.Table) -> pa.ChunkedArray:
    return pc.cast(pc.round(pc.multiply(ledger.column("seconds"), float(NS))), pa.int64())


def _build_run(
    key: tuple[str, ...], ledger: pa.Table, pulses: pa.Table, header: Stream | None, settings: dict[str, Any] | None
) -> Run:
    ledger = ledger.append_column("stop_ns", pc.add(ledger.column("tai_ns"), _duration_ns(ledger)))
    ledger = ledger.sort_by("block")

    def numbers(name: str) -> NDArray[np.int64]:
        # A column that is newer than the file that lacks it is null there.
        values: NDArray[np.int64] = ledger.column(name).fill_null(0).to_numpy().astype(np.int64)
        return values

    def part(column: str, name: str) -> BalanceTerm:
        return BalanceTerm(
            name, int(numbers(column).sum()), ledger.schema.field(column).metadata[b"description"].decode()
        )

    def columns_with_prefix(prefix: str) -> dict[str, str]:
        return {name: name.removeprefix(prefix) for name in ledger.column_names if name.startswith(prefix)}

    blocks, starts, stops = numbers("block"), numbers("tai_ns"), numbers("stop_ns")
    if header:  # the last block ends where the stream ended
        stops[-1] = starts[-1] + round(int(numbers("samples_expected")[-1]) * NS / header.rate)
    inside = pc.is_in(pulses.column("block"), value_set=pa.array(np.unique(blocks)))
    pulses = pulses.filter(inside).sort_by([("snr", "descending"), ("tai_ns", "ascending")])
    node, stream, config = key
    return Run(
        node=node,
        stream=stream,
        config=config,
        codes=tuple(sorted(pc.unique(ledger.column("code")).to_pylist())),
        # Files that are older than the column were made by the processor.
        backends=dict(sorted(Counter(ledger.column("backend").fill_null("cpu").to_pylist()).items())),
        header=header,
        settings=settings,
        blocks=blocks,
        start_ns=starts,
        stop_ns=stops,
        cells=numbers("cells"),
        cells_lost=numbers("cells_lost"),
        flagged={name: numbers(column) for column, name in columns_with_prefix("flagged_").items()},
        samples_balance=_balance(
            numbers("samples_expected"),
            part("samples_received", "received"),
            *(part(column, f"lost: {name}") for column, name in columns_with_prefix("lost_").items()),
        ),
        cells_balance=_balance(
            numbers("cells"),
            part("cells_lost", "lost"),
            *(part(column, f"flagged: {name}") for column, name in columns_with_prefix("flagged_").items()),
            part("cells_discarded", "discarded"),
            part("cells_kept", "kept"),
        ),
        bytes_in=int(numbers("bytes_in").sum()),
        bytes_out=int(numbers("bytes_out").sum()),
        overflow=int(numbers("candidates_overflow").sum()),
        candidates=pulses.num_rows,
        pulses=pulses.slice(0, CANDIDATES_SHOWN).to_pylist(),
    )


def _balance(whole: NDArray[np.int64], *parts: BalanceTerm) -> Balance:
    return Balance(int(whole.sum()), parts)


def strongest(runs: Sequence[Run], count: int) -> list[tuple[int, int]]:
    """Return the strongest candidates that have a cut-out, as pairs of numbers of a run and of its candidate."""
    with_cutout = [
        (pulse["snr"], at, rank)
        for at, run in enumerate(runs)
        for rank, pulse in enumerate(run.pulses)
        if pulse["cutout"]
    ]
    return [(at, rank) for _, at, rank in sorted(with_cutout, key=lambda item: (-item[0], item[1], item[2]))[:count]]
