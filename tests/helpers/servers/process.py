"""Free ports and child processes of the servers."""

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

READY_SECONDS = 60


def free_ports(count: int) -> list[int]:
    """Return free ports of the loopback interface."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def run(stack: ExitStack, command: list[str], log: Path) -> None:
    """Start a program that is killed when the stack is closed."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=_die_with_parent
        )

    def stop() -> None:
        process.kill()
        process.wait()

    stack.callback(stop)


_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """Have the kernel kill the server when the tests are killed."""
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Server:
    """A running object store."""

    endpoint: str
    key: str
    secret: str

    def environment(self) -> dict[str, str]:
        """Return the environment variables with address and keys of the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
        }

    @staticmethod
    def wait(ready: Callable[[], bool], log: Path) -> None:
        """Wait until a server is ready; raise an error with its log if it is not."""
        until = time.monotonic() + READY_SECONDS
        while not ready():
            if time.monotonic() > until:
                raise RuntimeError(f"the server does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.05)
