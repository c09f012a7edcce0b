"""What the tests of the ring share: samples that carry their own number, and that of the frame that brought them."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np

from edgefilter.core.chunk import Chunk
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.node.ring import Policy, RingReader, RingWriter, WriteResult

# A sample is 16 bytes: its own number and the number of the frame that brought it.
STREAM = Stream("test", SampleKind.POWER, 0, Fraction(1000), 16, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)
PAGE = 256
"""Samples in a page, the smallest ring."""
WAIT = 30.0


def payload(start: int, samples: int, frame: int = 0) -> bytes:
    numbers = np.zeros((samples, 2), np.uint64)
    numbers[:, 0] = np.arange(start, start + samples, dtype=np.uint64)
    numbers[:, 1] = frame
    return numbers.tobytes()


def put(ring: RingWriter, start: int, stop: int, frame: int = 0) -> WriteResult:
    return ring.write(start, payload(start, stop - start, frame))


def contents(chunk: Chunk) -> dict[int, int]:
    """Sample numbers that a chunk has, and the frame that brought each."""
    numbers = chunk.data.reshape(-1).view(np.uint64).reshape(-1, 2)
    found = {}
    for at in np.flatnonzero(chunk.valid()):
        assert numbers[at, 0] == chunk.start + at
        found[int(chunk.start + at)] = int(numbers[at, 1])
    return found


@contextmanager
def ring(
    folder: Path, capacity: int = PAGE, policy: Policy = Policy.HOLD, slack: int = 0, stream: Stream = STREAM
) -> Iterator[tuple[RingWriter, RingReader]]:
    """A new ring with a reader."""
    path = folder / "ring"
    with (
        RingWriter.create(path, stream, capacity, policy, slack) as writer,
        RingReader.attach(path, "reader") as reader,
    ):
        yield writer, reader
    path.unlink()
