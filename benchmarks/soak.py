"""A node for half an hour at 70 % of what it sustains: flat memory, nothing lost, latency.

``python -m benchmarks.soak --mhz-in 70`` takes the rate from ``benchmarks/results/node.json`` if none is given;
``--seconds 60`` is a short one.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import describe
from benchmarks.node import memory_directory, run

LOAD_FRACTION = 0.7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--mhz-in", type=float, help="bandwidth to send")
    parser.add_argument("--mhz", type=float, default=100.0, help="of the stream's header; sets the length of blocks")
    parser.add_argument("--folder")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/soak.json"))
    arguments = parser.parse_args()
    known = Path("benchmarks/results/node.json")
    pace = arguments.mhz_in or LOAD_FRACTION * json.loads(known.read_text())["sustained_mhz"]
    began = time.monotonic()
    with memory_directory(arguments.folder) as folder:
        done = run(
            Path(folder), arguments.mhz, arguments.seconds, pace, watch_seconds=max(1.0, arguments.seconds / 200)
        )
    # The first quarter compiles and fills what is bounded; after it memory must not grow.
    steady = done.memory[len(done.memory) // 4 :]
    growth = {}
    for role in ("supervisor", "receiver", "reducer", "forwarder"):
        held = np.array([sample.get(role, np.nan) for sample in steady])
        half = len(held) // 2
        growth[role] = {
            "first_half_mb": round(float(np.nanmedian(held[:half])), 1),
            "second_half_mb": round(float(np.nanmedian(held[half:])), 1),
            "most_mb": round(float(np.nanmax(held)), 1),
        }
    result = {
        "seconds": round(time.monotonic() - began, 1),
        "mhz_sent": round(done.sent["samples"] / done.sent["seconds"] / 1e6, 2),
        "mhz_wanted": round(pace, 2),
        "blocks": len(done.blocks),
        "samples_sent": done.sent["samples"],
        "lost_samples": done.lost,
        "latency_seconds": {f"p{percent}": round(done.latency(percent), 2) for percent in (50, 99, 100)},
        "lag_most_seconds_of_header": round(max(done.lags), 2),
        "private_memory": growth,
        "nice": os.nice(0),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "machine": describe(),
    }
    print(json.dumps(result, indent=1))
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
