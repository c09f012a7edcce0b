"""Word to the service manager (systemd's ``sd_notify``: datagrams to a Unix socket)."""

import os
import socket
from contextlib import suppress


def sd_notify(text: str) -> None:
    """Send assignments such as ``READY=1``; without a service manager nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram_socket,
        ):
            # A leading @ stands for the zero byte of an abstract address.
            datagram_socket.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


def watchdog_seconds() -> float | None:
    """Return how often the service manager wants ``WATCHDOG=1``: half of its limit; None if it does not watch."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    for_this_process = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(limit) / 2e6 if limit and for_this_process else None
