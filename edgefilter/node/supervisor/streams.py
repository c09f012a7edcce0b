"""What the supervisor knows of each stream, and what of it the next supervisor must know."""

import json
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgefilter.core.config import NodeConfig, StreamSection
from edgefilter.core.validation import validate
from edgefilter.node.ipc import Message
from edgefilter.node.supervisor.processes import Child, write_atomically

_MAX_BLOCKS = 1024
_RATE_SECONDS = 5.0


@dataclass
class RecentBlocks:
    """The blocks that a reducer has made of late: what two of them are compared by."""

    blocks: dict[int, Message] = field(default_factory=dict)

    def record(self, message: Message) -> None:
        """Remember a block."""
        self.blocks[message["block"]] = message
        if len(self.blocks) > _MAX_BLOCKS:
            del self.blocks[next(iter(self.blocks))]


@dataclass(eq=False)
class NodeStream:
    """One stream of the node.

    Parameters
    ----------
    section
        What the configuration says of it.
    config, python
        What its reducer runs with.
    ring
        Its ring; the last part of its name is that of the run that the ring is the life of.
    header
        The stream's header, JSON, once it has a ring.
    received_header
        The header that the receiver met.
    """

    section: StreamSection
    config: NodeConfig
    python: str
    ring: Path
    header: str | None = None
    received_header: str | None = None
    endpoint: str = ""
    reducer: Child | None = None
    replacement: Child | None = None
    finished: bool = False
    refused: str = ""
    keep_ring: bool = False
    recent_blocks: RecentBlocks = field(default_factory=RecentBlocks)
    shadow_blocks: RecentBlocks = field(default_factory=RecentBlocks)
    counters: Counter[str] = field(default_factory=Counter)
    """What all receivers of the node have counted."""
    ended_counters: Counter[str] = field(default_factory=Counter)
    """What those that have ended had counted."""
    rates: dict[str, float] = field(default_factory=dict)
    """Counters a second, over some seconds."""
    _rate_reference: tuple[float, Counter[str]] = (0.0, Counter())

    @property
    def name(self) -> str:
        """What the node calls it."""
        return self.section.name

    @property
    def run(self) -> str:
        """Name of the run."""
        return self.ring.name.rpartition("-")[2]

    def count(self, reported: Iterable[Message], now: float) -> None:
        """Sum up what the receivers tell, and take rates from two sums some seconds apart."""
        self.counters = sum(map(flatten_counters, reported), start=Counter(self.ended_counters))
        reference_time, before = self._rate_reference
        if (elapsed := now - reference_time) >= _RATE_SECONDS:
            self.rates = (
                {key: (count - before[key]) / elapsed for key, count in self.counters.items()} if reference_time else {}
            )
            self._rate_reference = now, self.counters


def flatten_counters(counters: Message) -> Counter[str]:
    """Make one level of a receiver's counters: ``malformed.size``."""
    found: Counter[str] = Counter()
    for name, value in counters.items():
        if isinstance(value, dict):
            found.update({f"{name}.{key}": count for key, count in value.items()})
        else:
            found[name] = int(value)
    return found


class Streams:
    """All streams of a node, and the file that outlives a supervisor.

    Parameters
    ----------
    directory
        The node's folder.
    config
        The configuration.
    """

    def __init__(self, directory: Path, config: NodeConfig) -> None:
        self._directory = directory
        self._file = directory / "streams.json"
        self._config_dump = config.model_dump(mode="json")
        self.spool = Path(config.spool_directory).absolute()
        previous = self._read()
        same_config = previous.get("base") == self._config_dump
        self._all = {}
        for section in config.stream:
            saved = previous.get("streams", {}).get(section.name, {})
            ring = directory / f"ring-{section.name}-{saved.get('run')}"
            if not ring.exists():
                saved = {}
                ring = directory / f"ring-{section.name}-{uuid.uuid4().hex[:8]}"
            stream = NodeStream(section, config, sys.executable, ring)
            if saved:
                stream.header, stream.endpoint = saved["header"], saved["endpoint"]
                if same_config:
                    stream.config, stream.python = validate(NodeConfig, saved["config"]), saved["python"]
            self._all[section.name] = stream
        for stale in set(directory.glob("ring-*")) - {stream.ring for stream in self}:
            stale.unlink()

    def __iter__(self) -> Iterator[NodeStream]:
        return iter(self._all.values())

    def get(self, name: str) -> NodeStream | None:
        """Return the stream of a name."""
        return self._all.get(name)

    @property
    def all_done(self) -> bool:
        """Whether no stream has anything left to reduce."""
        return all(stream.finished or stream.refused for stream in self)

    def count(self, children: Iterable[Child], now: float) -> None:
        """Sum up what the receivers among the children tell."""
        reported = [child.state["inputs"] for child in children if "inputs" in child.state]
        for stream in self:
            stream.count((inputs[stream.name]["counters"] for inputs in reported if stream.name in inputs), now)

    def add_ended_counters(self, child: Child) -> None:
        """Remember what a receiver that has ended had counted."""
        for stream in self:
            if (reported := child.state.get("inputs", {}).get(stream.name)) is not None:
                stream.ended_counters += flatten_counters(reported["counters"])

    def write(self) -> None:
        """Write down what the next supervisor must know."""
        streams = {
            stream.name: {
                "run": stream.run,
                "header": stream.header,
                "endpoint": stream.endpoint,
                "python": stream.python,
                "config": stream.config.model_dump(mode="json"),
            }
            for stream in self
        }
        write_atomically(self._file, json.dumps({"base": self._config_dump, "streams": streams}))

    def remove(self) -> None:
        """Remove rings and notes: the runs are over. What is to go on stays."""
        if any(stream.keep_ring for stream in self):
            return
        for stream in self:
            stream.ring.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            previous: dict[str, Any] = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return previous
