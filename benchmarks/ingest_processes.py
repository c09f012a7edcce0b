"""The processes of :mod:`benchmarks.ingest`: sender, ZeroMQ input and reader, and the baselines without checks.

``python -m benchmarks.ingest_processes NAME ARGUMENTS`` runs one, with its arguments as a JSON list. They print their
results as lines of JSON, and stop when the pipe at stdin closes or after a given time.
"""

import json
import mmap
import resource
import socket
import struct
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import zmq

from edgefilter.core.chunk import Loss
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.node.malloc import keep_freed_memory
from edgefilter.node.receiver.input import Input, InputSettings
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.sources.live.curve_keys import load_key_pair, load_public_key
from edgefilter.sources.live.zmq_input import ZmqInput
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
SEND_HWM = 8  # frames in the queue of the sender
POOL_FRAMES = 4 * SEND_HWM


def send_frames(endpoint: str, frame_bytes: int, rate: float, keys: str) -> None:
    """Send frames until the pipe at stdin closes, at a rate in bytes/s (0 is as fast as possible); print the total."""
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
    """Return frames to send in turn: enough that none is changed while it is queued."""
    noise = np.random.default_rng(1).bytes(frame_bytes)
    return [bytearray(64) + noise for _ in range(POOL_FRAMES)]


def receive_frames(path: str, endpoint: str, policy: str, keys: str, keep_memory: bool) -> None:
    """Run a ZeroMQ input until the pipe at stdin closes; print its endpoint, and at the end its counters."""
    curve = {"curve_key": f"{keys}/node.key_secret", "curve_clients": f"{keys}/clients"} if keys else {}

    def on_stream(stream: Stream) -> None:
        RingWriter.create(path, stream, RING_BYTES // stream.sample_bytes, policy).close()
        zmq_input.set_ring(path)
        began.append(_cpu_and_page_faults())

    if keep_memory:
        keep_freed_memory()  # as the receiver process does
    began: list[tuple[float, int]] = []
    # After the reader has ended the ring stays full: do not wait long for free space.
    zmq_input = Input(InputSettings(endpoint, **curve), ZmqInput, on_stream, drain_seconds=0.5)
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
    """Return CPU time, s, and page faults of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_minflt


def read_ring(path: str, seconds: float) -> None:
    """Read every byte of a ring; print the rate in bytes/s and the lost samples."""
    with RingReader.attach(path, "reader", timeout=30.0) as ring:
        assert ring.wait_for_first_sample(30.0) is not None
        at = ring.head  # skip what arrived while this process was starting
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
                continue  # the next read reports the overrun
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
        ring.detach()  # so that the writer does not wait for this reader


def baseline_send(port: int, frame_bytes: int) -> None:
    """Send frames until the receiver closes the connection."""
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
    """Receive frames into one buffer, or with a path into slots of shared memory; print the port, then the rate."""
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
    """Read every byte of the slots; print the rate in bytes/s."""
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
    words[1] = 1 << 62  # so that the receiver does not wait for this reader


def _baseline_ring(path: str, frame_bytes: int) -> "tuple[memoryview[int], memoryview[int]]":
    """Return the counters of written and read frames, and the slots."""
    size = RING_BYTES // frame_bytes * frame_bytes
    with Path(path).open("r+b") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 4096 + size, mmap.MAP_SHARED | mmap.MAP_POPULATE))
    return whole[:4096].cast("Q"), whole[4096:]


def _receive_exactly(incoming: socket.socket, buffer: "memoryview[int]") -> None:
    while buffer:
        got = incoming.recv_into(buffer, 0, socket.MSG_WAITALL)
        if not got:
            raise SystemExit  # the sender has closed the connection
        buffer = buffer[got:]


PROCESSES = {
    process.__name__: process
    for process in (send_frames, receive_frames, read_ring, baseline_send, baseline_receive, baseline_read)
}

if __name__ == "__main__":
    PROCESSES[sys.argv[1]](*json.loads(sys.argv[2]))
