"""A live input: UDP packets with a sample number.

A packet is four bytes that name its kind, a little-endian unsigned integer of 64 bits, and a payload::

    EXMH  0                   header of the stream, JSON; sent before the first samples and now and then
    EXMD  first sample        raw bytes of whole samples
    EXME  one past the last   nothing: the end of the stream
"""

import socket
import struct
from collections.abc import Iterator

from edgefilter.core.endpoint import parse_host_port
from edgefilter.core.errors import InputError, WireError
from edgefilter.core.stream import Stream
from edgefilter.sources.live.base import End, Event, Frame, LiveInput

PREFIX = struct.Struct("<4sQ")
HEADER, DATA, END = b"EXMH", b"EXMD", b"EXME"
_MAX_PACKET = 1 << 16


class PacketInput(LiveInput):
    """Receives the packets at an endpoint ``exampleudp://HOST:PORT``."""

    _socket: socket.socket | None = None

    def open(self) -> None:
        """Bind the socket."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        host, port = parse_host_port(self.settings.endpoint)
        self._socket.bind((host, port or 0))
        self.endpoint = "exampleudp://{}:{}".format(*self._socket.getsockname())

    def receive(self, timeout: float) -> Iterator[Event]:
        """Wait for one packet."""
        assert self._socket is not None
        self._socket.settimeout(timeout)
        try:
            packet = self._socket.recv(_MAX_PACKET)
        except TimeoutError:
            return
        if len(packet) < PREFIX.size:
            raise WireError("size", f"{len(packet)} bytes, must be {PREFIX.size} or more")
        kind, number = PREFIX.unpack_from(packet)
        payload = memoryview(packet)[PREFIX.size :]
        if kind == HEADER:
            try:
                yield Stream.from_json(bytes(payload))
            except InputError as error:
                raise WireError("stream", str(error)) from None
        elif kind == DATA:
            yield Frame(number, payload)
        elif kind == END:
            yield End(number)
        else:
            raise WireError("magic", f"{kind!r}, must be {HEADER!r}, {DATA!r} or {END!r}")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
