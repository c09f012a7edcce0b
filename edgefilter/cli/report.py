"""``edgefilter report``: one HTML page about the content of a store."""

from pathlib import Path
from typing import Annotated

import typer

from edgefilter.cli.options import StoreArgument


def command(
    store: StoreArgument,
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.")] = Path("report.html"),
    since: Annotated[
        str | None,
        typer.Option(help="Leave out data before this time: a UTC date, or 90m, 24h, 7d before the newest data."),
    ] = None,
    best: Annotated[int, typer.Option(min=0, help="Number of candidates with a diagnostic plot.")] = 12,
) -> None:
    """Write a report of a store: account, candidates, spectra, settings.

    The report is one HTML file. It needs no network.
    """
    # Imported here: matplotlib and numba take seconds to import, and --help does not need them.
    from edgefilter.report.page import write_report
    from edgefilter.store.reader import open_store

    typer.echo(_report_line(write_report(open_store(store), out, since, best)))


def write_report_beside(store: str) -> str:
    """Write the report beside the folder of a store (of a URL: to the working directory); return a line about it."""
    from edgefilter.report.page import write_report
    from edgefilter.store.reader import open_store

    folder = Path(store).resolve()
    out = Path("report.html") if "://" in store else folder.with_name(f"{folder.name}-report.html")
    return _report_line(write_report(open_store(store), out))


def _report_line(path: object) -> str:
    return f"report: {path}; open it in a browser"
