"""``edgefilter store``: verify, compact and query a store."""

import datetime
import sys
import time
from typing import Annotated

import typer

from edgefilter.cli.options import StoreArgument
from edgefilter.core.errors import ConfigError

app = typer.Typer(help="Verify, compact or query a store.", no_args_is_help=True)


@app.command()
def verify(
    store: StoreArgument,
    notes: Annotated[bool, typer.Option("--notes", help="Also list irregularities that are not problems.")] = False,
) -> None:
    """Read a whole store and check it; exit status 1 if there are problems.

    Checks the digest of each object, the balances of the ledger, and that no
    block and no cut-out is missing.
    """
    from edgefilter.store.connect import connect
    from edgefilter.store.verify import summary
    from edgefilter.store.verify import verify as run

    report = run(connect(store))
    for line in report.problems:
        print(f"problem: {line}")
    for line in report.notes if notes else ():
        print(f"note: {line}")
    print(summary(report))
    if report.problems:
        raise typer.Exit(1)


@app.command()
def compact(
    store: StoreArgument,
    before: Annotated[
        str, typer.Option(metavar="DATE", help="Merge the days before this UTC date.", show_default="today")
    ] = "",
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Time for which replaced objects remain, s.")
    ] = 3600.0,
) -> None:
    """Merge many small table objects into few large ones.

    Nodes may write to the store and readers may read it at the same time.
    """
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
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="Query of the tables pulses, spectra, flags, ledger, dropped, ….")
    ],
    output: Annotated[str, typer.Option("--format", help="Output: table, csv, or json (one line per row).")] = "table",
) -> None:
    """Run an SQL query on a store, with DuckDB.

    A missing value is NULL in a table, empty in csv, null in json.
    """
    import pyarrow.csv as pacsv

    from edgefilter.store.query import query as run
    from edgefilter.store.reader import open_store

    if output not in ("table", "csv", "json"):
        raise ConfigError(f"--format {output}: must be table, csv or json")
    found = run(open_store(store), sql)
    if output == "csv":
        pacsv.write_csv(found, sys.stdout.buffer)
        return
    rows = found.to_pandas(integer_object_nulls=True)  # otherwise a null turns a column of integers into floats
    if output == "json":
        print(rows.to_json(orient="records", lines=True, date_format="iso"), end="")
    else:
        for name, column in zip(found.column_names, found.columns, strict=True):
            if column.null_count:
                rows[name] = rows[name].astype(object).mask(column.is_null().to_numpy(), "NULL")
        print(rows.to_string(index=False))
