"""``python -m benchmarks``: every kernel compared with simpler methods, other packages, and the limits of the machine.

The other packages (peers) are those of ``pip install --group peers`` and liquid-dsp (``apt install libliquid1``); those
that are missing are skipped with a note. Results go to ``benchmarks/results/kernels.json``.
"""

import argparse
import importlib
import importlib.util
import os
from pathlib import Path

from benchmarks.harness import Bench

MODULES = {
    "limits": "benchmarks.kernels.limits",
    "fft": "benchmarks.kernels.fft",
    "channeliser": "benchmarks.kernels.channeliser",
    "integrate": "benchmarks.kernels.integrate",
    "search": "benchmarks.search",
    "rfi": "benchmarks.rfi",
    "startup": "benchmarks.kernels.startup",
}


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # peers that are measured with one thread use only one
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"benchmarks to run: {', '.join(MODULES)}; default: all"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="least time for which a measurement is repeated, s")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kernels.json"))
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(MODULES))
    if unknown:
        parser.error(f"unknown benchmarks: {', '.join(unknown)}; must be among {', '.join(MODULES)}")
    bench = Bench(arguments.seconds)
    for name in arguments.names or MODULES:
        here = importlib.util.find_spec(MODULES[name]) is not None
        work = getattr(importlib.import_module(MODULES[name]), "run", None) if here else None
        if work is None:
            bench.skip(name, f"{MODULES[name]} has no function run in this checkout")
        else:
            work(bench)
    for table in bench.tables():
        bench.console.print(table)
    bench.write(arguments.out)


if __name__ == "__main__":
    main()
