"""Delivery of a spool to a store: by a forwarder in this process, and by processes that are killed."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edgefilter.core.node_sections import SpoolSection
from edgefilter.node.forwarder.process import Forwarder
from edgefilter.spool import Spool
from edgefilter.store.base import Store
from tests.helpers.spools import payload_files

FAST_SETTINGS = SpoolSection(batch_blocks=5, retry_seconds=0.02, request_seconds=2, uploads=3)

_REDUCER = """
import sys
from edgefilter.spool import Spool
from tests.helpers.spool_blocks import SAMPLES, STREAM, cursor, header_products, products
with Spool.open(sys.argv[1], role="reducer", wait=30) as spool:
    known = spool.cursor(STREAM)
    for product in header_products():
        spool.put(product)
    for block in range(known.next_sample // SAMPLES if known else 0, int(sys.argv[2])):
        print(block, flush=True)
        spool.commit(products(block), STREAM, cursor(block))
"""

_FORWARDER = """
import sys
from edgefilter.core.node_sections import SpoolSection
from edgefilter.node.forwarder.process import Forwarder
from edgefilter.spool import Spool
from edgefilter.store.connect import connect
settings = SpoolSection(batch_blocks=5, retry_seconds=0.02, request_seconds=5, uploads=1, batch_seconds=86400)
with Spool.open(sys.argv[1], role="forwarder", wait=30) as spool:
    with Forwarder(spool, connect(sys.argv[2], create=True), settings, "n1") as forwarder:
        forwarder.draining = len(sys.argv) > 3
        while not (forwarder.draining and forwarder.finished):
            forwarder.step()
            print(forwarder.status.uploaded, flush=True)
            forwarder.wait(0.01)
"""


def forward(path: Path, store: Store, after_step: Callable[[], None] = lambda: None) -> Forwarder:
    """Upload a spool to a store until it is empty."""
    with Spool.open(path, role="forwarder") as spool:
        with Forwarder(spool, store, FAST_SETTINGS, "n1", rng=random.Random(1)) as forwarder:
            forwarder.draining = True
            until = time.monotonic() + 120
            while not forwarder.finished:
                assert time.monotonic() < until, forwarder.status
                forwarder.step()
                after_step()
                forwarder.wait(0.05)
        assert spool.is_empty() or forwarder.status.stuck
    return forwarder


def contents(store: Store) -> dict[str, bytes]:
    """Return the content of all objects in a store."""
    return {name: store.get(name) for name in store.names()}


def run_and_kill(command: list[str], rng: random.Random) -> None:
    """Run a program and kill it at a random moment, unless it has ended."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(rng.randint(1, 12)):
            if not process.stdout.readline():
                break
        try:
            process.wait(rng.uniform(0, 0.02))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()


def reducer_command(spool: Path, blocks: int) -> list[str]:
    """Return the command of a process that commits blocks to a spool from its cursor on."""
    return [sys.executable, "-c", _REDUCER, str(spool), str(blocks)]


def forwarder_command(spool: Path, location: str) -> list[str]:
    """Return the command of a process that uploads a spool; with ``drain`` it ends when the spool is empty."""
    return [sys.executable, "-c", _FORWARDER, str(spool), location]


def kill_both(reducer: list[str], forwarder: list[str], spool: Path, kills: int, seed: int) -> None:
    """Kill reducer and forwarder ``kills`` times each at random moments; then let both end."""
    rng = random.Random(seed)
    for _ in range(kills):
        run_and_kill(reducer, rng)
        run_and_kill(forwarder, rng)
    subprocess.run(reducer, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*forwarder, "drain"], check=True, stdout=subprocess.DEVNULL)
    with Spool.open(spool, role="forwarder") as emptied:
        assert emptied.is_empty()
    assert payload_files(spool) == []
