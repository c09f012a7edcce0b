"""Rate of uploads by the forwarder relative to the client library alone, with a real server.

``python -m benchmarks.upload`` starts OpenStack Swift (``--server seaweed``: SeaweedFS) in memory, uploads the same
objects by obstore alone (without checks), by obstore with a HEAD after each PUT, the least that a proof of arrival
needs, and by the forwarder from a spool (checksum, HEAD, removal of the row). Client and forwarder upload the same
number of objects at once. Rounds alternate; the result is the median of their ratios.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from statistics import median

import obstore
from obstore.store import S3Store

from benchmarks.machine import describe
from edgefilter.core.node_sections import SpoolSection
from edgefilter.node.forwarder.process import Forwarder
from edgefilter.products.base import Product
from edgefilter.spool import Spool
from edgefilter.store.connect import connect
from tests.helpers.memory import MEMORY
from tests.helpers.servers import seaweed, swift
from tests.helpers.servers.bucket import BUCKET, make_bucket
from tests.helpers.servers.process import Server

CASES = {"300 objects of 20 kB": (300, 20_000), "20 objects of 8 MiB": (20, 8 << 20)}


def client_seconds(server: Server, products: list[Product], uploads: int, with_head: bool) -> float:
    store = S3Store(
        BUCKET,
        endpoint=server.endpoint,
        access_key_id=server.key,
        secret_access_key=server.secret,
        region="us-east-1",
        client_options={"allow_http": True, "timeout": timedelta(seconds=60)},
    )

    def put(product: Product) -> None:
        obstore.put(store, product.name, product.content, use_multipart=False)
        if with_head:
            assert obstore.head(store, product.name)["size"] == len(product.content)

    began = time.perf_counter()
    with ThreadPoolExecutor(uploads) as pool:
        list(pool.map(put, products))
    return time.perf_counter() - began


def forwarder_seconds(folder: Path, where: str, products: list[Product], uploads: int) -> float:
    with Spool.open(folder, role="reducer") as spool:
        for product in products:
            spool.commit([product])
    with Spool.open(folder, role="forwarder") as spool:
        forwarder = Forwarder(spool, connect(where), SpoolSection(uploads=uploads), "n")
        with forwarder:
            forwarder.draining = True
            began = time.perf_counter()
            while not forwarder.finished:
                forwarder.step()
                forwarder.wait(0.05)
            return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("swift", "seaweed"), default="swift")
    parser.add_argument("--uploads", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result: dict[str, object] = {"server": arguments.server, "uploads_at_once": arguments.uploads}
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        (root / "server").mkdir()
        server = {"swift": swift, "seaweed": seaweed}[arguments.server].start(root / "server", stack)
        make_bucket(server, BUCKET)
        os.environ.update(server.environment())
        for name, (count, size) in CASES.items():
            seconds: dict[str, list[float]] = {"client": [], "client_with_head": [], "forwarder": []}
            for repeat in range(arguments.repeats):
                payload = [Product(f"cutouts/{n}", os.urandom(size)) for n in range(count)]
                for variant, with_head in (("client", False), ("client_with_head", True)):
                    own = [Product(f"{variant}-{size}-{repeat}/{p.name}", p.content) for p in payload]
                    seconds[variant].append(client_seconds(server, own, arguments.uploads, with_head))
                where = f"s3://{BUCKET}/forwarder-{size}-{repeat}"
                seconds["forwarder"].append(
                    forwarder_seconds(root / f"spool-{size}-{repeat}", where, payload, arguments.uploads)
                )
            typical = {variant: median(found) for variant, found in seconds.items()}
            row: dict[str, object] = {
                f"{variant}_objects_per_second": round(count / s, 1) for variant, s in typical.items()
            }
            row |= {
                f"{variant}_megabytes_per_second": round(count * size / s / 1e6, 2) for variant, s in typical.items()
            }
            for variant in ("client", "client_with_head"):
                ratios = [a / b for a, b in zip(seconds[variant], seconds["forwarder"], strict=True)]
                row[f"of_the_{variant}"] = [round(ratio, 3) for ratio in (min(ratios), median(ratios), max(ratios))]
            result[name] = row
    result["machine"] = describe()
    print(json.dumps(result, indent=1))
    out = arguments.out or Path(f"benchmarks/results/upload_{arguments.server}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
