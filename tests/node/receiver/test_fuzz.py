"""The fuzz target with messages from hypothesis: none raises, and the ring has only samples of well-formed frames."""

import struct
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.sources.live.zmq_wire import HEADER_BYTES, pack_end, pack_frame_header, pack_stream, stream_key
from tests.helpers.fuzz_frames import STREAM, FuzzTarget, seeds, with_checksum

FRAMES = st.builds(
    lambda start, samples, salt: pack_frame_header(STREAM, start, samples) + bytes([salt]) * (8 * samples),
    st.integers(0, 2000) | st.integers(0, 1 << 62),
    st.integers(1, 200),
    st.integers(0, 255),
)
FORGED = st.builds(
    lambda kind, start, samples, skew, payload: with_checksum(
        struct.pack("<4sHH16sQQQ16x", b"EDGF", 1, kind, stream_key(STREAM), start, samples, len(payload) + skew)
        + payload
    ),
    st.integers(0, 4),
    st.integers(0, 3000) | st.integers(0, (1 << 64) - 1),
    st.integers(0, 50) | st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 0, 0, 1, 1 << 62]),
    st.binary(max_size=400),
)
BROKEN = st.builds(
    lambda seed, at, byte: (data := bytearray(seed)).__setitem__(at % len(data), byte) or with_checksum(bytes(data)),
    st.sampled_from(seeds()),
    st.integers(0, HEADER_BYTES + 10),
    st.integers(0, 255),
)
ENDS = st.builds(lambda sample: pack_end(STREAM, sample), st.integers(0, 5000))


@given(
    st.lists(st.one_of(FRAMES, FRAMES, FORGED, BROKEN, ENDS, st.just(pack_stream(STREAM)), st.binary()), max_size=40)
)
@settings(deadline=None, max_examples=60)
def test_no_message_raises_or_writes_samples_that_no_well_formed_frame_has(messages: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        target = FuzzTarget(Path(folder))
        for message in messages:
            target.feed(message)
        target.zmq_input.close()
        target.reader.close()
