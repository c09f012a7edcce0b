"""``kill -9`` of the processes of a node at random times, compared with an undisturbed run.

``python -m benchmarks.faults --reducer 20 --supervisor 5 --forwarder 5 --receiver 5`` kills each process that many
times while a synthetic telescope sends; the supervisor is started again, as a service manager does. Then the store is
compared, object by object, with a replay of the same sky. The receiver is killed in a separate run, because samples in
flight may be lost: there the ledger must account for exactly the lost samples.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from tests.helpers.running_node import Node, SenderThread, contents, ledger, replayed, sky, sky_until, wait_for

FRAME_BYTES = 65_536


def run_with_kills(folder: Path, faults: list[str], seed: int, between: tuple[float, float]) -> dict[str, Any]:
    """Kill processes while a stream arrives, and compare the store with a replay of the samples that were sent."""
    rng = random.Random(seed)
    began = time.monotonic()
    with Node(folder) as node:
        telescope = SenderThread(sky(100_000.0), node.endpoint, 1.0, frame_bytes=FRAME_BYTES, receiver_timeout=600.0)
        wait_for(lambda: node.blocks() >= 1)
        for fault in faults:
            time.sleep(rng.uniform(*between))
            if fault == "supervisor":
                node.restart_supervisor()
            else:
                node.kill(fault)
        blocks_before = node.blocks()
        wait_for(lambda: node.blocks() > blocks_before + 10, 600)
        sent = telescope.stop()
        status = node.wait()
    source = sky_until(sent.end)
    got, want = contents(folder / "store"), replayed(source, folder)
    rows = ledger(got, folder)
    received = sum(row["samples_received"] for row in rows)
    expected = sum(row["samples_expected"] for row in rows)
    lost = {key: sum(row[key] for row in rows) for key in rows[0] if key.startswith("lost_")}
    return {
        "killed": {role: faults.count(role) for role in sorted(set(faults))},
        "exit_status": status,
        "blocks": len(rows),
        "blocks_twice": len(rows) - len({row["block"] for row in rows}),
        "samples_sent": sent.samples,
        "ledger": {"expected": expected, "received": received} | {key: count for key, count in lost.items() if count},
        "store_identical": got == want,
        "objects_that_differ": sorted(name for name in {*got, *want} if got.get(name) != want.get(name))[:20],
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for role, count in (("reducer", 20), ("supervisor", 5), ("forwarder", 5), ("receiver", 5)):
        parser.add_argument(f"--{role}", type=int, default=count, help=f"number of kills of the {role}")
    parser.add_argument(
        "--between", type=float, nargs=2, default=(0.2, 4.0), help="range of the random time between kills, s"
    )
    parser.add_argument("--seed", type=int, default=1, help="random seed of order and times")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/faults.json"))
    arguments = parser.parse_args()
    faults = [role for role in ("reducer", "supervisor", "forwarder") for _ in range(getattr(arguments, role))]
    random.Random(arguments.seed).shuffle(faults)
    result = {}
    for name, wanted in (("restartable", faults), ("receiver", ["receiver"] * arguments.receiver)):
        with tempfile.TemporaryDirectory() as folder:
            result[name] = run_with_kills(Path(folder), wanted, arguments.seed, tuple(arguments.between))
            print(json.dumps(result[name]))
    arguments.out.write_text(json.dumps(result | {"machine": describe()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
