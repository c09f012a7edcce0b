"""Puts the page together: everything in one file of HTML that needs no network."""

import os
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from edgefilter.analysis.plots.pulse_diagnostic import diagnose
from edgefilter.core.clock import utc_iso
from edgefilter.core.errors import EdgefilterError
from edgefilter.core.version import __version__
from edgefilter.products.cutout import Cutout
from edgefilter.products.pulses import PulseRow
from edgefilter.report.charts import (
    LOST_COLOUR,
    PulseCharts,
    RunCharts,
    dot_size,
    flag_colours,
    pulse_charts,
    run_charts,
)
from edgefilter.report.data import Balance, Run, read_runs, strongest
from edgefilter.report.waterfall import Waterfall, read_waterfalls
from edgefilter.store.reader import StoreReader

DIAGNOSTICS_SHOWN = 12
"""Candidates whose diagnostic is shown unless told otherwise."""
ROWS_SHOWN = 500
"""Most rows of the table of candidates of a run."""

_KEPT_COLOUR, _DISCARDED_COLOUR, _RECEIVED_COLOUR = "#009E73", "#8FB3CC", "#0072B2"


@dataclass(frozen=True, slots=True)
class BarSegment:
    """A part of a bar: name, colour, count, share of the whole in percent, meaning."""

    name: str
    colour: str
    count: int
    percent: float
    meaning: str


@dataclass(frozen=True, eq=False)
class CandidateDetail:
    """A candidate with its diagnostic: the row of the table, its rank in its run, the drawing."""

    rank: int
    pulse: dict[str, Any]
    charts: PulseCharts
    subbands: int


@dataclass(frozen=True, eq=False)
class RunSection:
    """A run as the page shows it."""

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
        The file; it appears whole or not at all.
    since
        As :func:`edgefilter.report.data.read_runs` takes it.
    best
        Candidates whose diagnostic is shown, strongest first.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigError
        If ``since`` is not a time.
    StoreError
        If the store holds nothing of that time, or is damaged.
    EdgefilterError
        If the file cannot be written.
    """
    target = Path(out)
    text = render(reader, since, best)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise EdgefilterError(f"report {target}: cannot be written: {error.strerror}") from None
    return target


def render(reader: StoreReader, since: str | None = None, best: int = DIAGNOSTICS_SHOWN) -> str:
    """Return the page as text; see :func:`write_report`."""
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
        samples=_segments(run, run.samples_balance),
        cells=_segments(run, run.cells_balance),
        bytes=_segments(run, run.bytes_balance),
    )


def _segments(run: Run, balance: Balance) -> list[BarSegment]:
    fixed = {
        "received": _RECEIVED_COLOUR,
        "kept": _KEPT_COLOUR,
        "discarded": _DISCARDED_COLOUR,
        "forwarded": _KEPT_COLOUR,
        "left behind": _DISCARDED_COLOUR,
    }
    flagged = {f"flagged: {name}": colour for name, colour in flag_colours(run).items()}
    return [
        BarSegment(
            part.name,
            (fixed | flagged).get(part.name, LOST_COLOUR),
            part.count,
            100 * part.count / max(balance.whole, 1),
            part.meaning,
        )
        for part in balance.parts
    ]


def _format_count(number: int) -> str:
    """Show an exact count with narrow spaces, which do not break, between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def _format_utc(instant_tai_ns: int, digits: int = 3) -> str:
    return utc_iso(instant_tai_ns).replace("T", " ")[: 20 + digits if digits else 19]
