"""``edgefilter store``: verify, compact and query a store."""

import datetime
import sys
import time
from typing import Annotated

import typer

from edgefilter.core.errors import ConfigError

app = typer.Typer(help="Prove, compact and query a store.", no_args_is_help=True)

StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="Directory, file:// or s3:// URL.")]


@app.command()
def verify(
    store: StoreArgument, notes: Annotated[bool, typer.Option("--notes", help="Also list what is no problem.")] = False
) -> None:
    """Read all of a store and prove it: digests, balances, no gap, every cut-out; exit status 1 if not."""
    from edgefilter.store.connect import connect
    from edgefilter.store.verify import summary
    from edgefilter.store.verify import verify as run

    verdict = run(connect(store))
    for line in verdict.problems:
        print(f"problem: {line}")
    for line in verdict.notes if notes else ():
        print(f"note: {line}")
    print(summary(verdict))
    if verdict.problems:
        raise typer.Exit(1)


@app.command()
def compact(
    store: StoreArgument,
    before: Annotated[
        str, typer.Option(metavar="DATE", help="Merge days before this one, UTC.  [default: today]")
    ] = "",
    grace: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long replaced files stay.")] = 3600.0,
) -> None:
    """Merge many small table objects into few large ones; safe while nodes write and readers read."""
    from edgefilter.store.compact import compact as run
    from edgefilter.store.connect import connect

    today = datetime.datetime.now(datetime.UTC).date()
    try:
        day = datetime.date.fromisoformat(before) if before else today
    except ValueError:
        raise ConfigError(f"--before {before}: must be a date such as {today}") from None
    done = run(connect(store), day.isoformat(), time.time(), grace)
    print(f"{done.merged} objects merged into {done.written}; {done.deleted} replaced ones deleted")


@app.command()
def query(
    store: StoreArgument,
    sql: Annotated[str, typer.Argument(help="Tables: pulses, spectra, flags, ledger, dropped.")],
    output: Annotated[str, typer.Option("--format", help="table, csv or json (a line a row).")] = "table",
) -> None:
    """Run SQL over a store in place (DuckDB)."""
    import pyarrow.csv as pacsv

    from edgefilter.store.query import query as run
    from edgefilter.store.reader import open_store

    if output not in ("table", "csv", "json"):
        raise ConfigError(f"--format {output}: must be table, csv or json")
    found = run(open_store(store), sql)
    if output == "csv":
        pacsv.write_csv(found, sys.stdout.buffer)
    elif output == "json":
        print(found.to_pandas().to_json(orient="records", lines=True, date_format="iso"), end="")
    else:
        print(found.to_pandas().to_string(index=False))
