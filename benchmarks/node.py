"""Highest bandwidth that a whole node sustains, with the sender on the same cores.

``python -m benchmarks.node`` starts ``edgefilter run`` for dual-polarisation complex 8-bit voltages with 1024 channels,
Stokes I, flagging and the pulse search, and a sender that sends as fast as the node receives. The sender waits when the
ring of the node is full, so the rate at which blocks are committed is the sustained rate; the result is the median and
the spread over windows of the run. A second run at a constant 90 % of that rate shows that the lag stays bounded and
that no sample is lost.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from benchmarks.machine import write_result
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.node.supervisor.control_socket import call
from edgefilter.sources.live.zmq_wire import HEADER_BYTES, pack_end, pack_frame_header, pack_stream
from tests.helpers.memory import MEMORY

SAMPLE_BYTES = 4
FRAME_SAMPLES = (1 << 20) // SAMPLE_BYTES
TILE_FRAMES = 64
MAX_LAG_SECONDS = 1.0


def bench_stream(mhz: float) -> Stream:
    """Return a stream with a bandwidth of ``mhz`` MHz around 1400 MHz; its sample rate defines real time."""
    return Stream(
        "bench",
        SampleKind.VOLTAGE,
        0,
        Fraction(round(mhz * 1e6)),
        1,
        1.4e9,
        mhz * 1e6,
        ("X", "Y"),
        8,
        Encoding.SIGNED,
        True,
    )


def settings(folder: Path, buffer_seconds: float | None = None, dm: float = 300.0) -> str:
    """Return the configuration of the node, in TOML."""
    depth = f"buffer_seconds = {buffer_seconds}\n" if buffer_seconds else ""
    return (
        "[channelise]\nchannels = 1024\n[detect]\nstokes = 'I'\n"
        f"[pulses]\ndm = [0.0, {dm}]\n"
        f"[input]\nendpoint = 'tcp://127.0.0.1:*'\n{depth}"
        f"[store]\npath = '{folder}/store'\n[node]\nname = 'bench'\nhealth_port = 0\nrun_directory = '{folder}/run'\n"
    )


def send(endpoint: str, mhz: float, seconds: float, pace: float | None) -> None:
    """Send noise for ``seconds`` of wall-clock time, at ``pace`` MHz or, if None, as fast as the node receives."""
    stream = bench_stream(mhz)
    noise = np.random.default_rng(1).normal(0, 20, TILE_FRAMES * FRAME_SAMPLES * SAMPLE_BYTES)
    tile = noise.clip(-127, 127).astype(np.int8).view(np.uint8).reshape(TILE_FRAMES, -1)
    del noise
    frames = [bytearray(HEADER_BYTES) + bytearray(part.tobytes()) for part in tile]
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.SNDHWM, 8)
        socket.setsockopt(zmq.LINGER, -1)
        socket.connect(endpoint)
        socket.send(pack_stream(stream))
        began = due = time.monotonic()
        number, held = 0, 0.0
        while (now := time.monotonic()) - began < seconds:
            if pace is not None:
                if now - due > MAX_LAG_SECONDS:  # the node compiles: skip this time, do not catch up
                    held += now - due
                    due = now
                time.sleep(max(0.0, due - now))
                due += FRAME_SAMPLES / (pace * 1e6)
            frame = frames[number % TILE_FRAMES]
            frame[:HEADER_BYTES] = pack_frame_header(stream, number * FRAME_SAMPLES, FRAME_SAMPLES)
            socket.send(frame)
            number += 1
        facts = {"seconds": time.monotonic() - began, "ended": time.time(), "held": held}
        socket.send(pack_end(stream, number * FRAME_SAMPLES))
    print(json.dumps(facts | {"samples": number * FRAME_SAMPLES}))


@dataclass
class NodeRun:
    """Results of one run of the node: logged blocks, facts of the sender, lags (s), memory of the processes (MB)."""

    blocks: list[dict[str, Any]]
    sent: dict[str, float]
    lags: list[float]
    memory: list[dict[str, float]]

    def rates(self, windows: int = 5) -> list[float]:
        """Return the committed samples per second, in equal windows of the middle of the run."""
        times = np.array([datetime.fromisoformat(block["timestamp"]).timestamp() for block in self.blocks])
        samples = np.cumsum([block["expected"] for block in self.blocks])
        # Leave out the first fifth, which compiles and fills the ring, and the end, when the sender needs no core.
        count = int(np.searchsorted(times, self.sent["ended"]))
        edges = np.linspace(count // 5, count - 1, windows + 1).astype(int)
        return [float((samples[b] - samples[a]) / (times[b] - times[a])) for a, b in itertools.pairwise(edges)]

    @property
    def lost(self) -> int:
        """Number of samples that were sent but not reduced."""
        return int(self.sent["samples"]) - sum(block["received"] for block in self.blocks)

    def latency(self, percent: float) -> float:
        """Return a percentile of the latency from arrival to commit, s."""
        return float(
            np.percentile([block["latency"] for block in self.blocks if block["latency"] is not None], percent)
        )


def run(
    folder: Path, mhz: float, seconds: float, pace: float | None, watch_seconds: float = 1.0, **extra: Any
) -> NodeRun:
    """Run a node and a sender until the stream ends."""
    config = folder / "node.toml"
    config.write_text(settings(folder, **extra))
    log = folder / "log.jsonl"
    with log.open("w") as errors:
        node = subprocess.Popen(
            [sys.executable, "-m", "edgefilter.cli.main", "run", str(config), "--log-json"],
            stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
    control = folder / "run" / "control.sock"
    lags: list[float] = []
    memory: list[dict[str, float]] = []
    try:
        while not (control.exists() and (endpoint := call(control, "status")["streams"][0]["endpoint"])):
            time.sleep(0.1)
        words = [str(word) for word in (endpoint, mhz, seconds, pace or 0)]
        sender = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.node", "--send", *words], stdout=subprocess.PIPE, text=True
        )
        port = call(control, "status")["health_port"]
        while sender.poll() is None:
            time.sleep(watch_seconds)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=30) as answer:
                status = json.load(answer)
            if (lag := status["streams"][0]["lag_seconds"]) is not None:
                lags.append(lag)
            memory.append({child["role"]: _private_memory_mb(child["pid"]) for child in status["processes"]})
            memory[-1]["supervisor"] = _private_memory_mb(node.pid)
        assert sender.stdout is not None
        sent = json.loads(sender.stdout.read())
        assert node.wait(timeout=600) == 0
    finally:
        if node.poll() is None:
            node.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return NodeRun([line for line in lines if line["event"] == "block"], sent, lags, memory)


def _private_memory_mb(pid: int) -> float:
    """Return the private memory of a process, without shared memory such as the ring, MB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3


def memory_directory(parent: str | None) -> "tempfile.TemporaryDirectory[str]":
    """Return a temporary folder in memory, so that neither the ring nor the products wait for a disk."""
    return tempfile.TemporaryDirectory(dir=parent or MEMORY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--send", nargs=4, metavar="WORD", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=90.0, help="duration of each run, s")
    parser.add_argument(
        "--mhz",
        type=float,
        default=100.0,
        help="bandwidth in the header of the stream, MHz; it sets the length of blocks",
    )
    parser.add_argument("--folder", help="folder for ring, spool and store; default: in memory")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/node.json"))
    arguments = parser.parse_args()
    if arguments.send:
        endpoint, mhz, seconds, pace = arguments.send
        send(endpoint, float(mhz), float(seconds), float(pace) or None)
        return
    with memory_directory(arguments.folder) as folder:
        free = run(Path(folder), arguments.mhz, arguments.seconds, None)
    rates = [rate / 1e6 for rate in free.rates()]
    sustained = float(np.median(rates))
    with memory_directory(arguments.folder) as folder:
        paced = run(Path(folder), arguments.mhz, arguments.seconds, 0.9 * sustained)
    result = {
        "sustained_mhz": round(sustained, 1),
        "windows_mhz": [round(rate, 1) for rate in rates],
        "bytes_per_second": round(sustained * 1e6 * SAMPLE_BYTES),
        "lost_samples": free.lost,
        "at_nine_tenths": {
            "mhz": round(0.9 * sustained, 1),
            "reduced_mhz": round(float(np.median(paced.rates())) / 1e6, 1),
            "sender_held_seconds": round(paced.sent["held"], 2),
            "lost_samples": paced.lost,
            "lag_samples_seconds_of_header": [round(lag, 2) for lag in paced.lags[:: max(1, len(paced.lags) // 10)]],
            "latency_p50_seconds": round(paced.latency(50), 2),
            "latency_p99_seconds": round(paced.latency(99), 2),
        },
        "load_before": os.getloadavg()[0],
    }
    write_result(arguments.out, result)


if __name__ == "__main__":
    main()
