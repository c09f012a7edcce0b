"""Rate of commits to the spool compared with the bare disk, and outcomes of a kill at every system call.

``python -m benchmarks.spool`` measures; ``--kills`` kills a commit at each of its system calls in turn.
"""

import argparse
import json
import os
import sqlite3
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.machine import describe
from edgefilter.products.base import Product
from edgefilter.spool import Cursor, Spool
from tests.helpers.spools import payload_files, product_names
from tests.helpers.syscalls import run_until

SIZES = {"4 pieces of 20 kB": [20_000] * 4, "4 pieces and a cut-out of 32 MiB": [20_000] * 4 + [32 << 20]}


def block(number: int, sizes: list[int]) -> list[Product]:
    kinds = ("ledger", "pulses", "spectra", "flags", "cutouts")
    return [
        Product(f"{kind}/{number:012d}", bytes([number % 256]) * size) for kind, size in zip(kinds, sizes, strict=False)
    ]


def spool_seconds(folder: Path, sizes: list[int], count: int) -> float:
    with Spool.open(folder / "spool", role="reducer") as spool:
        began = time.perf_counter()
        for number in range(count):
            spool.commit(block(number, sizes), "s", Cursor(number + 1))
        return time.perf_counter() - began


def baseline_seconds(folder: Path, sizes: list[int], count: int) -> float:
    """Time the same durable writes without the spool: fsync and rename files, fsync the folder, commit a row."""
    directory = folder / "bare"
    directory.mkdir()
    handle = os.open(directory, os.O_RDONLY)
    database = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE t (name TEXT)")
    began = time.perf_counter()
    for number in range(count):
        for product in block(number, sizes):
            path = directory / product.name.replace("/", ",")
            with path.with_suffix(".part").open("wb") as file:
                file.write(product.content)
                file.flush()
                os.fsync(file.fileno())
            path.with_suffix(".part").rename(path)
        os.fsync(handle)
        database.execute("INSERT INTO t VALUES (?)", (str(number),))
    seconds = time.perf_counter() - began
    database.close()
    os.close(handle)
    return seconds


def measure(folder: Path, sizes: list[int], count: int, repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {"spool": [], "bare": []}
    for repeat in range(repeats):
        for name, run in (("spool", spool_seconds), ("bare", baseline_seconds)):
            directory = folder / f"{name}-{repeat}-{count}"
            directory.mkdir()
            times[name].append(run(directory, sizes, count))
    best = {name: min(found) for name, found in times.items()}
    return {
        "commits_per_second": round(count / best["spool"], 1),
        "megabytes_per_second": round(sum(sizes) * count / best["spool"] / 1e6, 1),
        "bare_disk_commits_per_second": round(count / best["bare"], 1),
        "of_the_bare_disk": round(best["bare"] / best["spool"], 3),
    }


def kills(folder: Path) -> dict[str, int]:
    """Kill a commit at every entry to and return from a system call; count complete, absent and torn blocks."""
    outcomes = {"before": 0, "after": 0, "torn": 0}
    products = block(1, [1000] * 5)

    def work(path: Path) -> None:
        with Spool.open(path, role="reducer") as spool:
            spool.commit(products, "s", Cursor(1))

    stops = 0
    while True:
        path = folder / str(stops)
        Spool.open(path, role="reducer").close()
        ended = run_until(partial(work, path), stops)
        with Spool.open(path, role="reducer") as spool:
            names, files = product_names(spool), payload_files(path)
            whole = len(names) == len(files) == 5 and spool.cursor("s") == Cursor(1)
            nothing = not names and not files and spool.cursor("s") is None
            outcomes["after" if whole else "before" if nothing else "torn"] += 1
        if ended is not None:
            return {"system_call_stops": stops, **outcomes}
        stops += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", action="store_true")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="folder on the disk to be measured")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.kills:
            result: dict[str, object] = {"kills": kills(Path(folder))}
        else:
            result = {
                name: measure(
                    Path(folder), sizes, max(3, arguments.count // (1 + sum(sizes) // 2_000_000)), arguments.repeats
                )
                for name, sizes in SIZES.items()
            }
    result["machine"] = describe()
    print(json.dumps(result, indent=1))
    name = "spool_kills" if arguments.kills else "spool"
    out = arguments.out or Path(f"benchmarks/results/{name}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
