"""A thousand nodes write into one store for a day: how many objects, how large, what listing and asking cost.

``python -m benchmarks.thousand_nodes`` simulates the day: every node sends 144 batches of 60 blocks of 10 s, with real
tables under real names: spectra of 64 channels, flags, ledger, and pulses at the rate given. A few nodes make theirs;
the others' files are links to the same bytes. Listing and queries are measured, the day is compacted, and they are
measured again. ``--batches 12`` is a twelfth of the day. ``--year`` asks for one hour of one node out of a year in
which ten nodes have observed for an hour every day.

What 100,000 nodes would make is worked out from the counts and written beside them.
"""

import argparse
import json
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.machine import describe
from edgefilter.cells import Flag
from edgefilter.chunk import SampleAccount
from edgefilter.clock import tai_ns_from_utc_mjd
from edgefilter.products import Product, Provenance
from edgefilter.products.naming import Name, range_product
from edgefilter.products.schemas import SCHEMAS
from edgefilter.products.tables import (
    Block,
    FlagRow,
    LedgerRow,
    PulseRow,
    SpectrumRow,
    flags_table,
    ledger_table,
    pulses_table,
    spectra_table,
    to_parquet,
)
from edgefilter.store.compact import compact
from edgefilter.store.connect import connect
from edgefilter.store.query import query
from edgefilter.store.reader import StoreReader

CHANNELS, BLOCK_SECONDS, BATCH_BLOCKS, DAY = 64, 10.0, 60, 86400
BLOCKS_A_DAY = 8640
FREQUENCIES = np.linspace(1100.0, 1500.0, CHANNELS)
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)


class Node:
    """Makes the objects of one node: the pieces of a batch merged, as its spool would send them."""

    def __init__(self, number: int, pulses_per_hour: float) -> None:
        self.name = f"node-{number:05d}"
        self.provenance = Provenance(f"beam{number:05d}-{number:08x}", "0" * 16, "0.1.0")
        self.dice = np.random.default_rng(number)
        self.rate = pulses_per_hour * BLOCK_SECONDS / 3600

    def batch(self, day: int, batch: int) -> list[Product]:
        pieces: dict[str, list[pa.Table]] = {}
        for block in range(batch * BATCH_BLOCKS, (batch + 1) * BATCH_BLOCKS):
            for table, rows in self.block(day, day * BLOCKS_A_DAY + block, block).items():
                pieces.setdefault(table, []).append(rows)
        date = (FIRST_DAY + timedelta(days=day)).date().isoformat()
        first = day * BLOCKS_A_DAY + batch * BATCH_BLOCKS
        return [
            range_product(
                Name(table, self.name, date, self.provenance.stream),
                first,
                first + BATCH_BLOCKS - 1,
                to_parquet(pa.concat_tables(rows).replace_schema_metadata(SCHEMAS[table].metadata)),
            )
            for table, rows in pieces.items()
        ]

    def block(self, day: int, number: int, of_day: int) -> dict[str, pa.Table]:
        mjd = 61041 + day  # 2026-01-01
        tai = tai_ns_from_utc_mjd(mjd, of_day * BLOCK_SECONDS)
        block = Block(number, tai, BLOCK_SECONDS)
        count = int(self.dice.poisson(self.rate))
        cells = np.full(CHANNELS, 10_000, np.int64)
        rows = [
            PulseRow(number, 0.1, 0.0, tai, float(dm), 0.1, 0.001, 7 + float(snr), 1100.0, 1500.0, 3, 0.0)
            for dm, snr in self.dice.exponential((200.0, 2.0), (count, 2))
        ]
        account = LedgerRow(
            number * 1000, SampleAccount(1000, 1000, {}), 640_000, 0, {Flag.POWER: 9}, 639_991, 0, 64_000, 9, count, 0
        )
        power = self.dice.normal(1, 0.01, CHANNELS).astype(np.float32)
        flags = [FlagRow(flag, cells // 100, cells // 100) for flag in Flag]
        made = {
            "spectra": spectra_table(self.provenance, block, FREQUENCIES, [SpectrumRow("I", power, cells)]),
            "flags": flags_table(self.provenance, block, FREQUENCIES, flags),
            "ledger": ledger_table(self.provenance, block, account),
        }
        if count:
            made["pulses"] = pulses_table(self.provenance, block, rows)
        return made


def populate(root: Path, nodes: int, days: int, batches: int, pulses_per_hour: float, templates: int) -> None:
    """Write the objects: ``templates`` nodes really make theirs, the others' are links to them."""
    made = [Node(number, pulses_per_hour) for number in range(templates)]
    for day in range(days):
        for batch in range(batches):
            for node in made:
                for product in node.batch(day, batch):
                    own = root / product.name
                    own.parent.mkdir(parents=True, exist_ok=True)
                    own.write_bytes(product.content)
                    for number in range(int(node.name[-5:]) + templates, nodes, templates):
                        path = root / product.name.replace(node.name, f"node-{number:05d}")
                        path.parent.mkdir(parents=True, exist_ok=True)
                        os.link(own, path)


def timed(work: object, repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()  # type: ignore[operator]
        times.append(time.perf_counter() - began)
    return round(min(times), 4)


def look(root: Path, date: str, node: str, hour: tuple[int, int]) -> dict[str, object]:
    """Count, list and ask."""
    store = connect(root)
    reader = StoreReader(store)
    listed = list(store.listing())
    sizes = np.array([item.size for item in listed])
    tables = {item.name.partition("/")[0] for item in listed}
    one_hour = (pc.field("node") == node) & (pc.field("date") == date)
    one_hour &= (pc.field("block") >= hour[0]) & (pc.field("block") < hour[1])
    return {
        "objects": len(sizes),
        "bytes": int(sizes.sum()),
        "median_object_bytes": int(np.median(sizes)),
        "objects_by_table": {t: sum(item.name.startswith(f"{t}/") for item in listed) for t in sorted(tables)},
        "listing_seconds": timed(lambda: list(store.listing())),
        "ledger_listing_seconds": timed(lambda: reader.files("ledger")),
        "one_hour_of_one_node_seconds": timed(lambda: reader.table("spectra", ["block", "power"], one_hour)),
        "pulses_of_all_nodes_seconds": timed(
            lambda: query(reader, "SELECT node, count(*), max(snr) FROM pulses GROUP BY node"), 1
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--batches", type=int, default=144, help="of the day; 144 are all of it")
    parser.add_argument("--pulses-per-hour", type=float, default=20.0)
    parser.add_argument("--templates", type=int, default=4)
    parser.add_argument("--year", action="store_true", help="ten nodes for a year instead")
    parser.add_argument("--folder", type=Path, help="where; by default the folder for temporary files")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    nodes, days = (10, 365) if arguments.year else (arguments.nodes, 1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder)
        templates = 1 if arguments.year else arguments.templates
        batches = 6 if arguments.year else arguments.batches
        began = time.perf_counter()
        populate(root, nodes, days, batches, arguments.pulses_per_hour, templates)
        made_seconds = time.perf_counter() - began
        day = days // 2
        date = (FIRST_DAY + timedelta(days=day)).date().isoformat()
        first = day * BLOCKS_A_DAY
        hour = first, first + 360
        before = look(root, date, f"node-{nodes // 2:05d}", hour)
        if arguments.year:
            finish({"nodes": nodes, "days": days, "batches_a_day": batches} | before, arguments.out, "year")
            return
        began = time.perf_counter()
        done = compact(connect(root), "9999-12-31", time.time() + 10, grace=0)
        merged_seconds = time.perf_counter() - began
        began = time.perf_counter()
        cleaned = compact(connect(root), "9999-12-31", time.time() + 10, grace=0)
        clean_seconds = time.perf_counter() - began
        after = look(root, date, f"node-{nodes // 2:05d}", hour)
    result = {
        "nodes": nodes,
        "days": days,
        "batches_a_day": batches,
        "generating_seconds": round(made_seconds, 1),
        "before_compaction": before,
        "compaction": {"merged": done.merged, "made": done.made, "seconds": round(merged_seconds, 1)},
        "cleaning": {"deleted": cleaned.deleted, "seconds": round(clean_seconds, 1)},
        "after_compaction": after,
    }
    share = batches / 144
    result["extrapolated_to_100000_nodes"] = extrapolate(before, after, done.merged / merged_seconds, nodes, share)
    finish(result, arguments.out, "thousand_nodes")


def finish(result: dict[str, object], out: Path | None, name: str) -> None:
    """Print and store a result."""
    result["machine"] = describe()
    print(json.dumps(result, indent=1))
    out = out or Path(f"benchmarks/results/{name}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


def extrapolate(
    before: dict[str, object], after: dict[str, object], rate: float, nodes: int, share: float
) -> dict[str, object]:
    """Work out a day of 100,000 nodes by proportion; cut-outs are not in it.

    ``share`` is the part of the day that was simulated, ``rate`` the objects a second that one core compacted.
    """
    times = 100_000 / nodes / share
    objects, left = int(str(before["objects"])) * times, int(str(after["objects"])) * times * share
    return {
        "objects_a_day": round(objects),
        "objects_a_second": round(objects / DAY, 1),
        "bytes_a_day": round(int(str(before["bytes"])) * times),
        "objects_a_day_after_compaction": round(left),
        "objects_a_year_after_compaction": round(left * 365),
        "core_hours_of_compaction_a_day": round(objects / rate / 3600, 1),
        "listing_requests_a_day_of_one_table": round(objects / 4 / 1000),
        "by": "proportion to the number of nodes; a listing of S3 gives 1,000 names a request",
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
