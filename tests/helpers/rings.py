"""Helpers for tests of the ring: samples that contain their own number and the number of their frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np

from edgefilter.core.chunk import Chunk
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.node.ring import Policy, RingReader, RingWriter, WriteResult

# A sample is 16 bytes: its own number and the number of its frame.
STREAM = Stream("test", SampleKind.POWER, 0, Fraction(1000), 16, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)
PAGE = 256
"""Samples in a page, the smallest ring."""
WAIT = 30.0
"""Maximum time to wait, s."""


def payload(start: int, samples: int, frame: int = 0) -> bytes:
    numbers = np.zeros((samples, 2), np.uint64)
    numbers[:, 0] = np.arange(start, start + samples, dtype=np.uint64)
    numbers[:, 1] = frame
    return numbers.tobytes()


def put(ring: RingWriter, start: int, stop: int, frame: int = 0) -> WriteResult:
    return ring.write(start, payload(start, stop - start, frame))


def contents(chunk: Chunk) -> dict[int, int]:
    """Return the numbers of the valid samples of a chunk, and the frame of each."""
    numbers = chunk.data.reshape(-1).view(np.uint64).reshape(-1, 2)
    found = {}
    for at in np.flatnonzero(chunk.valid()):
        assert numbers[at, 0] == chunk.start + at
        found[int(chunk.start + at)] = int(numbers[at, 1])
    return found


def received_samples(ring: RingReader) -> set[int]:
    """Return the numbers of the samples in the table of intervals."""
    return {sample for start, stop in ring.snapshot().intervals for sample in range(start, stop)}


@contextmanager
def ring(
    folder: Path, capacity: int = PAGE, policy: Policy = Policy.HOLD, slack: int = 0, stream: Stream = STREAM
) -> Iterator[tuple[RingWriter, RingReader]]:
    """Yield the writer and a reader of a new ring."""
    path = folder / "ring"
    with (
        RingWriter.create(path, stream, capacity, policy, slack) as writer,
        RingReader.attach(path, "reader") as reader,
    ):
        yield writer, reader
    path.unlink()
