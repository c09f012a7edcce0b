"""A node at 70 % of its sustained rate for half an hour: memory, losses and latency.

``python -m benchmarks.soak --mhz-in 70`` sends 70 MHz; without ``--mhz-in``, the rate follows from
``benchmarks/results/node.json``. ``--seconds 60`` is a short run.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import write_result
from benchmarks.node import memory_directory, run

LOAD_FRACTION = 0.7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="duration, s")
    parser.add_argument("--mhz-in", type=float, help="bandwidth to send, MHz")
    parser.add_argument(
        "--mhz",
        type=float,
        default=100.0,
        help="bandwidth in the header of the stream, MHz; it sets the length of blocks",
    )
    parser.add_argument("--folder", help="folder for ring, spool and store; default: in memory")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/soak.json"))
    arguments = parser.parse_args()
    known = Path("benchmarks/results/node.json")
    pace = arguments.mhz_in or LOAD_FRACTION * json.loads(known.read_text())["sustained_mhz"]
    began = time.monotonic()
    with memory_directory(arguments.folder) as folder:
        done = run(
            Path(folder), arguments.mhz, arguments.seconds, pace, watch_seconds=max(1.0, arguments.seconds / 200)
        )
    # The first quarter compiles kernels and fills the buffers; after it, memory must not grow.
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
    }
    write_result(arguments.out, result)


if __name__ == "__main__":
    main()
