"""Rate of the input: ZeroMQ over TCP loopback, a ZeroMQ input, the ring, and a second process that reads every byte.

``python -m benchmarks.ingest`` measures, for several frame sizes, over TCP, over ipc and with CURVE, the rate of the
input with all its work (checks, counters, placing, gaps). The same run measures two baselines, which check and count
nothing and send the same number of different frames from memory:

* *socket to ring*: ``recv_into`` straight into shared memory, a third process reads every byte: the reference;
* *socket*: the same into one buffer, which no process reads.

Under the policy *hold* the sender is held back and nothing is lost, so the rate of a sender that never pauses is the
highest sustainable rate. Runs are short and alternate, in both orders, because the speed of a machine varies. The
result is the median of the ratios of neighbouring runs; its 95 % interval is that of order statistics (of the sign
test), which assumes no distribution. Finally a sender at 90 % of the lower bound sends into a ring that drops its
oldest samples: none may be missing or overwritten.

If other programs use the same cores, ``chrt -r 1 python -m benchmarks.ingest`` keeps them away: the input wakes more
threads than the baseline, and each waits for the time slice of another program. The result says how it was run.

``--compare-heap`` alternates runs with and without :func:`~edgefilter.node.malloc.keep_freed_memory` in the process of
the input and prints CPU time and page faults per GB; it writes no file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ingest_processes import RING_BYTES, STREAM
from benchmarks.machine import describe
from edgefilter.node.malloc import memcpy_environment
from edgefilter.node.ring import Policy
from edgefilter.sources.live.curve_keys import make_key_pair

SCHEDULING = {os.SCHED_OTHER: "normal", os.SCHED_FIFO: "real time", os.SCHED_RR: "real time, round robin"}


@dataclass(frozen=True)
class Case:
    """A case: transport (tcp or ipc), bytes of a frame, and whether it is encrypted."""

    transport: str
    frame_bytes: int
    curve: bool = False

    @property
    def name(self) -> str:
        return f"{self.transport}, {self.frame_bytes >> 10} KiB" + (", CURVE" if self.curve else "")


@contextmanager
def start_process(name: str, *arguments: object) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.ingest_processes", name, json.dumps(arguments, default=str)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | (memcpy_environment() if name == "receive_frames" else {}),  # as the supervisor does
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, f"{process.args} ended without a result"
    return line


def finish(process: "subprocess.Popen[str]") -> Any:
    assert process.stdin is not None
    process.stdin.close()
    return json.loads(read_line(process))


def run_zmq_input(
    case: Case, folder: Path, seconds: float, policy: Policy = Policy.HOLD, rate: float = 0.0, keep_memory: bool = True
) -> dict[str, Any]:
    path = folder / "ring"
    path.unlink(missing_ok=True)
    endpoint = "tcp://127.0.0.1:*" if case.transport == "tcp" else f"ipc://{folder}/endpoint"
    keys = str(folder) if case.curve else ""
    with (
        start_process("receive_frames", path, endpoint, policy, keys, keep_memory) as input_process,
        start_process("read_ring", path, seconds) as reader,
    ):
        with start_process("send_frames", read_line(input_process), case.frame_bytes, rate, keys) as sender:
            result: dict[str, Any] = json.loads(read_line(reader))
            sent = finish(sender)
        input_report = finish(input_process)
    path.unlink()
    counters = input_report["counters"]
    assert not counters["malformed"]
    assert not counters["late"]
    assert counters["repeated"] == 0
    gigabytes = counters["bytes"] / 1e9
    costs = {
        "cpu_seconds_per_gb": input_report["cpu"] / gigabytes,
        "page_faults_per_gb": input_report["page_faults"] / gigabytes,
    }
    return result | costs | {"sent": sent}


def run_baseline(case: Case, folder: Path, seconds: float, ring: bool) -> float:
    path = folder / "baseline"
    if ring:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 4096 + RING_BYTES)
    with start_process(
        "baseline_receive", path if ring else "", case.frame_bytes, seconds + ring * 1.0
    ) as input_process:
        port = int(read_line(input_process))
        if not ring:
            with start_process("baseline_send", port, case.frame_bytes):
                return float(json.loads(read_line(input_process))["rate"])
        with (
            start_process("baseline_read", path, case.frame_bytes, seconds) as reader,
            start_process("baseline_send", port, case.frame_bytes),
        ):
            rate = float(json.loads(read_line(reader))["rate"])
    path.unlink()
    return rate


def median_interval(values: list[float]) -> dict[str, float]:
    """Return the median and its 95 % interval: the narrowest pair of order statistics, or the extremes."""
    values, count = sorted(values), len(values)
    outside = below = 0
    while below < count // 2 and 2 * (outside + comb(count, below)) <= 0.05 * 2**count:
        outside += comb(count, below)
        below += 1
    low = max(0, below - 1)
    return {"median": median(values), "low": values[low], "high": values[-1 - low], "best": values[-1]}


def measure(case: Case, folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Alternate the input with its baselines, which exist for TCP without CURVE."""
    cpu_seconds: list[float] = []

    def zmq_input() -> float:
        result = run_zmq_input(case, folder, seconds)
        assert result["missing"] == result["overrun"] == 0
        cpu_seconds.append(result["cpu_seconds_per_gb"])
        return float(result["rate"])

    variants = {"gb_per_s": zmq_input}
    if case.transport == "tcp" and not case.curve:
        variants["socket_to_ring_gb_per_s"] = lambda: run_baseline(case, folder, seconds, ring=True)
        variants["socket_gb_per_s"] = lambda: run_baseline(case, folder, seconds, ring=False)
    rates: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(rounds):
        for variant in list(variants) if number % 2 else reversed(variants):
            rates[variant].append(variants[variant]() / 1e9)
    row: dict[str, Any] = {"case": case.name, "rounds": rounds, "receiver_cpu_s_per_gb": min(cpu_seconds)}
    row |= {variant: median_interval(found) for variant, found in rates.items()}
    for variant in list(variants)[1:]:
        ratios = [ours / theirs for ours, theirs in zip(rates["gb_per_s"], rates[variant], strict=True)]
        row["over_" + variant.removesuffix("_gb_per_s")] = median_interval(ratios)
    show(row)
    return row


def show(row: dict[str, Any]) -> None:
    rate = row["gb_per_s"]
    line = f"{row['case']:20} {rate['median']:5.2f} GB/s [{rate['low']:.2f}, {rate['high']:.2f}]"
    for baseline in ("socket_to_ring", "socket"):
        if ratio := row.get(f"over_{baseline}"):
            line += f"  {ratio['median']:.0%} [{ratio['low']:.0%}, {ratio['high']:.0%}] of {baseline.replace('_', ' ')}"
            line += f" ({row[f'{baseline}_gb_per_s']['median']:.2f})"
    print(line, flush=True)


def run_paced(case: Case, folder: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Send at a rate in bytes/s into a ring that drops its oldest samples."""
    result = run_zmq_input(case, folder, seconds, Policy.DROP_OLDEST, rate)
    sent = result["sent"]
    return {
        "case": case.name,
        "paced_at_gb_per_s": rate / 1e9,
        "sender_reached_gb_per_s": sent["samples"] * STREAM.sample_bytes / sent["seconds"] / 1e9,
        "missing_samples": result["missing"],
        "overwritten_samples": result["overrun"],
    }


def compare_heap(folder: Path, runs: int, seconds: float) -> None:
    """Print the cost of the input with and without keeping freed memory."""
    costs: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for run in range(2 * runs):
        keep = run % 2 == 0
        costs[keep].append(run_zmq_input(Case("tcp", 1 << 20), folder, seconds, keep_memory=keep))
    for keep, name in ((True, "kept"), (False, "returned")):
        cpu = min(cost["cpu_seconds_per_gb"] for cost in costs[keep])
        faults = min(cost["page_faults_per_gb"] for cost in costs[keep])
        rate = max(cost["rate"] for cost in costs[keep]) / 1e9
        print(f"freed memory {name:8}: {cpu:.2f} s/GB, {faults:6.0f} page faults/GB, {rate:.2f} GB/s at best")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=20, help="with frames of 1 MiB over TCP; half as many in other cases"
    )
    parser.add_argument("--seconds", type=float, default=0.8, help="of each run")
    parser.add_argument("--compare-heap", action="store_true", help="measure the effect of keep_freed_memory()")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ingest.json"))
    arguments = parser.parse_args()
    rounds, seconds = arguments.rounds, arguments.seconds
    load = os.getloadavg()[0]  # of other programs: it affects the result
    frames = Case("tcp", 1 << 20)
    others = [Case("tcp", 1 << 20, curve=True), Case("ipc", 1 << 20), Case("tcp", 1 << 18), Case("tcp", 1 << 22)]
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="edgefilter-ingest-") as name:
        folder = Path(name)
        for where, owner in ((folder, "node"), (folder / "clients", "dish")):
            make_key_pair(where, owner)
        (folder / "clients" / "dish.key_secret").rename(folder / "dish.key_secret")
        if arguments.compare_heap:
            compare_heap(folder, rounds // 2, seconds)
            return
        rows = [measure(frames, folder, rounds, seconds)]
        rows += [measure(case, folder, max(1, rounds // 2), seconds) for case in others]
        confirmed = run_paced(frames, folder, 0.9e9 * rows[0]["gb_per_s"]["low"], 5 * seconds)
    print(json.dumps(confirmed, indent=1))
    result = {
        "seconds": seconds,
        "scheduling": SCHEDULING.get(os.sched_getscheduler(0), "other"),
        "nice": os.nice(0),
        "load_before": load,
        "rows": rows,
        "paced": confirmed,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result | {"machine": describe()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
