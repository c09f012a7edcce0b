"""Contents of a report, read from a store: runs, their balances, their candidates.

A *run* consists of the blocks that one node reduced from one stream with one configuration. Its ledger and candidates
are read completely; of its spectra and flags, only as many as a screen can show (:mod:`edgefilter.report.waterfall`).
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

from edgefilter.analysis.balance import Balance, BalanceTerm, LedgerBalance
from edgefilter.core.cells import flag_name
from edgefilter.core.clock import NS, tai_ns_from_iso
from edgefilter.core.errors import ConfigError, StoreError
from edgefilter.core.stream import Stream
from edgefilter.products.ledger import ADDITIVE, FLAGGED_COLUMNS
from edgefilter.products.pulses import PulseRow
from edgefilter.store.reader import StoreReader

RUN_KEYS = ("node", "stream", "config")
RUNS_SHOWN = 8
"""Highest number of runs on a page, the newest."""
CANDIDATES_SHOWN = 2000
"""Highest number of candidates of a run on the page, the strongest."""

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PULSE_COLUMNS = (*RUN_KEYS, "block", *(field.name for field in fields(PulseRow)))


@dataclass(frozen=True, eq=False)
class Run:
    """The blocks that one node reduced from one stream with one configuration.

    Parameters
    ----------
    node, stream, config
        Node, id of the stream, digest of the settings.
    codes
        Versions of edgefilter.
    backends
        Number of blocks by backend, ``cpu`` or ``gpu``.
    header, settings
        Header of the stream and the settings, None where the store does not have them.
    blocks
        int64 ``[block]``: numbers of the blocks, ascending.
    start_ns, stop_ns
        int64 ``[block]``: start and end of the blocks, TAI in ns since 1970-01-01 TAI.
    cells, cells_lost
        int64 ``[block]``: number of time-channel cells, and of those that lack samples.
    flagged
        int64 ``[block]`` by flagger: cells that this flagger flagged first.
    balance
        Sums of the ledger.
    candidates
        Number of candidates.
    pulses
        Rows of the table ``pulses``, strongest first, at most :data:`CANDIDATES_SHOWN`.
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
    balance: LedgerBalance
    candidates: int
    pulses: list[dict[str, Any]]

    @property
    def key(self) -> tuple[str, str, str]:
        """Node, id of the stream, digest of the settings."""
        return self.node, self.stream, self.config

    @property
    def observed_seconds(self) -> float:
        """Duration of the expected samples, s; of the blocks if the header is missing."""
        return self.header.seconds(self.balance["samples_expected"]) if self.header else self.seconds

    @property
    def bytes_balance(self) -> Balance:
        """Received bytes: sent as products, or discarded. The ledger cannot count its own bytes."""
        received = self.balance["bytes_in"]
        products = min(self.balance["bytes_out"], received)
        return Balance(
            received,
            (
                BalanceTerm("products", products, "bytes of the products, without the ledger"),
                BalanceTerm("discarded", received - products, "bytes that stay at the telescope"),
            ),
        )

    @property
    def seconds(self) -> float:
        """Time from the start of the first block to the end of the last, s."""
        return float(self.stop_ns.max() - self.start_ns[0]) / NS

    @property
    def gaps(self) -> int:
        """Number of blocks between the first and the last that the ledger lacks."""
        return int(self.blocks[-1] - self.blocks[0] + 1 - len(np.unique(self.blocks)))


def read_runs(reader: StoreReader, since: str | None = None) -> tuple[list[Run], int]:
    """Read the runs of a store.

    Parameters
    ----------
    reader
        The store.
    since
        Leave out blocks that began earlier: a UTC date, ``2026-11-23T12:00``, or a time before the end of the newest
        block, ``90m``, ``24h``, ``7d``.

    Returns
    -------
    tuple
        The newest runs, at most :data:`RUNS_SHOWN`, oldest first; and the number of older runs.

    Raises
    ------
    ConfigError
        If ``since`` is neither.
    StoreError
        If the store has no blocks since then, or is damaged.
    """
    limit = None if since is None else _parse_since(since)
    # A table with one chunk per file would make every step below slow.
    ledger = reader.table("ledger", _ledger_columns()).combine_chunks()
    if ledger.num_rows and limit is not None:
        starts = ledger.column("tai_ns")
        newest = int(pc.max(pc.add(starts, _duration_ns(ledger))).as_py())
        ledger = ledger.filter(pc.greater_equal(starts, limit if limit >= 0 else newest + limit))
    if not ledger.num_rows:
        raise StoreError(f"store {reader.location}: has no blocks{f' since {since}' if since else ''}")
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
    """Return TAI in ns; or, as a negative number, the time before the end of the newest block, ns."""
    length = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd])", text)
    if length:
        return -round(float(length[1]) * _UNIT_SECONDS[length[2]] * NS)
    try:
        return tai_ns_from_iso(text.removesuffix("Z"))
    except ValueError:
        raise ConfigError(
            f"--since {text}: must be a UTC date such as 2026-11-23T12:00, or a time such as 90m, 24h or 7d"
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
        # A column that is newer than the file is null.
        values: NDArray[np.int64] = ledger.column(name).fill_null(0).to_numpy().astype(np.int64)
        return values

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
        # Files that are older than this column were made on the CPU.
        backends=dict(sorted(Counter(ledger.column("backend").fill_null("cpu").to_pylist()).items())),
        header=header,
        settings=None if settings is None else _flatten_stages(settings),
        blocks=blocks,
        start_ns=starts,
        stop_ns=stops,
        cells=numbers("cells"),
        cells_lost=numbers("cells_lost"),
        flagged={flag_name(flag): numbers(column) for flag, column in FLAGGED_COLUMNS.items()},
        balance=LedgerBalance(ledger),
        candidates=pulses.num_rows,
        pulses=pulses.slice(0, CANDIDATES_SHOWN).to_pylist(),
    )


def strongest(runs: Sequence[Run], count: int) -> list[tuple[int, int]]:
    """Return the strongest candidates with a cut-out.

    Parameters
    ----------
    runs
        The runs.
    count
        Highest number of candidates.

    Returns
    -------
    list
        Index of the run, and index of the candidate in :attr:`Run.pulses`.
    """
    with_cutout = [
        (-pulse["snr"], at, rank)
        for at, run in enumerate(runs)
        for rank, pulse in enumerate(run.pulses)
        if pulse["cutout"]
    ]
    return [(at, rank) for _, at, rank in sorted(with_cutout)[:count]]


def _flatten_stages(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with a section of its own for each stage of a plug-in."""
    stages = {
        f"stages.{name}": {"package": stage["package"], **stage["settings"]}
        for name, stage in settings.get("stages", {}).items()
    }
    return {name: values for name, values in settings.items() if name != "stages"} | stages


def read_table_columns(reader: StoreReader) -> dict[str, list[str]]:
    """List the tables of a store with their columns, those of plug-ins too.

    Parameters
    ----------
    reader
        The store.

    Returns
    -------
    dict
        Names of the columns, with the unit in brackets where there is one, by the name of the table.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    return {name: [_with_unit(field) for field in reader.schema(name)] for name in reader.table_names()}


def _with_unit(field: pa.Field) -> str:
    unit = (field.metadata or {}).get(b"unit", b"").decode()
    return f"{field.name} ({unit})" if unit else str(field.name)
