"""Messages to the service manager (systemd's ``sd_notify`` protocol: datagrams to a Unix socket)."""

import os
import socket
from contextlib import suppress


def sd_notify(text: str) -> None:
    """Send a message to the service manager, if there is one.

    Parameters
    ----------
    text
        Assignments such as ``READY=1``, one per line.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram_socket,
        ):
            # A leading @ means an abstract address, which begins with a zero byte.
            datagram_socket.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


def watchdog_seconds() -> float | None:
    """Return the interval of ``WATCHDOG=1`` messages, s: half of systemd's limit; None if no watchdog is configured."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    for_this_process = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(limit) / 2e6 if limit and for_this_process else None
