"""A source in memory, and a ZeroMQ input with a ring that receives what is sent from it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgefilter.core.chunk import Chunk, Gap, clip_gaps
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.node.receiver.input import Input, InputSettings
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.sources.live.zmq_input import ZmqInput
from edgefilter.sources.live.zmq_sender import SendOptions, SendReport, send

STREAM = Stream("test", SampleKind.POWER, 0, Fraction(1000), 8, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)
WAIT = 20.0
"""Time limit of a wait, s."""


class MemorySource:
    """A source in memory, which reports its reads."""

    warnings: tuple[str, ...] = ()
    stream = STREAM

    def __init__(
        self, samples: int, gaps: tuple[Gap, ...] = (), on_read: Callable[[int], None] = lambda _: None
    ) -> None:
        self.samples = samples
        self.gaps = gaps
        self.on_read = on_read
        self.data = np.random.default_rng(1).integers(0, 256, (samples, STREAM.sample_bytes), np.uint8)

    def read(self, start: int, stop: int) -> Chunk:
        assert 0 <= start <= stop <= self.samples
        self.on_read(start)
        return Chunk(start, self.data[start:stop], clip_gaps(self.gaps, start, stop))

    def close(self) -> None:
        pass


def send_source(
    source: MemorySource,
    endpoint: str,
    speed: float | None = None,
    *,
    drop: Callable[[int], bool] | None = None,
    stop: threading.Event | None = None,
    **options: Any,
) -> SendReport:
    """Send, by default as fast as the receiver takes it; ``options`` are fields of SendOptions."""
    return send(source, endpoint, speed, drop, stop, SendOptions(**options))


class Listener:
    """A ZeroMQ input that runs in a thread, and a reader of its ring."""

    def __init__(self, folder: Path, capacity: int, **fields: Any) -> None:
        self.path = folder / "ring"
        self.capacity = capacity
        fields = {"name": "main", "endpoint": "tcp://127.0.0.1:*"} | fields
        self.zmq_input = Input(InputSettings(**fields), ZmqInput, self.on_stream)
        self.endpoint = self.zmq_input.endpoint
        self.thread = threading.Thread(target=self.zmq_input.run, daemon=True)
        self.thread.start()

    def on_stream(self, stream: Stream) -> None:
        RingWriter.create(self.path, stream, self.capacity).close()
        self.zmq_input.set_ring(self.path)

    def reader(self) -> RingReader:
        return RingReader.attach(self.path, "reader", timeout=WAIT)

    def wait_for_end(self) -> RingReader:
        """Wait for the end of the stream."""
        reader = self.reader()
        wait_until(lambda: reader.last is not None)
        return reader

    def stop(self) -> None:
        self.zmq_input.drain()
        self.thread.join(WAIT)
        assert not self.thread.is_alive()


@contextmanager
def listener(capacity: int = 5000, **fields: Any) -> Iterator[Listener]:
    with TemporaryDirectory() as folder:
        listening = Listener(Path(folder), capacity, **fields)
        try:
            yield listening
        finally:
            listening.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    event = threading.Event()
    for _ in range(2000):
        if condition():
            return
        event.wait(0.01)
    raise AssertionError("the condition did not become true within 20 s")


def assert_same_samples(ring: RingReader, source: MemorySource, gaps: tuple[Gap, ...]) -> None:
    chunk = ring.read(0, source.samples)
    assert chunk.gaps == gaps
    valid = chunk.valid()
    assert np.array_equal(chunk.data[valid], source.data[valid])
