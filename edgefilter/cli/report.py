"""``edgefilter report``: one page that shows what a store holds and what was thrown away."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    store: Annotated[str, typer.Argument(help="Directory or URL of the store.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; it needs no network to be read.")] = Path(
        "report.html"
    ),
    since: Annotated[
        str | None, typer.Option(help="Leave out what began before: a UTC date, or 90m, 24h, 7d before the newest.")
    ] = None,
    best: Annotated[int, typer.Option(min=0, help="Candidates shown one by one, strongest first.")] = 12,
) -> None:
    """Write a self-contained HTML page: account, candidates, diagnostics, bandpass, waterfall, settings."""
    # Imported here, because matplotlib and numba take seconds that --help need not wait.
    from edgefilter.report.page import write_report
    from edgefilter.store.reader import open_store

    typer.echo(f"report: {write_report(open_store(store), out, since, best)}; open it in a browser")


def write_report_beside(store: str) -> str:
    """Write the report beside a store's folder, which is the products' alone, of a URL here; return what to tell."""
    from edgefilter.report.page import write_report
    from edgefilter.store.reader import open_store

    folder = Path(store).resolve()
    out = Path("report.html") if "://" in store else folder.with_name(f"{folder.name}-report.html")
    return f"report: {write_report(open_store(store), out)}; open it in a browser"
