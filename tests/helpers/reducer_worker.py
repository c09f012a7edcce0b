"""Helpers for tests that run a reducer within the test's process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgefilter.core.config import NodeConfig
from edgefilter.core.validation import validate
from edgefilter.node.process_settings import reducer_settings
from edgefilter.node.ring import RingWriter
from edgefilter.node.run_file import Run, RunFile
from edgefilter.sources.simulated.sky import VoltageSky
from edgefilter.spool import Spool
from tests.helpers.running_node import settings_tree


@dataclass
class FakeIpc:
    """Stands for the connection to the supervisor, and records what the reducer sends."""

    on_send: Callable[[str, dict[str, Any]], None] = lambda kind, fields: None
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def mark_progress(self) -> None:
        pass

    def set_state_callback(self, state: Any) -> None:
        self.state = state

    def send(self, kind: str, **fields: Any) -> None:
        self.sent.append((kind, fields))
        self.on_send(kind, fields)

    def receive(self, timeout: float) -> None:
        return None


def begin_run(folder: Path, source: VoltageSky, **sections: dict[str, Any]) -> tuple[dict[str, Any], Run]:
    """Begin a run as the receiver does; return the settings of its reducer, and the run."""
    config = validate(NodeConfig, settings_tree(folder, spool={"path": str(folder / "spool")}, **sections))
    settings = reducer_settings(config, folder, "main", wait_seconds=0.0)
    return settings, RunFile(folder, "main").begin(source.stream)


def write_all(ring: RingWriter, source: VoltageSky) -> None:
    """Write all samples of a source into a ring and end the run."""
    step = 50_000
    for start in range(0, source.samples, step):
        stop = min(start + step, source.samples)
        ring.write(start, source.read(start, stop).data.tobytes())
    ring.end(source.samples)


def spool_contents(folder: Path) -> dict[str, bytes | None]:
    """Return the products in the spool of a reducer by name."""
    with Spool.open(folder / "spool") as spool:
        return {entry.name: spool.read(entry) for entry in spool.unsealed() + spool.next_entries(1_000_000)}
