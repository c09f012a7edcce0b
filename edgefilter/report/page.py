"""The page: one HTML file that needs no network."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from edgefilter.analysis.balance import Balance
from edgefilter.analysis.export.atomic_file import atomic_write
from edgefilter.analysis.plots.pulse_diagnostic import diagnose
from edgefilter.analysis.plots.style import BLUE, GREEN, LOST_COLOUR, flagger_colour
from edgefilter.core.clock import utc_iso
from edgefilter.core.version import __version__
from edgefilter.products.cutout import Cutout
from edgefilter.products.pulses import PulseRow
from edgefilter.report.charts import PulseCharts, RunCharts, dot_size, pulse_charts, run_charts
from edgefilter.report.data import Run, read_runs, read_table_columns, strongest
from edgefilter.report.waterfall import Waterfall, read_waterfalls
from edgefilter.store.reader import StoreReader

DIAGNOSTICS_SHOWN = 12
"""Default number of candidates with a diagnostic."""
ROWS_SHOWN = 500
"""Highest number of rows in the table of candidates of a run."""

_DISCARDED_COLOUR = "#8FB3CC"
_TERM_COLOURS = {
    "received": BLUE,
    "kept in cut-outs": GREEN,
    "integrated and discarded": _DISCARDED_COLOUR,
    "products": GREEN,
    "discarded": _DISCARDED_COLOUR,
}


@dataclass(frozen=True, slots=True)
class BarSegment:
    """A segment of the bar of a balance: term, colour, count, share of the total in percent, meaning."""

    name: str
    colour: str
    count: int
    percent: float
    meaning: str


@dataclass(frozen=True, eq=False)
class CandidateDetail:
    """A candidate with its diagnostic: rank in its run, row of the table ``pulses``, charts, number of sub-bands."""

    rank: int
    pulse: dict[str, Any]
    charts: PulseCharts
    subbands: int


@dataclass(frozen=True, eq=False)
class RunSection:
    """A run on the page: HTML id, charts, candidates with a diagnostic, bars of the balances."""

    anchor: str
    run: Run
    waterfall: Waterfall | None
    charts: RunCharts
    best: list[CandidateDetail]
    samples: list[BarSegment]
    cells: list[BarSegment]
    bytes: list[BarSegment]


def write_report(reader: StoreReader, out: str | Path, since: str | None = None, best: int = DIAGNOSTICS_SHOWN) -> Path:
    """Write the report of a store.

    Parameters
    ----------
    reader
        The store.
    out
        The file; an existing one is replaced.
    since
        As that of :func:`edgefilter.report.data.read_runs`.
    best
        Number of candidates with a diagnostic, strongest first.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigError
        If ``since`` is not a time.
    StoreError
        If the store has no blocks since then or is damaged, or the file cannot be written.
    """
    text = render(reader, since, best)
    with atomic_write(out) as part:
        part.write_text(text, encoding="utf-8")
    return Path(out)


def render(reader: StoreReader, since: str | None = None, best: int = DIAGNOSTICS_SHOWN) -> str:
    """Return the page as text.

    Parameters
    ----------
    reader, since, best
        As those of :func:`write_report`.

    Returns
    -------
    str
        HTML.
    """
    runs, left_out = read_runs(reader, since)
    waterfalls = read_waterfalls(reader, runs)
    cutouts: list[dict[int, Cutout]] = [{} for _ in runs]
    for at, rank in strongest(runs, best):
        pulse = runs[at].pulses[rank]
        row = PulseRow(**{field.name: pulse[field.name] for field in fields(PulseRow)})
        cutouts[at][rank] = reader.cutout(row.cutout).around(row)
    sections = [
        _section(number, run, waterfall, run_cutouts)
        for number, (run, waterfall, run_cutouts) in enumerate(zip(runs, waterfalls, cutouts, strict=True))
    ]
    page = Environment(
        loader=PackageLoader("edgefilter.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters.update(count=_format_count, utc=_format_utc)
    return page.get_template("report.html.j2").render(
        sections=sections,
        tables=read_table_columns(reader),
        left_out=left_out,
        location=reader.location,
        since=since,
        version=__version__,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        rows_shown=ROWS_SHOWN,
        dot_size=dot_size,
    )


def _section(number: int, run: Run, waterfall: Waterfall | None, cutouts: dict[int, Cutout]) -> RunSection:
    diagnostics = {rank: diagnose(cutout) for rank, cutout in cutouts.items()}
    return RunSection(
        anchor=f"run{number + 1}",
        run=run,
        waterfall=waterfall,
        charts=run_charts(run, waterfall),
        best=[
            CandidateDetail(rank + 1, run.pulses[rank], pulse_charts(diagnostic), len(diagnostic.frequencies_mhz))
            for rank, diagnostic in sorted(diagnostics.items())
        ],
        samples=_segments(run.balance.sample_balance),
        cells=_segments(run.balance.cell_balance),
        bytes=_segments(run.bytes_balance),
    )


def _segments(balance: Balance) -> list[BarSegment]:
    return [
        BarSegment(
            part.name,
            _term_colour(part.name),
            part.count,
            100 * part.count / max(balance.whole, 1),
            part.meaning,
        )
        for part in balance.parts
    ]


def _term_colour(name: str) -> str:
    if name.startswith("flagged: "):
        return flagger_colour(name.removeprefix("flagged: "))
    return _TERM_COLOURS.get(name, LOST_COLOUR)


def _format_count(number: int) -> str:
    """Return a count with narrow no-break spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def _format_utc(instant_tai_ns: int, digits: int = 3) -> str:
    return utc_iso(instant_tai_ns).replace("T", " ")[: 20 + digits if digits else 19]
