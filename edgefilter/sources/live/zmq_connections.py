"""Who comes and goes at a ZeroMQ socket.

``zmq.utils.monitor`` reads the same messages, but brings asyncio along: half of the receiver's time to start.
"""

import struct
from collections.abc import Iterator

import zmq

_EVENT = struct.Struct("=Hi")

CONNECTED = zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED
"""Somebody is there; the value is the connection."""
DISCONNECTED = zmq.EVENT_DISCONNECTED
"""That connection is gone."""
HANDSHAKE_SUCCEEDED = zmq.EVENT_HANDSHAKE_SUCCEEDED
"""A connection can be used."""
HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
"""The other end does not speak the same language, or does not want the keys."""


def open_monitor(socket: "zmq.Socket[bytes]") -> "zmq.Socket[bytes]":
    """Let a socket tell of these events from now on; :func:`read_events` reads what the returned one has."""
    return socket.get_monitor_socket(CONNECTED | DISCONNECTED | HANDSHAKE_SUCCEEDED | HANDSHAKE_FAILED)


def read_events(monitor: "zmq.Socket[bytes]") -> Iterator[tuple[int, int]]:
    """Yield the events that have happened, with their values; never waits."""
    while monitor.poll(0):
        event, value = _EVENT.unpack(monitor.recv_multipart()[0])
        yield event, value
