"""CPU time, memory and page size of the report of a long run.

``python -m benchmarks.report`` writes the tables of 24 hours, without any samples, into a temporary store, makes the
report in a process bound to two cores, and prints and saves the result. The store has one object per block and table,
as after a replay. ``--store DIR`` keeps the store in DIR, or uses an existing one, for example after a merge.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe
from edgefilter.core.cells import Flag, flag_name
from edgefilter.core.clock import tai_ns, utc_date
from edgefilter.core.config import Reduction
from edgefilter.core.plan import Plan, dispersion_delay, resolve
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.core.validation import validate
from edgefilter.core.version import __version__
from edgefilter.products.base import BlockInfo, Product, Provenance, make_table, to_parquet
from edgefilter.products.cutout import Cutout
from edgefilter.products.cutout_file import encode
from edgefilter.products.ledger import ledger_table
from edgefilter.products.naming import ProductNamer, config_product, stream_product
from edgefilter.products.pulses import PulseRow, pulses_table
from edgefilter.products.schemas import SCHEMAS

_CARRIERS = (0.11, 0.42, 0.43, 0.77)  # positions in the band of continuous carriers
_BANDS = (0.2, 0.25)  # position of intermittent interference
_LOSS_EVERY, _PULSE_EVERY, _IMPULSE_EVERY = 29, 13, 7  # blocks


@dataclass(frozen=True)
class SimulatedRun:
    """A simulated run: the products of one node and one stream, without samples.

    Parameters
    ----------
    blocks
        Number of blocks.
    channels
        Number of channels.
    cutouts
        Number of pulses with a cut-out, from the first on.
    """

    blocks: int
    channels: int = 512
    cutouts: int = 24

    @property
    def plan(self) -> Plan:
        step = -400e6 / self.channels
        stream = Stream(
            "day", SampleKind.POWER, 1_767_225_637_000_000_000, Fraction(2000), self.channels, 1500e6 + step / 2, step,
            ("I",), 8, Encoding.UNSIGNED, telescope="synthetic",
        )  # fmt: skip
        return Plan(stream, resolve(validate(Reduction, {"block": {"rows": 4096}}), stream))

    def products(self, numbers: range) -> Iterator[Product]:
        """Yield the products of blocks, the same for the same numbers."""
        for number in numbers:
            yield from self._block(number)

    def header_products(self) -> Iterator[Product]:
        """Yield the header of the stream and the settings."""
        yield stream_product(self.plan.stream)
        yield config_product(self.plan.settings)

    def _block(self, number: int) -> Iterator[Product]:
        plan, random = self.plan, np.random.default_rng(number)
        provenance = Provenance(plan.stream.id, plan.settings.digest(), __version__)
        namer = ProductNamer("node", provenance)
        start = number * plan.samples_per_block
        block = BlockInfo(number, tai_ns(plan.stream.epoch_tai_ns, plan.stream.rate, start), plan.block_seconds)
        date = utc_date(block.tai_ns)
        flag_counts = self._flag_counts(number, random)
        good = plan.cells_per_block - sum(flag_counts.values())
        rows = []
        if number % _PULSE_EVERY == 0:
            row, cutout = self._pulse(number, start, random, provenance)
            if number // _PULSE_EVERY < self.cutouts:
                product = namer.cutout(number, date, encode(cutout))
                row = replace(row, cutout=product.name)
                yield product
            rows = [row]
            yield namer.table("pulses", number, date, to_parquet(pulses_table(provenance, block, rows)))
        tables: dict[str, dict[str, list[Any]]] = {
            "spectra": {
                "stokes": ["I"],
                "frequencies": [plan.frequencies_mhz],
                "power": [self._power(number, random)],
                "cells": [good],
            },
            "flags": {
                "flagger": [flag_name(flag) for flag in flag_counts],
                "frequencies": [plan.frequencies_mhz] * len(flag_counts),
                "first": list(flag_counts.values()),
                "raised": list(flag_counts.values()),
            },
        }
        for name, columns in tables.items():
            table = make_table(SCHEMAS[name], provenance, block, columns)
            yield namer.table(name, number, date, to_parquet(table))
        ledger = ledger_table(provenance, block, self._ledger(start, flag_counts, rows))
        yield namer.table("ledger", number, date, to_parquet(ledger))

    def _flag_counts(self, number: int, random: np.random.Generator) -> dict[Flag, NDArray[np.int64]]:
        cells, channels = self.plan.cells_per_block, self.channels
        flag_counts = {flag: np.zeros(channels, np.int64) for flag in Flag}
        if number % _LOSS_EVERY == 0:
            flag_counts[Flag.LOST] += cells // 8
        if number % _IMPULSE_EVERY == 0:
            flag_counts[Flag.ZERO_DM] += cells // 100
        for position in _CARRIERS:
            flag_counts[Flag.CHANNEL][int(position * channels)] = (
                cells - flag_counts[Flag.LOST].max() - flag_counts[Flag.ZERO_DM].max()
            )
        low, high = (int(position * channels) for position in _BANDS)
        flag_counts[Flag.KURTOSIS][low:high] = round(cells * 0.4 * (1 + np.sin(number / 500)) * random.uniform(0.2, 1))
        flag_counts[Flag.POWER] += random.integers(0, 4, channels)
        flag_counts[Flag.POWER][flag_counts[Flag.CHANNEL] > 0] = 0
        return flag_counts

    def _power(self, number: int, random: np.random.Generator) -> NDArray[np.float32]:
        band_position = np.linspace(-1, 1, self.channels)
        drift = 1 + 0.02 * np.sin(number / 3000 + 3 * band_position)
        noise = random.normal(1, 0.004, self.channels)
        return np.asarray((100 * (1.2 - band_position**4) * drift * noise), np.float32)

    def _pulse(
        self, number: int, start: int, random: np.random.Generator, provenance: Provenance
    ) -> tuple[PulseRow, Cutout]:
        plan = self.plan
        dm, snr = float(random.uniform(5, 900)), float(7 + random.pareto(2) * 3)
        sample = start + int(random.integers(0, plan.samples_per_block))
        seconds, (low, high) = plan.stream.seconds(sample), plan.band_mhz
        pulse = PulseRow(
            sample, seconds, seconds - dispersion_delay(dm, float(plan.frequencies_mhz.max()), np.inf),
            tai_ns(plan.stream.epoch_tai_ns, plan.stream.rate, sample), dm, 1.0, 4 * plan.row_seconds, snr, low, high,
            12, 0.05, "",
        )  # fmt: skip
        rows = plan.sweep_rows(dm) + 64
        data = random.normal(100, 4, (rows, 1, self.channels)).astype(np.float32)
        for channel, frequency in enumerate(plan.frequencies_mhz):
            delay = dispersion_delay(dm, float(frequency), float(plan.frequencies_mhz.max()))
            at = 32 + round(delay / plan.row_seconds)
            data[at : at + 4, 0, channel] += 4 * snr / np.sqrt(4 * self.channels)
        return pulse, Cutout(
            data=data,
            mask=np.zeros((rows, self.channels), np.uint8),
            stokes=("I",),
            first_sample=sample - 32,
            tai_ns=tai_ns(plan.stream.epoch_tai_ns, plan.stream.rate, sample - 32),
            rate=plan.stream.rate,
            samples_per_row=plan.samples_per_row,
            first_channel_mhz=float(plan.frequencies_mhz[0]),
            channel_mhz=plan.channel_mhz,
            pulse=pulse,
            provenance=provenance,
            block=number,
        )

    def _ledger(self, start: int, flag_counts: dict[Flag, NDArray[np.int64]], rows: list[PulseRow]) -> dict[str, int]:
        plan = self.plan
        expected, cells = plan.samples_per_block, plan.cells_per_block * self.channels
        counts = {flag: int(count.sum()) for flag, count in flag_counts.items() if flag is not Flag.TAGGED}
        lost = counts.pop(Flag.LOST)
        missing = expected // 8 if lost else 0
        kept = 1000 if rows and rows[0].cutout else 0
        return {
            "sample_start": start,
            "samples_expected": expected,
            "samples_received": expected - missing,
            "lost_missing": missing,
            "cells": cells,
            "cells_lost": lost,
            **{f"flagged_{flag_name(flag)}": count for flag, count in counts.items()},
            "cells_discarded": cells - lost - sum(counts.values()) - kept,
            "cells_kept": kept,
            "bytes_in": (expected - missing) * plan.stream.sample_bytes,
            "bytes_out": 40_000,
            "candidates": len(rows),
            "candidates_overflow": 0,
        }


def _write(folder: Path, products: Iterator[Product]) -> None:
    # DirectoryStore would wait for the disk after each of a hundred thousand objects.
    for product in products:
        path = folder / product.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(product.content)


def _write_blocks(folder: Path, simulated: SimulatedRun, numbers: range) -> None:
    _write(folder, simulated.products(numbers))


def write_simulated_run(folder: Path, simulated: SimulatedRun, processes: int = 1) -> None:
    """Write the store of a simulated run."""
    _write(folder, simulated.header_products())
    if processes == 1:
        _write_blocks(folder, simulated, range(simulated.blocks))
        return
    parts = [range(start, min(start + 256, simulated.blocks)) for start in range(0, simulated.blocks, 256)]
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(partial(_write_blocks, folder, simulated), parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--store", type=Path, help="directory of the store; it is made if it does not exist")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/report.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.store or Path(scratch) / "store"
        if not folder.exists():
            simulated = SimulatedRun(1, arguments.channels)
            blocks = round(arguments.hours * 3600 / simulated.plan.block_seconds)
            write_simulated_run(folder, SimulatedRun(blocks, arguments.channels), processes=2)
        page = Path(scratch) / "report.html"
        cores = sorted(os.sched_getaffinity(0))[:2]
        command = [sys.executable, "-m", "edgefilter.cli.main", "report", str(folder), "--out", str(page)]
        began = time.monotonic()
        process = subprocess.Popen(command, preexec_fn=partial(os.sched_setaffinity, 0, cores))
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"the report ended with exit status {process.returncode}")
        files = list(chain.from_iterable(names for _, _, names in os.walk(folder)))
        result = {
            "hours": arguments.hours,
            "channels": arguments.channels,
            "objects": len(files),
            "report_seconds": round(wall, 1),
            "report_cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "report_bytes": page.stat().st_size,
            "peak_rss_bytes": usage.ru_maxrss * 1024,
            "load_average": round(os.getloadavg()[0], 1),
            "machine": describe(),
        }
    print(json.dumps(result, indent=1))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
