"""Reducer and forwarder killed with ``kill -9`` at random moments; the store must end with the same objects.

``python -m benchmarks.kills`` kills each 30 times between a spool and OpenStack Swift, and compares the store, object
by object and byte by byte, with one that was filled without kills.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.machine import describe
from edgefilter.store.connect import connect
from edgefilter.store.verify import verify
from tests.helpers.delivery import contents, forward, forwarder_command, kill_both, reducer_command
from tests.helpers.memory import MEMORY
from tests.helpers.servers import swift
from tests.helpers.servers.bucket import BUCKET, make_bucket
from tests.helpers.spool_blocks import fill_spool
from tests.helpers.store_models import DictStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--blocks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kills.json"))
    arguments = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        (root / "server").mkdir()
        server = swift.start(root / "server", stack)
        make_bucket(server)
        os.environ.update(server.environment())
        spool, where = root / "spool", f"s3://{BUCKET}/kills"
        reducer, forwarder = reducer_command(spool, arguments.blocks), forwarder_command(spool, where)
        began = time.monotonic()
        kill_both(reducer, forwarder, spool, arguments.kills, arguments.seed)
        seconds = time.monotonic() - began
        undisturbed = DictStore()
        fill_spool(root / "undisturbed", range(arguments.blocks))
        forward(root / "undisturbed", undisturbed)
        found = contents(connect(where))
        verification = verify(connect(where))
    result = {
        "kills_of_each": arguments.kills,
        "blocks": arguments.blocks,
        "seconds": round(seconds, 1),
        "objects": len(found),
        "equal_to_undisturbed_byte_for_byte": found == undisturbed.objects,
        "problems": verification.problems,
        "machine": describe(),
    }
    print(json.dumps(result, indent=1))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(found != undisturbed.objects)


if __name__ == "__main__":
    main()
