"""Strongest pulse of each day and node in a store, with DuckDB: ``python with_duckdb.py STORE``."""

import sys

import duckdb

import edgefilter


def strongest(where: str) -> list[tuple[str, str, float, float]]:
    """Return date, node, S/N and DM of the strongest pulse of each day and node."""
    store = edgefilter.open_store(where)
    with duckdb.connect() as connection:
        # The dataset holds each row once, also during a compaction; DuckDB reads only the files that it needs.
        connection.register("pulses", store.dataset("pulses"))
        return connection.sql(
            "SELECT date, node, max(snr) AS snr, arg_max(dm, snr) AS dm FROM pulses GROUP BY ALL ORDER BY date, node"
        ).fetchall()


if __name__ == "__main__":
    for row in strongest(sys.argv[1]):
        print(*row)
