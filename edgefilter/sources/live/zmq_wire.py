"""The packet format of edgefilter's ZeroMQ messages.

A message is one part: a header of 64 bytes, little-endian, followed by the payload.

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

The payload of a STREAM is :meth:`Stream.to_json <edgefilter.core.stream.Stream.to_json>`, that of a FRAME the raw bytes
of its samples; an END has none. Sample numbers are below 2^63. The payload has no checksum: TCP has one.
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
"""Most bytes of a payload: room for the largest sample of a :class:`~edgefilter.core.stream.Stream`."""
MAX_STREAM_PAYLOAD = 1 << 16
"""Most bytes of a stream's description."""

_FIELDS = struct.Struct("<4sHH16sQQQ12s")
_CHECKSUM = struct.Struct("<I")
_RESERVED = bytes(12)
_SAMPLE_LIMIT = 1 << 63


class MessageKind(IntEnum):
    """Kind of a message."""

    STREAM = 1
    FRAME = 2
    END = 3


_KINDS = {int(kind): kind for kind in MessageKind}


class MessageHeader(NamedTuple):
    """The header of one message.

    Parameters
    ----------
    kind
        Kind of the message.
    digest
        Its stream, 16 bytes.
    start
        FRAME: first sample; END: one past the last sample; STREAM: 0.
    samples
        FRAME: number of samples; otherwise 0.
    payload_bytes
        Bytes after the header.
    """

    kind: MessageKind
    digest: bytes
    start: int
    samples: int
    payload_bytes: int


def stream_key(stream: Stream) -> bytes:
    """Return the digest of a stream as headers carry it.

    Parameters
    ----------
    stream
        The stream.

    Returns
    -------
    bytes
        The first 16 bytes of its digest.
    """
    return stream.digest[:DIGEST_BYTES]


def pack_stream(stream: Stream) -> bytes:
    """Pack the STREAM message of a stream.

    Parameters
    ----------
    stream
        The stream.

    Returns
    -------
    bytes
        Header and payload.

    Raises
    ------
    WireError
        If the description is longer than :data:`MAX_STREAM_PAYLOAD`.
    """
    payload = stream.to_json().encode()
    return _pack(MessageHeader(MessageKind.STREAM, stream_key(stream), 0, 0, len(payload))) + payload


def pack_frame_header(stream: Stream, start: int, samples: int) -> bytes:
    """Pack the header of a frame; its payload are ``samples * stream.sample_bytes`` raw bytes.

    Parameters
    ----------
    stream
        The stream.
    start
        First sample.
    samples
        Number of samples.

    Returns
    -------
    bytes
        64 bytes.

    Raises
    ------
    WireError
        If the frame is empty or too large, or a sample number is not below 2^63.
    """
    return _pack(MessageHeader(MessageKind.FRAME, stream_key(stream), start, samples, samples * stream.sample_bytes))


def pack_end(stream: Stream, sample: int) -> bytes:
    """Pack the END message of a stream.

    Parameters
    ----------
    stream
        The stream.
    sample
        One past the last sample.

    Returns
    -------
    bytes
        64 bytes.

    Raises
    ------
    WireError
        If the sample number is not below 2^63.
    """
    return _pack(MessageHeader(MessageKind.END, stream_key(stream), sample, 0, 0))


def parse_header(data: bytes | memoryview) -> MessageHeader:
    """Parse the header of a message.

    Parameters
    ----------
    data
        The message, or its first 64 bytes.

    Returns
    -------
    MessageHeader
        Its fields, all in range.

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
    # Before the checksum: another version may have its checksum elsewhere, and the error must name the version.
    if version != VERSION:
        raise WireError("version", f"{version}, expected {VERSION}")
    (checksum,) = _CHECKSUM.unpack_from(data, _FIELDS.size)
    found = zlib.crc32(data[: _FIELDS.size])
    if checksum != found:
        raise WireError("checksum", f"{checksum:08x}, expected {found:08x}, the CRC-32 of the header")
    if kind not in _KINDS:
        raise WireError("kind", f"{kind}, expected one of {list(_KINDS)}")
    if reserved != _RESERVED:
        raise WireError("reserved", "reserved bytes are not zero")
    header = MessageHeader(_KINDS[kind], digest, start, samples, payload_bytes)
    _check(header)
    return header


def parse_message(message: bytes | memoryview) -> tuple[MessageHeader, memoryview]:
    """Split a message into its header and its payload.

    Parameters
    ----------
    message
        The message.

    Returns
    -------
    header, payload
        The payload is a view of the message.

    Raises
    ------
    WireError
        As :func:`parse_header`, and of kind ``size`` if the payload does not have the length that the header states.
    """
    header = parse_header(message)
    payload = memoryview(message)[HEADER_BYTES:]
    if len(payload) != header.payload_bytes:
        raise WireError("size", f"payload has {len(payload)} bytes, expected {header.payload_bytes} as in the header")
    return header, payload


def parse_stream(header: MessageHeader, payload: bytes | memoryview) -> Stream:
    """Parse the stream that a STREAM message describes.

    Parameters
    ----------
    header, payload
        The message.

    Returns
    -------
    Stream
        The stream.

    Raises
    ------
    WireError
        Of kind ``stream`` if the payload does not describe a stream, ``digest`` if the header is of another one.
    """
    try:
        stream = Stream.from_json(bytes(payload))
    except InputError as error:
        raise WireError("stream", str(error)) from None
    if stream_key(stream) != header.digest:
        raise WireError("digest", f"{header.digest.hex()}, expected {stream_key(stream).hex()} of the described stream")
    return stream


def check_frame(header: MessageHeader, stream: Stream) -> None:
    """Check that the payload of a frame has the size of its samples.

    Parameters
    ----------
    header
        Header of the frame.
    stream
        Its stream.

    Raises
    ------
    WireError
        Of kind ``size`` if it has another size.
    """
    expected = header.samples * stream.sample_bytes
    if header.payload_bytes != expected:
        raise WireError("size", f"{header.samples} samples in {header.payload_bytes} bytes, expected {expected} bytes")


def _pack(header: MessageHeader) -> bytes:
    _check(header)
    fields = _FIELDS.pack(
        MAGIC, VERSION, header.kind, header.digest, header.start, header.samples, header.payload_bytes, _RESERVED
    )
    return fields + _CHECKSUM.pack(zlib.crc32(fields))


def _check(header: MessageHeader) -> None:
    """Raise a WireError for numbers that no message of this kind can have."""
    if header.start < 0 or header.samples < 0 or header.start + header.samples >= _SAMPLE_LIMIT:
        raise WireError("range", f"{header.samples} samples from {header.start}, must be 0 or more and end below 2^63")
    if header.kind is MessageKind.FRAME:
        if not header.samples:
            raise WireError("size", "a frame has no samples, must have 1 or more")
        _check_payload(header, 1, MAX_PAYLOAD)
        return
    if header.samples:
        raise WireError("size", f"{header.samples} samples in a message without samples, expected 0")
    if header.kind is MessageKind.STREAM:
        if header.start:
            raise WireError("range", f"start is {header.start} in the description of a stream, expected 0")
        _check_payload(header, 1, MAX_STREAM_PAYLOAD)
    else:
        _check_payload(header, 0, 0)


def _check_payload(header: MessageHeader, minimum: int, maximum: int) -> None:
    if not minimum <= header.payload_bytes <= maximum:
        name = header.kind.name.lower()
        raise WireError("size", f"{name} payload of {header.payload_bytes} bytes, must be {minimum} to {maximum}")
