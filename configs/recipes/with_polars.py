"""Strongest pulse of each day and node in a store, with Polars: ``python with_polars.py STORE``."""

import sys

import polars as pl

import edgefilter


def strongest(where: str) -> list[tuple[str, str, float, float]]:
    """Return date, node, S/N and DM of the strongest pulse of each day and node."""
    store = edgefilter.open_store(where)
    pulses = pl.scan_pyarrow_dataset(store.dataset("pulses"))
    best = pulses.group_by("date", "node").agg(pl.col("snr").max(), pl.col("dm").get(pl.col("snr").arg_max()))
    return best.sort("date", "node").collect().rows()


if __name__ == "__main__":
    for row in strongest(sys.argv[1]):
        print(*row)
