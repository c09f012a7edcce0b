"""Peak memory of a replay of a large generated filterbank file.

``python -m benchmarks.replay_memory --gigabytes 20`` writes the file to a temporary folder (one array of noise,
repeated, so that generating it takes no longer than writing it), replays it in a separate process, and writes the
result.
"""

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import write_result

CHANNELS, TSAMP = 1024, 256e-6


def write(path: Path, gigabytes: float, bits: int) -> int:
    def text(word: str) -> bytes:
        return struct.pack("<i", len(word)) + word.encode()

    header = text("HEADER_START") + text("source_name") + text("noise")
    for key, kind, value in (
        ("machine_id", "i", 0), ("telescope_id", "i", 0), ("data_type", "i", 1), ("nchans", "i", CHANNELS),
        ("nbits", "i", bits), ("nifs", "i", 1), ("tsamp", "d", TSAMP), ("tstart", "d", 60000.0), ("fch1", "d", 1500.0),
        ("foff", "d", -300.0 / CHANNELS),
    ):  # fmt: skip
        header += text(key) + struct.pack("<" + kind, value)
    # A small array: the peak memory that wait4 reports of a child includes that of this process at the fork.
    tile = np.random.default_rng(1).normal(96, 14, (1 << 12, CHANNELS)).clip(0, 255)
    data = tile.astype(np.uint8 if bits == 8 else np.float32).tobytes()
    tiles = max(1, round(gigabytes * 1e9 / len(data)))
    with path.open("wb") as file:
        file.write(header + text("HEADER_END"))
        for _ in range(tiles):
            file.write(data)
    return tiles * len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20.0, help="size of the file, GB")
    parser.add_argument("--bits", type=int, choices=(8, 32), default=8, help="bits per sample; 32 is floating point")
    parser.add_argument("--dm", default="0:100", help="dispersion measures, pc/cm3")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/replay_memory.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.fil"
        size = write(path, arguments.gigabytes, arguments.bits)
        command = [
            sys.executable, "-m", "edgefilter.cli.main", "replay", str(path), "--store", f"{folder}/store",
            "--dm", arguments.dm, "--no-report",
        ]  # fmt: skip
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        shown = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
    sky = size * 8 / arguments.bits / CHANNELS * TSAMP
    result = {
        "file_bytes": size,
        "bits": arguments.bits,
        "sky_seconds": round(sky, 1),
        "dm": arguments.dm,
        "peak_rss_bytes": usage.ru_maxrss * 1024,
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "times_real_time": round(sky / wall, 2),
        "exit_status": os.waitstatus_to_exitcode(status),
    }
    print(shown[-600:])
    write_result(arguments.out, result)


if __name__ == "__main__":
    main()
