"""A small process manager for tests: it starts a command again whenever it ends, and stops it with SIGTERM."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from tests.helpers.running_node import TIMEOUT, contents, settings_tree, toml, wait_for

_FIRST_DELAY, _MAX_DELAY = 0.02, 0.2  # before a start, s


class Service:
    """A command of ``edgefilter`` that is started again when it ends, as by ``Restart=always`` of systemd.

    Its log is the file ``NAME.log``; what it reports to the process manager is in ``notified``.
    """

    def __init__(self, folder: Path, name: str, *words: str) -> None:
        self.folder, self.name, self.words = folder, name, words
        self.notified: list[str] = []
        self.statuses: list[int] = []
        self._stopping = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / f"{name}.notify"))
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._start()
        self._thread = threading.Thread(target=self._keep_running, daemon=True)
        self._thread.start()

    def _start(self) -> None:
        environment = {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "NOTIFY_SOCKET": str(self.folder / f"{self.name}.notify"),
            "WATCHDOG_USEC": "400000",
        }
        with (self.folder / f"{self.name}.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edgefilter.cli.main", *self.words, "--log-json"],
                stdout=log,
                stderr=log,
                env=os.environ | environment,
            )

    def _keep_running(self) -> None:
        while True:
            self.statuses.append(self.process.wait())
            delay = min(_MAX_DELAY, _FIRST_DELAY * 2 ** min(10, len(self.statuses)))
            if self._stopping.wait(delay):
                return
            self._start()

    def _listen(self) -> None:
        while (message := self._socket.recv(4096)) != b"end":
            self.notified += message.decode().splitlines()

    def starts(self) -> int:
        """Return how often the command has reported that it is ready."""
        return self.notified.count("READY=1")

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the events of some kinds in the log."""
        lines = (self.folder / f"{self.name}.log").read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [event for event in events if event["event"] in kinds]

    def stop(self) -> int:
        """Stop the command with SIGTERM; return its last exit status."""
        self._stopping.set()
        self.process.terminate()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), f"{self.name} does not end"
        return self.statuses[-1]

    def close(self) -> None:
        """Kill the command if it still runs, and end the threads."""
        self._stopping.set()
        self.process.kill()
        self._thread.join(TIMEOUT)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", self._socket.getsockname())
        self._listener.join(TIMEOUT)
        self._socket.close()


def send_signal(number: int, *services: Service) -> None:
    """Send a signal to services that run; wait until they have ended as they should and are ready again."""
    before = [(len(service.statuses), service.starts()) for service in services]
    for service in services:
        service.process.send_signal(number)
    for service, (ended, starts) in zip(services, before, strict=True):
        wait_for(lambda service=service, ended=ended: len(service.statuses) > ended)
        assert service.statuses[ended] == (-number if number == signal.SIGKILL else 0)
        wait_for(lambda service=service, starts=starts: service.starts() > starts)


class NodeServices:
    """The three processes of a node with one stream, each under the process manager."""

    def __init__(self, folder: Path, **sections: dict[str, Any]) -> None:
        self.folder = folder
        self.config = folder / "node.toml"
        self.config.write_text(toml(settings_tree(folder, **sections)))
        self.receiver = Service(folder, "receive", "receive", str(self.config), "--health-port", "0")
        self.reducer = Service(folder, "reduce", "reduce", str(self.config), "--health-port", "0")
        self.forwarder = Service(folder, "forward", "forward", str(self.config), "--health-port", "0")
        self.all = (self.receiver, self.reducer, self.forwarder)
        wait_for(lambda: all(service.starts() for service in self.all))
        self.endpoint = (folder / "run" / "endpoint-main").read_text()

    def blocks(self) -> int:
        """Return the number of committed blocks."""
        return len(self.reducer.events("block"))

    def run_file(self) -> Path:
        """Return the file that exists while a run is received or reduced."""
        return self.folder / "run" / "run-main.json"

    def ring(self) -> Path | None:
        """Return the ring, if there is one."""
        return next((self.folder / "run").glob("ring-*"), None)

    def stop(self) -> dict[str, bytes]:
        """Stop the processes in the order of the path of a sample; return the objects in the store."""
        for service in self.all:
            # A process that has just been started again does not handle the signal yet.
            assert service.stop() in (0, -signal.SIGTERM)
        return contents(self.folder / "store")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        for service in self.all:
            service.close()
            if kind is not None:
                print(service.name, (self.folder / f"{service.name}.log").read_text()[-3000:], sep="\n")
