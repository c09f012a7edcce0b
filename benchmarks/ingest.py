"""How fast samples come in: ZeroMQ over TCP loopback, an input, the ring, and a second process that reads every byte.

``python -m benchmarks.ingest`` measures, for several sizes of frames, over TCP, over ipc and with CURVE, the rate that
the input takes with everything on (checks, counters, placing, gaps), beside two baselines in the same run, which check
nothing, count nothing and send as many different frames from memory:

* *socket to ring*: ``recv_into`` straight into shared memory, a third process reads every byte: the measure;
* *socket*: the same into one buffer, which nobody reads.

Under the policy *hold* the sender is held back and nothing is lost, so the rate that a sender reaches which never rests
is the highest that can be sustained. Runs are short and alternate, forwards and backwards, because a machine is faster
at one moment than at the next. What counts is the median of the ratios of neighbouring runs; its 95 % interval is that
of order statistics (the sign test's), which assumes nothing of how they are spread. At last a sender paced at 90 % of
the lower bound plays into a ring that drops the oldest: nothing may be missing and nothing overwritten.

Where others work on the same cores, ``chrt -r 1 python -m benchmarks.ingest`` keeps them out: the input has more
threads to wake than the baseline, and each waits for the slice of whoever has the core. The result says how it was run.

``--compare-heap`` instead alternates runs with and without :func:`~edgefilter.node.malloc.keep_freed_memory` in the
process of the input and says what processor time and page faults a GB costs; it writes no file.
"""

import argparse
import json
import mmap
import os
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zmq

from benchmarks.machine import describe
from edgefilter.core.chunk import Loss
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.node.malloc import keep_freed_memory, memcpy_environment
from edgefilter.node.receiver.zmq_input import ZmqInput, ZmqInputSettings
from edgefilter.node.ring import Policy, RingReader, RingWriter
from edgefilter.sources.live.curve_keys import load_key_pair, load_public_key, make_key_pair
from edgefilter.sources.live.zmq_wire import pack_frame_header, pack_stream

STREAM = Stream(
    "bench",
    SampleKind.VOLTAGE,
    0,
    Fraction(100_000_000),
    1,
    6e8,
    1e8,
    ("X", "Y"),
    8,
    Encoding.SIGNED,
    complex_samples=True,
)
RING_BYTES = 256 << 20
READ_BYTES = 4 << 20
WARMUP_SECONDS = 0.3
SCHEDULING = {os.SCHED_OTHER: "normal", os.SCHED_FIFO: "real time", os.SCHED_RR: "real time, round robin"}
SEND_HWM = 8  # frames that a sender may have on its way
POOL_FRAMES = 4 * SEND_HWM


@dataclass(frozen=True)
class Case:
    """What is measured: transport (tcp or ipc), bytes of a frame, and whether it is encrypted."""

    transport: str
    frame_bytes: int
    curve: bool = False

    @property
    def name(self) -> str:
        return f"{self.transport}, {self.frame_bytes >> 10} KiB" + (", CURVE" if self.curve else "")


# --- the parts, each a process of its own


def send_frames(endpoint: str, frame_bytes: int, rate: float, keys: str) -> None:
    """Send frames for ever, or paced at a rate in bytes/s; say how many when the pipe at stdin closes."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.setsockopt(zmq.SNDHWM, SEND_HWM)
        push.setsockopt(zmq.LINGER, 5000)
        push.setsockopt(zmq.SNDTIMEO, 200)
        if keys:
            pair = load_key_pair(Path(keys) / "dish.key_secret")
            push.curve_publickey, push.curve_secretkey = pair.public, pair.secret
            push.curve_serverkey = load_public_key(Path(keys) / "node.key")
        push.connect(endpoint)
        push.send(pack_stream(STREAM))
        samples = frame_bytes // STREAM.sample_bytes
        pool = _messages(frame_bytes)
        frames, began = 0, time.monotonic()
        closed = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
        while not closed.is_set():
            if rate and (seconds_ahead := began + frames * frame_bytes / rate - time.monotonic()) > 0:
                time.sleep(seconds_ahead)
            message = pool[frames % POOL_FRAMES]
            message[:64] = pack_frame_header(STREAM, frames * samples, samples)
            try:
                push.send(message, copy=False)
            except zmq.Again:
                continue
            frames += 1
        print(json.dumps({"samples": frames * samples, "seconds": time.monotonic() - began}), flush=True)


def _messages(frame_bytes: int) -> list[bytearray]:
    """Frames to send in turn: enough that none is changed while it is on its way."""
    noise = np.random.default_rng(1).bytes(frame_bytes)
    return [bytearray(64) + noise for _ in range(POOL_FRAMES)]


def receive_frames(path: str, endpoint: str, policy: str, keys: str, heap: str) -> None:
    """Run a ZeroMQ input until the pipe at stdin closes; say where it listens, then what it counted."""
    curve = {"curve_key": f"{keys}/node.key_secret", "curve_clients": f"{keys}/clients"} if keys else {}

    def on_stream(stream: Stream) -> None:
        RingWriter.create(path, stream, RING_BYTES // stream.sample_bytes, policy).close()
        zmq_input.set_ring(path)
        began.append(_cpu_and_page_faults())

    if heap:
        keep_freed_memory()  # as the receiver process does
    began: list[tuple[float, int]] = []
    # Once the reader has gone the ring stays full: no use in waiting for room.
    zmq_input = ZmqInput(ZmqInputSettings("main", endpoint, **curve), on_stream, drain_seconds=0.5)
    print(zmq_input.endpoint, flush=True)
    thread = threading.Thread(target=zmq_input.run)
    thread.start()
    sys.stdin.read()
    zmq_input.drain()
    thread.join()
    (cpu, faults), (cpu_before, faults_before) = _cpu_and_page_faults(), began[0]
    fields = {
        "counters": zmq_input.status()["counters"],
        "cpu": cpu - cpu_before,
        "page_faults": faults - faults_before,
    }
    print(json.dumps(fields), flush=True)


def _cpu_and_page_faults() -> tuple[float, int]:
    """Processor time, s, and page faults of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_minflt


def read(path: str, seconds: float) -> None:
    """Read every byte of a ring; say how many a second, and what was lost."""
    with RingReader.attach(path, "reader", timeout=30.0) as ring:
        assert ring.wait_for_first_sample(30.0) is not None
        at = ring.head  # what came while this process was starting does not count
        ring.release(at)
        window = READ_BYTES // ring.stream.sample_bytes
        lost = dict.fromkeys(Loss, 0)
        received_bytes, from_time = 0, time.monotonic() + WARMUP_SECONDS
        while (now := time.monotonic()) < from_time + seconds:
            if not ring.wait_until_ready(at + window, 1.0):
                break
            chunk = ring.read(at, at + window)
            np.bitwise_xor.reduce(chunk.data.reshape(-1).view(np.uint64))
            if not ring.still_valid(chunk):
                continue  # the next look finds it overrun
            for gap in chunk.gaps:
                lost[gap.reason] += gap.stop - gap.start
            at += window
            ring.release(at)
            received_bytes += READ_BYTES * (now >= from_time)
        elapsed = time.monotonic() - from_time
        print(
            json.dumps(
                {"rate": received_bytes / elapsed, "missing": lost[Loss.MISSING], "overrun": lost[Loss.OVERRUN]}
            ),
            flush=True,
        )
        ring.detach()  # so that nobody waits for it


def baseline_send(port: int, frame_bytes: int) -> None:
    pool = _messages(frame_bytes)
    with socket.create_connection(("127.0.0.1", port)) as out:
        try:
            for frame in range(1 << 62):
                message = pool[frame % POOL_FRAMES]
                struct.pack_into("<Q", message, 0, frame)
                out.sendall(message)
        except OSError:
            pass


def baseline_receive(path: str, frame_bytes: int, seconds: float) -> None:
    """Receive frames into one buffer, or, if there is a path, into the slots of shared memory."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        incoming, _ = listening.accept()
    words, slots = _baseline_ring(path, frame_bytes) if path else (memoryview(bytearray(16)).cast("Q"), None)
    count = 1 if slots is None else len(slots) // frame_bytes
    buffer = memoryview(bytearray(frame_bytes)) if slots is None else slots
    header = bytearray(64)
    received_bytes, from_time = 0, time.monotonic() + WARMUP_SECONDS
    while (now := time.monotonic()) < from_time + seconds:
        _receive_exactly(incoming, memoryview(header))
        (frame,) = struct.unpack_from("<Q", header)
        while slots is not None and frame - words[1] >= count:
            time.sleep(0.0005)
        at = frame % count * frame_bytes
        _receive_exactly(incoming, buffer[at : at + frame_bytes])
        words[0] = frame + 1
        received_bytes += frame_bytes * (now >= from_time)
    incoming.close()
    print(json.dumps({"rate": received_bytes / (time.monotonic() - from_time)}), flush=True)


def baseline_read(path: str, frame_bytes: int, seconds: float) -> None:
    words, slots = _baseline_ring(path, frame_bytes)
    count = len(slots) // frame_bytes
    data = np.frombuffer(slots, np.uint64).reshape(count, -1)
    received_bytes, from_time, frame = 0, time.monotonic() + WARMUP_SECONDS, 0
    while (now := time.monotonic()) < from_time + seconds:
        if words[0] <= frame:
            time.sleep(0.0005)
            continue
        np.bitwise_xor.reduce(data[frame % count])
        frame += 1
        words[1] = frame
        received_bytes += frame_bytes * (now >= from_time)
    print(json.dumps({"rate": received_bytes / (time.monotonic() - from_time)}), flush=True)
    words[1] = 1 << 62  # so that nobody waits for it


def _baseline_ring(path: str, frame_bytes: int) -> "tuple[memoryview[int], memoryview[int]]":
    size = RING_BYTES // frame_bytes * frame_bytes
    with Path(path).open("r+b") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 4096 + size, mmap.MAP_SHARED | mmap.MAP_POPULATE))
    return whole[:4096].cast("Q"), whole[4096:]


def _receive_exactly(incoming: socket.socket, buffer: "memoryview[int]") -> None:
    while buffer:
        got = incoming.recv_into(buffer, 0, socket.MSG_WAITALL)
        if not got:
            raise SystemExit  # the sender has gone
        buffer = buffer[got:]


# --- runs


@contextmanager
def start_part(*arguments: object) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.ingest", "--part", *(str(argument) for argument in arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | (memcpy_environment() if arguments[0] == "receive_frames" else {}),  # as the supervisor does
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, f"{process.args} ended without a word"
    return line


def finish(process: "subprocess.Popen[str]") -> Any:
    assert process.stdin is not None
    process.stdin.close()
    return json.loads(read_line(process))


def run_zmq_input(
    case: Case, folder: Path, seconds: float, policy: Policy = Policy.HOLD, rate: float = 0.0, heap: bool = True
) -> dict[str, Any]:
    path = folder / "ring"
    path.unlink(missing_ok=True)
    endpoint = "tcp://127.0.0.1:*" if case.transport == "tcp" else f"ipc://{folder}/endpoint"
    keys = str(folder) if case.curve else ""
    with (
        start_part("receive_frames", path, endpoint, policy, keys, "heap" if heap else "") as input_process,
        start_part("read", path, seconds) as reader,
    ):
        with start_part("send_frames", read_line(input_process), case.frame_bytes, rate, keys) as sender:
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
    with start_part("baseline_receive", path if ring else "", case.frame_bytes, seconds + ring * 1.0) as input_process:
        port = read_line(input_process)
        if not ring:
            with start_part("baseline_send", port, case.frame_bytes):
                return float(json.loads(read_line(input_process))["rate"])
        with (
            start_part("baseline_read", path, case.frame_bytes, seconds) as reader,
            start_part("baseline_send", port, case.frame_bytes),
        ):
            rate = float(json.loads(read_line(reader))["rate"])
    path.unlink()
    return rate


def median_interval(values: list[float]) -> dict[str, float]:
    """Median, and the narrowest pair of order statistics that holds it with 95 % certainty, or all of the values."""
    values, count = sorted(values), len(values)
    outside = below = 0
    while below < count // 2 and 2 * (outside + comb(count, below)) <= 0.05 * 2**count:
        outside += comb(count, below)
        below += 1
    low = max(0, below - 1)
    return {"median": median(values), "low": values[low], "high": values[-1 - low], "best": values[-1]}


def measure(case: Case, folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Alternate the input with the baselines, where the case has any: they know neither ipc nor CURVE."""
    work: list[float] = []

    def zmq_input() -> float:
        result = run_zmq_input(case, folder, seconds)
        assert result["missing"] == result["overrun"] == 0
        work.append(result["cpu_seconds_per_gb"])
        return float(result["rate"])

    variants = {"gb_per_s": zmq_input}
    if case.transport == "tcp" and not case.curve:
        variants["socket_to_ring_gb_per_s"] = lambda: run_baseline(case, folder, seconds, ring=True)
        variants["socket_gb_per_s"] = lambda: run_baseline(case, folder, seconds, ring=False)
    rates: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(rounds):
        for variant in list(variants) if number % 2 else reversed(variants):
            rates[variant].append(variants[variant]() / 1e9)
    row: dict[str, Any] = {"case": case.name, "rounds": rounds, "receiver_cpu_s_per_gb": min(work)}
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
    """Play at a rate into a ring that drops the oldest."""
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
    """Say what memory that is kept spares the input."""
    costs: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for run in range(2 * runs):
        heap = run % 2 == 0
        costs[heap].append(run_zmq_input(Case("tcp", 1 << 20), folder, seconds, heap=heap))
    for heap, name in ((True, "kept"), (False, "given back")):
        cpu = min(cost["cpu_seconds_per_gb"] for cost in costs[heap])
        faults = min(cost["page_faults_per_gb"] for cost in costs[heap])
        rate = max(cost["rate"] for cost in costs[heap]) / 1e9
        print(f"memory {name:10}: {cpu:.2f} s/GB, {faults:6.0f} page faults/GB, at best {rate:.2f} GB/s")


def main() -> None:
    if sys.argv[1:2] == ["--part"]:
        run_part(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="with frames of 1 MiB; half as many otherwise")
    parser.add_argument("--seconds", type=float, default=0.8, help="of each run")
    parser.add_argument("--compare-heap", action="store_true", help="measure what keep_freed_memory() spares")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ingest.json"))
    arguments = parser.parse_args()
    rounds, seconds = arguments.rounds, arguments.seconds
    load = os.getloadavg()[0]  # of others: what a reader must know of a result from a busy machine
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


def run_part(name: str, words: list[str]) -> None:
    match name, words:
        case "send_frames", [endpoint, size, rate, keys]:
            send_frames(endpoint, int(size), float(rate), keys)
        case "receive_frames", [path, endpoint, policy, keys, heap]:
            receive_frames(path, endpoint, policy, keys, heap)
        case "read", [path, seconds]:
            read(path, float(seconds))
        case "baseline_send", [port, size]:
            baseline_send(int(port), int(size))
        case "baseline_receive", [path, size, seconds]:
            baseline_receive(path, int(size), float(seconds))
        case "baseline_read", [path, size, seconds]:
            baseline_read(path, int(size), float(seconds))


if __name__ == "__main__":
    main()
