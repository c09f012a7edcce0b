"""Helpers for tests that run a node in processes of its own, as an operator does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from edgefilter.batch.local import Replay
from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import EdgefilterError
from edgefilter.core.validation import validate
from edgefilter.node.supervisor.control_socket import call
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.products.naming import parse
from edgefilter.sources.live.zmq_sender import SendOptions, SendReport, send
from edgefilter.sources.simulated.sky import SkyPulse, VoltageSky

BASE_SETTINGS: dict[str, dict[str, Any]] = {
    "block": {"rows": 256},
    "channelise": {"channels": 32},
    "detect": {"spectra": 32},
    "pulses": {"dm": [0, 40], "widths": 3, "bands": 1},
    "node": {"threads": 1},
    "input": {"endpoint": "tcp://127.0.0.1:*"},
    "spool": {"batch_blocks": 1},
}
TIMEOUT = 120.0


def sky(seconds: float, seed: int = 5) -> VoltageSky:
    """Return a simulated sky of 1 MHz voltages with one pulse; a block is 0.26 s."""
    return VoltageSky(seconds, seed, rate=1_000_000, centre_mhz=400, pulses=[SkyPulse(0.2, 20, 3e-3, 40)])


def sky_until(samples: int) -> VoltageSky:
    """Return a simulated sky of exactly so many samples."""
    return sky((samples + 0.5) / 1e6)


def settings_tree(folder: Path, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of a node whose files lie below a folder."""
    whole = {name: dict(values) for name, values in BASE_SETTINGS.items()}
    whole["node"]["run_directory"] = str(folder / "run")
    whole["store"] = {"path": str(folder / "store")}
    for name, values in sections.items():
        whole[name] = values if isinstance(values, list) else whole.get(name, {}) | values
    return whole


def toml(sections: dict[str, Any]) -> str:
    """Return settings as TOML; its values have the syntax of JSON."""
    lines = []
    for name, values in sections.items():
        for table in values if isinstance(values, list) else [values]:
            lines.append(f"[[{name}]]" if isinstance(values, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def contents(store: Path) -> dict[str, bytes]:
    """Return all objects of a store by name."""
    files = (path for path in store.rglob("*.*") if path.is_file() and ".tmp" not in path.parts)
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def ledger(objects: dict[str, bytes], folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the ledger among the objects of a store."""
    rows: list[dict[str, Any]] = []
    for name, content in objects.items():
        if parse(name).folder == "ledger":
            (folder / "row.parquet").write_bytes(content)
            rows += pq.ParquetFile(folder / "row.parquet").read().to_pylist()
    return rows


def replayed(source: Any, folder: Path, **sections: dict[str, Any]) -> dict[str, bytes]:
    """Return the objects of an undisturbed replay of a source."""
    settings = validate(NodeConfig, settings_tree(folder, **sections))
    for _ in Replay(source, settings, folder / "replayed", backend_selector=BackendSelector(threads=1)).run():
        pass
    return contents(folder / "replayed")


class Node:
    """``edgefilter run`` with its files below a folder; :meth:`start` can start the same node again."""

    def __init__(self, folder: Path, *options: str, **sections: dict[str, Any]) -> None:
        self.folder = folder
        self.options = options
        self.config = folder / "node.toml"
        self.config.write_text(toml(settings_tree(folder, **sections)))
        self.lines: list[str] = []

    def start(self) -> "Node":
        self.errors = (self.folder / "errors.txt").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgefilter.cli.main", "run", str(self.config), *self.options],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        wait_for(lambda: self._is_ready() or self.process.poll() is not None)
        return self

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.lines.append(line.rstrip())

    def _is_ready(self) -> bool:
        try:
            status = self.call("status")
        except EdgefilterError:
            return False
        self.endpoints = {stream["name"]: stream["endpoint"] for stream in status["streams"]}
        self.endpoint = next(iter(self.endpoints.values()))
        return status["ready"] and all(self.endpoints.values())

    def call(self, command: str, on_progress: Callable[[str], None] = lambda _: None, **arguments: Any) -> Any:
        return call(self.folder / "run" / "control.sock", command, on_progress, **arguments)

    def children(self) -> list[dict[str, Any]]:
        """Return the supervisor's list of its children."""
        try:
            return list(json.loads((self.folder / "run" / "children.json").read_text())["children"])
        except (FileNotFoundError, ValueError):
            return []

    def roles(self) -> list[str]:
        """Return the roles of the living children."""
        return sorted(child["role"] for child in self.children())

    def pid(self, role: str) -> int:
        """Return the process ID of the child with a role; wait until there is one."""
        return int(wait_for(lambda: [child["pid"] for child in self.children() if child["role"] == role])[-1])

    def kill(self, role: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a child; return its process ID."""
        pid = self.pid(role)
        os.kill(pid, number)
        return pid

    def blocks(self) -> int:
        """Return the number of reported blocks."""
        return sum(line.startswith("block ") for line in self.lines)

    def restart_supervisor(self) -> None:
        """Kill the supervisor and start another, as a service manager does."""
        self.process.kill()
        self.process.wait()
        self.errors.close()
        self.start()

    def wait(self) -> int:
        """Wait for the end of the node; return the exit status."""
        status = self.process.wait(timeout=TIMEOUT)
        self._reader.join()
        self.errors.close()
        return status

    def __enter__(self) -> "Node":
        return self.start()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.process.poll() is None:  # the test failed
            self.process.kill()
            self.process.wait()
            listed = json.loads((self.folder / "run" / "children.json").read_text())["children"]
            for child in listed:
                os.kill(child["pid"], signal.SIGKILL)
            shutil.rmtree(self.folder / "run")
        self.errors.close()
        if kind is not None:
            print((self.folder / "errors.txt").read_text()[-6000:], *self.lines, sep="\n")


class SenderThread:
    """A sender in a thread."""

    def __init__(self, source: Any, endpoint: str, speed: float | None, drop: Any = None, **options: Any) -> None:
        self.report: SendReport | None = None
        self._source, self._endpoint, self._speed, self._drop = source, endpoint, speed, drop
        self._stop = threading.Event()
        self._options = SendOptions(**{"receiver_timeout": TIMEOUT} | options)
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        self.report = send(self._source, self._endpoint, self._speed, self._drop, self._stop, self._options)

    def stop(self) -> SendReport:
        """End the stream now."""
        self._stop.set()
        return self.wait()

    def wait(self) -> SendReport:
        self._thread.join(timeout=TIMEOUT)
        assert self.report is not None
        return self.report


def wait_for(condition: Callable[[], Any], seconds: float = TIMEOUT) -> Any:
    """Wait until a condition is true; return its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"the condition did not become true within {seconds} s"
        time.sleep(0.02)
    return found
