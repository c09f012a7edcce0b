"""Packed messages are parsed to what they were, and all others are refused with a kind of error."""

import json
import struct
import zlib
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgefilter.core.errors import WireError
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.sources.live.zmq_wire import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    MessageHeader,
    MessageKind,
    check_frame,
    pack_end,
    pack_frame_header,
    pack_stream,
    parse_header,
    parse_message,
    parse_stream,
    stream_key,
)

STREAM = Stream("test", SampleKind.POWER, 7, Fraction(1000), 3, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)
FUZZ = settings(deadline=None, max_examples=100)


def make_header(**fields: int | bytes) -> bytes:
    """Return a header of any fields with their checksum."""
    values = {
        "magic": b"EDGF",
        "version": 1,
        "kind": 2,
        "digest": bytes(16),
        "start": 0,
        "samples": 1,
        "payload": 3,
        "reserved": bytes(12),
    }
    values.update(fields)
    data = struct.pack("<4sHH16sQQQ12s", *values.values())
    return data + struct.pack("<I", zlib.crc32(data))


def error_kind(data: bytes) -> str:
    with pytest.raises(WireError) as caught:
        parse_message(data)
    return caught.value.kind


def test_a_stream_message_is_parsed() -> None:
    header, payload = parse_message(pack_stream(STREAM))
    assert header == MessageHeader(MessageKind.STREAM, STREAM.digest[:16], 0, 0, len(STREAM.to_json()))
    assert parse_stream(header, payload) == STREAM


@given(st.integers(0, 2**63 - 101), st.integers(1, 100))
@settings(deadline=None, max_examples=30)
def test_a_frame_message_is_parsed(start: int, samples: int) -> None:
    raw = bytes(range(100)) * 3
    header, payload = parse_message(pack_frame_header(STREAM, start, samples) + raw[: 3 * samples])
    assert header == MessageHeader(MessageKind.FRAME, stream_key(STREAM), start, samples, 3 * samples)
    assert payload == raw[: 3 * samples]
    check_frame(header, STREAM)


def test_an_end_message_is_parsed() -> None:
    header, payload = parse_message(pack_end(STREAM, 12345))
    assert header == MessageHeader(MessageKind.END, stream_key(STREAM), 12345, 0, 0)
    assert not payload


def test_header_fields_are_at_their_offsets() -> None:
    assert pack_frame_header(STREAM, 5, 2) == make_header(digest=stream_key(STREAM), start=5, samples=2, payload=6)
    assert len(pack_frame_header(STREAM, 5, 2)) == HEADER_BYTES == 64


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"", "short"),
        (make_header()[:63], "short"),
        (make_header(magic=b"EDGE") + b"abc", "magic"),
        (make_header(version=2) + b"abc", "version"),
        (make_header(version=0) + b"abc", "version"),
        (make_header()[:-1] + b"\xff" + b"abc", "checksum"),
        (make_header(kind=0) + b"abc", "kind"),
        (make_header(kind=4) + b"abc", "kind"),
        (make_header(reserved=bytes(11) + b"\x01") + b"abc", "reserved"),
        (make_header(start=2**63 - 1, samples=1) + b"abc", "range"),
        (make_header(start=2**64 - 1, samples=2**64 - 1) + b"abc", "range"),
        (make_header(kind=1, start=1, samples=0) + b"abc", "range"),
        (make_header() + b"ab", "size"),
        (make_header() + b"abcd", "size"),
        (make_header(samples=0) + b"abc", "size"),
        (make_header(samples=0, payload=0), "size"),
        (make_header(payload=MAX_PAYLOAD + 1), "size"),
        (make_header(payload=2**64 - 1), "size"),
        (make_header(kind=3, samples=0) + b"abc", "size"),
        (make_header(kind=1, samples=0, payload=0), "size"),
    ],
)
def test_each_fault_has_its_kind(message: bytes, kind: str) -> None:
    assert error_kind(message) == kind


def test_a_frame_must_have_the_bytes_of_its_samples() -> None:
    header = parse_header(make_header(samples=2, payload=5))
    with pytest.raises(WireError) as caught:
        check_frame(header, STREAM)
    assert caught.value.kind == "size"


def test_numbers_out_of_range_are_not_packed() -> None:
    with pytest.raises(WireError, match="range"):
        pack_frame_header(STREAM, 2**63 - 1, 1)
    with pytest.raises(WireError, match="range"):
        pack_frame_header(STREAM, -1, 1)
    with pytest.raises(WireError, match="range"):
        pack_end(STREAM, 2**63)
    with pytest.raises(WireError, match="size"):
        pack_frame_header(STREAM, 0, MAX_PAYLOAD)
    with pytest.raises(WireError, match="size"):
        pack_frame_header(STREAM, 0, 0)
    with pytest.raises(WireError, match="size"):
        pack_stream(replace(STREAM, source="x" * 70000))


def test_a_description_of_another_stream_is_refused() -> None:
    header, _ = parse_message(pack_stream(STREAM))
    with pytest.raises(WireError) as caught:
        parse_stream(header, replace(STREAM, bits=16).to_json().encode())
    assert caught.value.kind == "digest"


@given(st.binary(max_size=200))
@FUZZ
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        parse_message(data)


@given(st.integers(0, HEADER_BYTES * 8 - 1))
@settings(deadline=None, max_examples=50)
def test_every_flipped_bit_of_a_header_is_found(bit: int) -> None:
    data = bytearray(pack_frame_header(STREAM, 1000, 1) + b"abc")
    data[bit // 8] ^= 1 << bit % 8
    assert error_kind(bytes(data)) in {"magic", "version", "checksum"}


@given(
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=20),
)
@FUZZ
def test_forged_headers_are_parsed_or_refused(kind: int, start: int, samples: int, payload: int, tail: bytes) -> None:
    try:
        header, view = parse_message(
            make_header(kind=kind % 5, start=start, samples=samples, payload=payload % 25) + tail
        )
    except WireError:
        return
    assert len(view) == header.payload_bytes
    assert header.start + header.samples < 2**63


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([*json.loads(STREAM.to_json()), "other"]), JSON)
@example("rate", "1e999999999")
@example("rate", "1/0")
@example("rate", float("inf"))
@example("epoch_tai_ns", 2**70)
@example("telescope", "\ud800")
@FUZZ
def test_descriptions_with_any_field_changed_are_parsed_or_refused(field: str, value: object) -> None:
    fields = json.loads(STREAM.to_json())
    fields[field] = value
    payload = json.dumps(fields).encode()
    header = MessageHeader(MessageKind.STREAM, stream_key(STREAM), 0, 0, len(payload))
    try:
        stream = parse_stream(header, payload)
    except WireError as error:
        kind = error.kind
    else:
        kind = "good" if stream == STREAM else "wrong"
    assert kind in {"good", "stream", "digest"}


@given(st.binary(max_size=100))
@settings(deadline=None, max_examples=50)
def test_descriptions_of_random_bytes_are_refused(payload: bytes) -> None:
    header = MessageHeader(MessageKind.STREAM, stream_key(STREAM), 0, 0, len(payload))
    with pytest.raises(WireError):
        parse_stream(header, payload)
