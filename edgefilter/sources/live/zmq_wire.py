"""The wire format: what one ZeroMQ message of a live stream holds.

A message is one part: a header of 64 bytes, little-endian, and the payload right behind it.

====== ===== ======== ==========================================================================
offset bytes field    meaning
====== ===== ======== ==========================================================================
0      4     magic    ``EDGF``
4      2     version  1
6      2     kind     1 STREAM, 2 FRAME, 3 END
8      16    digest   first 16 bytes of :attr:`Stream.digest <edgefilter.core.stream.Stream.digest>`
24     8     start    FRAME: first sample; END: one past the last sample; STREAM: 0
32     8     samples  FRAME: number of samples, at least 1; otherwise 0
40     8     payload  bytes of payload
48     12    reserved zeros
60     4     checksum CRC-32 (zlib) of the 60 bytes before
====== ===== ======== ==========================================================================

A STREAM's payload is :meth:`Stream.to_json <edgefilter.core.stream.Stream.to_json>`, a FRAME's the raw bytes of its
samples, an END has none. Sample numbers stay below 2^63. The payload has no checksum of its own: TCP has one.
"""

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

from edgefilter.core.errors import InputError, WireError
from edgefilter.core.stream import Stream

MAGIC = b"EDGF"
VERSION = 1
HEADER_BYTES = 64
DIGEST_BYTES = 16
MAX_PAYLOAD = 1 << 24
"""Most bytes of one payload: the largest sample that a :class:`~edgefilter.core.stream.Stream` can have fits in."""
MAX_STREAM_PAYLOAD = 1 << 16
"""Most bytes of a stream's description."""

_FIELDS = struct.Struct("<4sHH16sQQQ12s")
_CHECKSUM = struct.Struct("<I")
_RESERVED = bytes(12)
_SAMPLE_LIMIT = 1 << 63


class MessageKind(IntEnum):
    """What a message brings."""

    STREAM = 1
    FRAME = 2
    END = 3


_KINDS = {int(kind): kind for kind in MessageKind}


class MessageHeader(NamedTuple):
    """The header of one message, checked in itself.

    Parameters
    ----------
    kind
        What the message brings.
    digest
        Which stream it belongs to, 16 bytes.
    start
        FRAME: first sample; END: one past the last sample; STREAM: 0.
    samples
        FRAME: number of samples; otherwise 0.
    payload_bytes
        Bytes behind the header.
    """

    kind: MessageKind
    digest: bytes
    start: int
    samples: int
    payload_bytes: int


def stream_key(stream: Stream) -> bytes:
    """Return what names a stream on the wire: the first 16 bytes of its digest."""
    return stream.digest[:DIGEST_BYTES]


def pack_stream(stream: Stream) -> bytes:
    """Pack the whole STREAM message of a stream.

    Raises
    ------
    WireError
        If the description is longer than a message may be.
    """
    payload = stream.to_json().encode()
    return _pack(MessageHeader(MessageKind.STREAM, stream_key(stream), 0, 0, len(payload))) + payload


def pack_frame_header(stream: Stream, start: int, samples: int) -> bytes:
    """Pack the 64 bytes that go before the ``samples * stream.sample_bytes`` raw bytes of a frame.

    Raises
    ------
    WireError
        If the frame is empty, too large, or its sample numbers do not fit.
    """
    return _pack(MessageHeader(MessageKind.FRAME, stream_key(stream), start, samples, samples * stream.sample_bytes))


def pack_end(stream: Stream, sample: int) -> bytes:
    """Pack the message that ends a stream; ``sample`` is one past the last sample.

    Raises
    ------
    WireError
        If the sample number does not fit.
    """
    return _pack(MessageHeader(MessageKind.END, stream_key(stream), sample, 0, 0))


def parse_header(data: bytes | memoryview) -> MessageHeader:
    """Read the header from the first 64 bytes of a message.

    Raises
    ------
    WireError
        Of kind ``short``, ``magic``, ``version``, ``checksum``, ``kind``, ``reserved``, ``range`` or ``size``.
    """
    if len(data) < HEADER_BYTES:
        raise WireError("short", f"{len(data)} bytes, a header has {HEADER_BYTES}")
    magic, version, kind, digest, start, samples, payload_bytes, reserved = _FIELDS.unpack_from(data)
    if magic != MAGIC:
        raise WireError("magic", f"{magic!r}, expected {MAGIC!r}")
    # Before the checksum: another version may keep its checksum elsewhere, and its sender should be told which it is.
    if version != VERSION:
        raise WireError("version", f"{version}, expected {VERSION}")
    (checksum,) = _CHECKSUM.unpack_from(data, _FIELDS.size)
    found = zlib.crc32(data[: _FIELDS.size])
    if checksum != found:
        raise WireError("checksum", f"{checksum:08x}, the header's bytes give {found:08x}")
    if kind not in _KINDS:
        raise WireError("kind", f"{kind}, expected one of {list(_KINDS)}")
    if reserved != _RESERVED:
        raise WireError("reserved", "reserved bytes are not zero")
    header = MessageHeader(_KINDS[kind], digest, start, samples, payload_bytes)
    _check(header)
    return header


def parse_message(message: bytes | memoryview) -> tuple[MessageHeader, memoryview]:
    """Split a message into its header and its payload, which is a view of the message.

    Raises
    ------
    WireError
        As :func:`parse_header`, and of kind ``size`` if the payload is longer or shorter than the header says.
    """
    header = parse_header(message)
    payload = memoryview(message)[HEADER_BYTES:]
    if len(payload) != header.payload_bytes:
        raise WireError("size", f"payload has {len(payload)} bytes, the header says {header.payload_bytes}")
    return header, payload


def parse_stream(header: MessageHeader, payload: bytes | memoryview) -> Stream:
    """Read the stream that a STREAM message describes.

    Raises
    ------
    WireError
        Of kind ``stream`` if the payload does not describe a stream, ``digest`` if the header names another one.
    """
    try:
        stream = Stream.from_json(bytes(payload))
    except InputError as error:
        raise WireError("stream", str(error)) from None
    if stream_key(stream) != header.digest:
        raise WireError("digest", f"{header.digest.hex()}, the described stream has {stream_key(stream).hex()}")
    return stream


def check_frame(header: MessageHeader, stream: Stream) -> None:
    """Check that a frame has as many bytes as its samples take in its stream.

    Raises
    ------
    WireError
        Of kind ``size`` if not.
    """
    expected = header.samples * stream.sample_bytes
    if header.payload_bytes != expected:
        raise WireError("size", f"{header.samples} samples in {header.payload_bytes} bytes, they take {expected}")


def _pack(header: MessageHeader) -> bytes:
    _check(header)
    fields = _FIELDS.pack(
        MAGIC, VERSION, header.kind, header.digest, header.start, header.samples, header.payload_bytes, _RESERVED
    )
    return fields + _CHECKSUM.pack(zlib.crc32(fields))


def _check(header: MessageHeader) -> None:
    """Refuse numbers that no message of this kind can have."""
    if header.start < 0 or header.samples < 0 or header.start + header.samples >= _SAMPLE_LIMIT:
        raise WireError("range", f"{header.samples} samples from {header.start}, numbers must stay below 2^63")
    if header.kind is MessageKind.FRAME:
        if not header.samples:
            raise WireError("size", "a frame without samples")
        _check_payload(header, 1, MAX_PAYLOAD)
        return
    if header.samples:
        raise WireError("size", f"{header.samples} samples in a message that carries none")
    if header.kind is MessageKind.STREAM:
        if header.start:
            raise WireError("range", f"a stream's description names sample {header.start}, expected 0")
        _check_payload(header, 1, MAX_STREAM_PAYLOAD)
    else:
        _check_payload(header, 0, 0)


def _check_payload(header: MessageHeader, minimum: int, maximum: int) -> None:
    if not minimum <= header.payload_bytes <= maximum:
        name = header.kind.name.lower()
        raise WireError("size", f"{name} payload of {header.payload_bytes} bytes, must be {minimum} to {maximum}")
