"""A day of a thousand nodes in one store: number and size of objects, times of listing, queries and compaction.

``python -m benchmarks.thousand_nodes`` simulates the day: every node has sent 144 batches of 60 blocks of 10 s, with
tables under real names: spectra of 64 channels, flags, ledger, and pulses at the given rate. Only a part is real:

* ``--templates`` nodes make their objects with the product code; the objects of the others are links to the same bytes.
* The whole day is listed and queried, in a directory store.
* The day of ``--compacted`` nodes is compacted. The compacted day of all nodes consists of links to it.
* A small part (``--swift`` nodes for two hours) is put into a real OpenStack Swift, queried and compacted there.
* The numbers of 100,000 nodes follow by proportion.

``--year`` queries one hour of one node in a year in which ten nodes have observed for an hour every day: the objects of
that day are real, those of the other days are links to them under their own names.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.machine import describe
from edgefilter.core.cells import Flag, flag_name
from edgefilter.core.clock import tai_ns_from_utc_mjd
from edgefilter.products.base import BlockInfo, Product, Provenance, make_table, to_parquet
from edgefilter.products.ledger import ledger_table
from edgefilter.products.naming import ProductName, parse, range_product
from edgefilter.products.pulses import PulseRow, pulses_table
from edgefilter.products.schemas import SCHEMAS
from edgefilter.store.base import Store
from edgefilter.store.compact import compact
from edgefilter.store.connect import connect
from edgefilter.store.query import query
from edgefilter.store.reader import StoreReader
from tests.helpers.servers import swift
from tests.helpers.servers.bucket import make_bucket

CHANNELS, BLOCK_SECONDS, BATCH_BLOCKS, DAY = 64, 10.0, 60, 86400
BLOCKS_A_DAY = 8640
FREQUENCIES = np.linspace(1100.0, 1500.0, CHANNELS)
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)


class Node:
    """Makes the objects of one node: merged batches, as its forwarder sends them."""

    def __init__(self, number: int, pulses_per_hour: float) -> None:
        self.name = node_name(number)
        self.provenance = Provenance(f"beam{number:05d}-{number:08x}", "0" * 16, "0.1.0")
        self.rng = np.random.default_rng(number)
        self.rate = pulses_per_hour * BLOCK_SECONDS / 3600

    def batch(self, day: int, batch: int) -> list[Product]:
        pieces: dict[str, list[pa.Table]] = {}
        for block in range(batch * BATCH_BLOCKS, (batch + 1) * BATCH_BLOCKS):
            for table, rows in self.block(day, day * BLOCKS_A_DAY + block, block).items():
                pieces.setdefault(table, []).append(rows)
        first = day * BLOCKS_A_DAY + batch * BATCH_BLOCKS
        return [
            range_product(
                ProductName(table, self.name, date_of(day), self.provenance.stream),
                first,
                first + BATCH_BLOCKS - 1,
                to_parquet(pa.concat_tables(rows).replace_schema_metadata(SCHEMAS[table].metadata)),
            )
            for table, rows in pieces.items()
        ]

    def block(self, day: int, number: int, of_day: int) -> dict[str, pa.Table]:
        mjd = 61041 + day  # 2026-01-01
        tai = tai_ns_from_utc_mjd(mjd, of_day * BLOCK_SECONDS)
        block = BlockInfo(number, tai, BLOCK_SECONDS)
        count = int(self.rng.poisson(self.rate))
        cells = np.full(CHANNELS, 10_000, np.int64)
        rows = [
            PulseRow(number, 0.1, 0.0, tai, float(dm), 0.1, 0.001, 7 + float(snr), 1100.0, 1500.0, 3, 0.0)
            for dm, snr in self.rng.exponential((200.0, 2.0), (count, 2))
        ]
        ledger = {
            "sample_start": number * 1000,
            "samples_expected": 1000,
            "samples_received": 1000,
            "cells": 640_000,
            "cells_lost": 0,
            "flagged_power": 9,
            "cells_discarded": 639_991,
            "cells_kept": 0,
            "bytes_in": 64_000,
            "bytes_out": 9,
            "candidates": count,
            "candidates_overflow": 0,
        }
        power = self.rng.normal(1, 0.01, CHANNELS).astype(np.float32)
        spectra = {"stokes": ["I"], "frequencies": [FREQUENCIES], "power": [power], "cells": [cells]}
        flags = {
            "flagger": [flag_name(flag) for flag in Flag],
            "frequencies": [FREQUENCIES] * len(Flag),
            "first": [cells // 100] * len(Flag),
            "raised": [cells // 100] * len(Flag),
        }
        tables = {
            "spectra": make_table(SCHEMAS["spectra"], self.provenance, block, spectra),
            "flags": make_table(SCHEMAS["flags"], self.provenance, block, flags),
            "ledger": ledger_table(self.provenance, block, ledger),
        }
        if count:
            tables["pulses"] = pulses_table(self.provenance, block, rows)
        return tables


def date_of(day: int) -> str:
    return (FIRST_DAY + timedelta(days=day)).date().isoformat()


def node_name(number: int) -> str:
    return f"node-{number:05d}"


def hard_link(root: Path, name: str, content: Path) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(content, path)


def populate(root: Path, nodes: int, batches: int, pulses_per_hour: float, templates: int) -> list[Path]:
    """Write a day: ``templates`` nodes make their objects, the others have links; return the paths of the real ones."""
    store, real = connect(root, create=True), []
    for node in (Node(number, pulses_per_hour) for number in range(templates)):
        for batch in range(batches):
            for product in node.batch(0, batch):
                store.put(product)
                real.append(root / product.name)
    link_for_all_nodes(root, root, real, nodes, templates)
    return real


def link_for_all_nodes(root: Path, source: Path, real: list[Path], nodes: int, templates: int) -> None:
    """Link the objects of the first ``templates`` nodes, which lie in ``source``, for all ``nodes`` in ``root``."""
    for path in real:
        name = str(path.relative_to(source))
        own = name.partition("node=")[2].partition("/")[0]
        for number in range(int(own.removeprefix("node-")), nodes, templates):
            if source != root or node_name(number) != own:
                hard_link(root, name.replace(f"node={own}/", f"node={node_name(number)}/"), path)


def populate_year(root: Path, nodes: int, real_day: int, pulses_per_hour: float) -> None:
    """Write an hour a day of a year; only the objects of ``real_day`` have the content that their names say."""
    node, store = Node(0, pulses_per_hour), connect(root, create=True)
    for batch in range(6):
        for product in node.batch(real_day, batch):
            store.put(product)
            name = parse(product.name)
            for day in range(365):
                moved = (day - real_day) * BLOCKS_A_DAY
                for number in range(nodes):
                    if (day, number) != (real_day, 0):
                        there = f"{name.folder}/node={node_name(number)}/date={date_of(day)}/{name.stream}"
                        hard_link(
                            root,
                            f"{there}-{name.block + moved:012d}_{name.last + moved:012d}-{name.digest}.parquet",
                            root / product.name,
                        )


def best_seconds(work: Callable[[], object]) -> float:
    """Return the duration of a call, s: the best of three if it is short."""
    times: list[float] = []
    while not times or (len(times) < 3 and times[0] < 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return round(min(times), 4)


def measure_queries(store: Store, day: int, nodes: int) -> dict[str, Any]:
    """Count and list the objects; query an hour of one node, and the pulses of up to 100 nodes by SQL."""
    reader = StoreReader(store)
    listed = list(store.listing())
    sizes = np.array([item.size for item in listed])
    tables = {item.name.partition("/")[0] for item in listed}
    node, date, first = node_name(nodes // 2), date_of(day), day * BLOCKS_A_DAY
    hour = (pc.field("node") == node) & (pc.field("date") == date)
    hour &= (pc.field("block") >= first) & (pc.field("block") < first + 360)
    sql = (
        f"SELECT block, power FROM spectra WHERE node = '{node}' AND date = '{date}' "
        f"AND block BETWEEN {first} AND {first + 359}"
    )
    assert query(reader, sql).num_rows == reader.table("spectra", ["block"], hour).num_rows == 360
    queried = min(nodes, 100)
    some = f"SELECT node, count(*), max(snr) FROM pulses WHERE node < '{node_name(queried)}' GROUP BY node"
    return {
        "objects": len(sizes),
        "bytes": int(sizes.sum()),
        "median_object_bytes": int(np.median(sizes)),
        "objects_by_table": {t: sum(item.name.startswith(f"{t}/") for item in listed) for t in sorted(tables)},
        "listing_of_all_seconds": best_seconds(lambda: list(store.listing())),
        "files_of_one_table_seconds": best_seconds(lambda: reader.files("ledger")),
        "hour_of_one_node_by_table_seconds": best_seconds(lambda: reader.table("spectra", ["block", "power"], hour)),
        "hour_of_one_node_by_sql_seconds": best_seconds(lambda: query(reader, sql)),
        f"pulses_of_{queried}_nodes_by_sql_seconds": best_seconds(lambda: query(reader, some)),
    }


def measure_compaction(store: Store) -> dict[str, Any]:
    """Compact a store and delete the replaced files; return counts and times."""
    began = time.perf_counter()
    done = compact(store, "9999-12-31", time.time() + 10, grace=0)
    merged = time.perf_counter()
    cleaned = compact(store, "9999-12-31", time.time() + 10, grace=0)
    return {
        "merged": done.merged,
        "made": done.written,
        "merging_seconds": round(merged - began, 1),
        "deleted": cleaned.deleted,
        "cleaning_seconds": round(time.perf_counter() - merged, 1),
        "merged_a_second": round(done.merged / (merged - began), 1),
    }


def run_in_swift(root: Path, folder: Path, nodes: int, stack: ExitStack) -> dict[str, Any]:
    """Put a small day into Swift; measure the same there."""
    server = swift.start(folder, stack)
    make_bucket(server, "thousand-nodes")
    os.environ.update(server.environment())
    store = connect("s3://thousand-nodes/day")
    products = [Product(item.name, (root / item.name).read_bytes()) for item in connect(root).listing()]
    began = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.put, products))
    result: dict[str, Any] = {"nodes": nodes, "put_a_second": round(len(products) / (time.perf_counter() - began), 1)}
    return result | {
        "before_compaction": measure_queries(store, 0, nodes),
        "compaction": measure_compaction(store),
        "after_compaction": measure_queries(store, 0, nodes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--batches", type=int, default=144, help="batches of the day; 144 are the whole day")
    parser.add_argument("--pulses-per-hour", type=float, default=20.0)
    parser.add_argument("--templates", type=int, default=2)
    parser.add_argument("--compacted", type=int, default=50, help="nodes whose day is compacted")
    parser.add_argument("--swift", type=int, default=10, help="nodes with two hours in Swift; 0 for none")
    parser.add_argument("--year", action="store_true", help="ten nodes for a year instead")
    parser.add_argument("--folder", type=Path, help="folder of the stores  [default: that of temporary files]")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        parent = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.folder)))
        result = year(parent, arguments) if arguments.year else simulate_day(parent, arguments, stack)
    write_result(result, arguments.out, "year" if arguments.year else "thousand_nodes")


def year(parent: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    populate_year(parent / "year", 10, 182, arguments.pulses_per_hour)
    return {"nodes": 10, "days": 365, "hours_a_day": 1} | measure_queries(connect(parent / "year"), 182, 10)


def simulate_day(parent: Path, arguments: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    nodes, batches, templates = arguments.nodes, arguments.batches, arguments.templates
    began = time.perf_counter()
    real = populate(parent / "day", nodes, batches, arguments.pulses_per_hour, templates)
    result: dict[str, Any] = {
        "nodes": nodes,
        "batches_a_day": batches,
        "nodes_that_made_their_objects": templates,
        "generating_seconds": round(time.perf_counter() - began, 1),
        "before_compaction": measure_queries(connect(parent / "day"), 0, nodes),
    }
    link_for_all_nodes(parent / "part", parent / "day", real, arguments.compacted, templates)
    part = connect(parent / "part")
    result["nodes_really_compacted"] = arguments.compacted
    result["compaction"] = measure_compaction(part)
    merged = [parent / "part" / item.name for item in part.listing()]
    merged = [path for path in merged if int(path.parts[-3].removeprefix("node=node-")) < templates]
    link_for_all_nodes(parent / "after", parent / "part", merged, nodes, templates)
    result["after_compaction"] = measure_queries(connect(parent / "after"), 0, nodes)
    result["extrapolated_to_100000_nodes"] = extrapolate(result)
    if arguments.swift:
        names = [path for path in real if parse(str(path.relative_to(parent / "day"))).last < 12 * BATCH_BLOCKS]
        link_for_all_nodes(parent / "small", parent / "day", names, arguments.swift, templates)
        (parent / "server").mkdir()
        result["swift"] = run_in_swift(parent / "small", parent / "server", arguments.swift, stack)
    return result


def write_result(result: dict[str, Any], out: Path | None, name: str) -> None:
    """Print a result and write it to a file."""
    result["machine"] = describe()
    print(json.dumps(result, indent=1))
    out = out or Path(f"benchmarks/results/{name}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


def extrapolate(result: dict[str, Any]) -> dict[str, object]:
    """Estimate a day of 100,000 nodes by proportion, without cut-outs."""
    before, after = result["before_compaction"], result["after_compaction"]
    times = 100_000 / result["nodes"]
    day = 144 / result["batches_a_day"]  # after compaction a part of a day has as many objects as the whole
    objects = before["objects"] * times * day
    return {
        "objects_a_day": round(objects),
        "objects_a_second": round(objects / DAY, 1),
        "bytes_a_day": round(before["bytes"] * times * day),
        "objects_a_day_after_compaction": round(after["objects"] * times),
        "objects_a_year_after_compaction": round(after["objects"] * times * 365),
        "core_hours_of_compaction_a_day": round(objects / result["compaction"]["merged_a_second"] / 3600, 1),
        "listing_requests_for_a_day_of_one_table": round(objects / len(before["objects_by_table"]) / 1000),
        "listing_requests_for_one_hour_of_one_node": 102,
        "by": "proportion to the number of nodes; a listing request of S3 returns 1,000 names, so the folders of "
        "100,000 nodes take 100 requests, and the node's dates and its day one each",
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
