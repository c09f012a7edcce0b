"""Coverage-guided fuzzing of the messages to a node, through the ZeroMQ input into a ring.

``pip install atheris`` into a separate environment, then ``python -m tests.helpers.fuzz_frames -max_total_time=600``.
It stops at the first message that raises, or that puts samples into the ring which no valid frame had.
tests/node/receiver/test_fuzz.py feeds the same target from hypothesis, in every test run.
"""

import atexit
import sys
import tempfile
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from edgefilter.core.errors import WireError
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.node.receiver.input import Input, InputSettings
from edgefilter.node.ring import Policy, RingReader, RingWriter
from edgefilter.sources.live.base import Event
from edgefilter.sources.live.zmq_input import ZmqInput
from edgefilter.sources.live.zmq_wire import (
    HEADER_BYTES,
    MessageKind,
    pack_end,
    pack_frame_header,
    pack_stream,
    parse_message,
)

STREAM = Stream("fuzz", SampleKind.POWER, 0, Fraction(1000), 8, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)


class FuzzedInput(ZmqInput):
    """A ZeroMQ input that receives the message which it is given."""

    message = b""

    def receive(self, timeout: float) -> Sequence[Event]:
        return (self.parse(self.message),)


class FuzzTarget:
    """A ZeroMQ input without a sender, a ring that drops its oldest samples, and the samples it must hold."""

    def __init__(self, folder: Path) -> None:
        self.ring = folder / "ring"
        settings = InputSettings(f"ipc://{folder}/endpoint", ring=str(self._create_ring()), max_gap_seconds=10.0)
        self.zmq_input = Input(settings, FuzzedInput, lambda stream: None)
        self.zmq_input.retire()  # a frame after the end begins a run, and nobody reduces the last one: it must not wait
        self.reader = RingReader.attach(self.ring, "reader", hold=False)
        self.expected: dict[int, bytes] = {}

    def _create_ring(self) -> Path:
        RingWriter.create(self.ring, STREAM, 1, Policy.DROP_OLDEST).close()
        return self.ring

    def feed(self, message: bytes) -> None:
        """Give the input one message, and compare the ring with the expected samples."""
        before = self.zmq_input.counters.samples
        first_decided, ended = self.reader.final, self.reader.last is not None
        self.zmq_input._live_input.message = message  # type: ignore[attr-defined]
        self.zmq_input._receive(0.0)
        written = self.zmq_input.counters.samples - before
        try:
            header, payload = parse_message(message)
        except WireError:
            assert written == 0
            return
        if written:
            assert header.kind is MessageKind.FRAME
            assert not ended
            for sample in range(
                max(header.start, first_decided if self.expected else header.start), header.start + header.samples
            ):
                at = (sample - header.start) * STREAM.sample_bytes
                self.expected.setdefault(sample, bytes(payload[at : at + STREAM.sample_bytes]))
        self.compare()

    def compare(self) -> None:
        """Check each sample in the ring."""
        tail = self.reader.tail
        self.expected = {sample: data for sample, data in self.expected.items() if sample >= tail}
        stop = min(self.reader.final, self.reader.head)
        if stop <= tail:
            return
        chunk = self.reader.read(tail, stop)
        for at, valid in enumerate(chunk.valid()):
            assert valid == (tail + at in self.expected)
            assert not valid or bytes(chunk.data[at]) == self.expected[tail + at]


def seeds() -> list[bytes]:
    """Return messages of every kind to start from."""
    frames = [pack_frame_header(STREAM, start, 10) + bytes(range(80)) for start in (0, 10, 500, 1 << 40)]
    return [pack_stream(STREAM), pack_end(STREAM, 1000), *frames]


def with_checksum(data: bytes) -> bytes:
    """Correct the header checksum of a message, so that mutations pass it."""
    if len(data) < HEADER_BYTES:
        return data
    return data[: HEADER_BYTES - 4] + zlib.crc32(data[: HEADER_BYTES - 4]).to_bytes(4, "little") + data[HEADER_BYTES:]


def main() -> None:
    import atheris

    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    corpus = Path(folder.name) / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / str(number)).write_bytes(seed)
    target: list[FuzzTarget] = []

    def feed_one(data: bytes) -> None:
        # A ring that has ended accepts nothing: start with a new one.
        if not target or target[0].reader.last is not None:
            for old in target:
                old.zmq_input.close()
                old.reader.close()
                old.ring.unlink()
            target[:] = [FuzzTarget(Path(folder.name))]
            target[0].feed(seeds()[2])
        target[0].feed(data)

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        mutated = atheris.Mutate(data, size)
        return with_checksum(mutated) if seed % 8 else mutated

    atheris.instrument_all()
    atheris.Setup([*sys.argv, str(corpus)], feed_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
