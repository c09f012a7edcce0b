"""Connection events of a ZeroMQ socket.

``zmq.utils.monitor`` reads the same messages, but imports asyncio, which doubles the start-up time of the receiver.
"""

import struct
from collections.abc import Iterator

import zmq

_EVENT = struct.Struct("=Hi")

CONNECTED = zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED
"""A peer has connected; the value is the file descriptor of the connection."""
DISCONNECTED = zmq.EVENT_DISCONNECTED
"""That connection is closed."""
HANDSHAKE_SUCCEEDED = zmq.EVENT_HANDSHAKE_SUCCEEDED
"""A connection can be used."""
HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
"""The peer uses another protocol, or refuses the keys."""


def open_monitor(socket: "zmq.Socket[bytes]") -> "zmq.Socket[bytes]":
    """Start to report the events of a socket.

    Parameters
    ----------
    socket
        The socket.

    Returns
    -------
    Socket
        For :func:`read_events`.
    """
    return socket.get_monitor_socket(CONNECTED | DISCONNECTED | HANDSHAKE_SUCCEEDED | HANDSHAKE_FAILED)


def read_events(monitor: "zmq.Socket[bytes]") -> Iterator[tuple[int, int]]:
    """Read the events since the last call, without waiting.

    Parameters
    ----------
    monitor
        From :func:`open_monitor`.

    Yields
    ------
    event, value
        One of the constants of this module, and what it says of the connection.
    """
    while monitor.poll(0):
        event, value = _EVENT.unpack(monitor.recv_multipart()[0])
        yield event, value
