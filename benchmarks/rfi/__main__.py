"""Score edgefilter's flagger, and the peers that are installed, on simulated scenes.

``python -m benchmarks.rfi`` uses the reporting seeds, which were not used to choose thresholds.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.rfi.events import Grid
from benchmarks.rfi.peers import peers
from benchmarks.rfi.score import REPORTING, SIGMAS, TUNING, edgefilter_flagger, score_flaggers


def show(result: dict[str, Any]) -> None:
    table = Table(title="interference, scored by bins")
    head = (
        "flagger",
        "precision",
        "recall",
        "F1",
        "hopping",
        "false on noise",
        "worst loss 0.5 / 3 / 30 sigma",
        "of drifting tones",
        "Ms/s",
    )
    for name in head:
        table.add_column(name)
    for name, row in result.items():
        runs = row["interference"]
        mean = {key: sum(run[key] for run in runs) / len(runs) for key in ("precision", "recall", "f1")}
        hopping = sum(run["recall_of"]["hopping"] for run in runs) / len(runs)
        lost = [row["lost"][f"{sigma:g} sigma"] for sigma in SIGMAS]
        worst = " / ".join(f"{max(value for name, value in one.items() if name != 'tone'):.4f}" for one in lost)
        tones = " / ".join(f"{one['tone']:.4f}" for one in lost)
        numbers = [f"{value:.3f}" for value in (*mean.values(), hopping)]
        table.add_row(name, *numbers, f"{row['false_on_noise']:.1e}", worst, tones, f"{row['msample_per_s']:.1f}")
    Console(width=180).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tuning", action="store_true", help="use the seeds with which thresholds were chosen")
    parser.add_argument(
        "--bits",
        type=int,
        choices=(0, 4, 8),
        default=0,
        help="bits of a component of the voltages of a channel; 0 for float",
    )
    parser.add_argument("--times", type=int, default=4096, help="bins in time (default: %(default)s)")
    parser.add_argument("--channels", type=int, default=1024, help="channels (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rfi.json"), help="file of the results")
    arguments = parser.parse_args()
    seeds = TUNING if arguments.tuning else REPORTING
    flaggers = {
        "edgefilter, with moment4": edgefilter_flagger(True),
        "edgefilter, with moment4, 2 threads": edgefilter_flagger(True, 2),
        "edgefilter, power only": edgefilter_flagger(False),
        **peers(),
    }
    result = score_flaggers(Grid(arguments.times, arguments.channels), flaggers, seeds, arguments.bits)
    show(result)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    whole = {"seeds": seeds, "bits": arguments.bits, "flaggers": result, "machine": describe()}
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
