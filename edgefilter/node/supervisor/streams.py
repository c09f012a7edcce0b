"""State of the streams in the supervisor, and the file that passes it to the next supervisor."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgefilter.core.config import NodeConfig
from edgefilter.core.node_sections import StreamSection
from edgefilter.core.validation import validate
from edgefilter.node.ipc import Message
from edgefilter.node.run_file import RunFile, write_atomically
from edgefilter.node.status import flatten_counters
from edgefilter.node.supervisor.child import Child

_MAX_BLOCKS = 1024
_RATE_SECONDS = 5.0  # interval over which rates are averaged


@dataclass
class RecentBlocks:
    """The last blocks that a reducer has reported, by number, for the comparison of two reducers."""

    blocks: dict[int, Message] = field(default_factory=dict)

    def record(self, message: Message) -> None:
        """Add a block and forget the oldest one of too many.

        Parameters
        ----------
        message
            The reducer's message of kind ``block``.
        """
        self.blocks[message["block"]] = message
        if len(self.blocks) > _MAX_BLOCKS:
            del self.blocks[next(iter(self.blocks))]


@dataclass(eq=False)
class NodeStream:
    """One stream of the node.

    Parameters
    ----------
    section
        Its section ``[[stream]]`` of the configuration.
    config, python
        Configuration and interpreter of its reducer.
    run_file
        Its run file.
    header
        The stream's header, JSON, once the ring exists.
    endpoint
        Where the receiver listens for it; empty if it does not yet.
    reducer, replacement
        Its reducer, and the one that is to replace it in an upgrade.
    finished
        Whether all its samples are reduced.
    refused
        Why it cannot be reduced; empty if it can.
    recent_blocks, shadow_blocks
        Last blocks of the reducer and of the replacement.
    counters, ended_counters
        Counters of all its receivers, and of those that have ended.
    rates
        Counters per second, mean of some s.
    """

    section: StreamSection
    config: NodeConfig
    python: str
    run_file: RunFile
    header: str | None = None
    endpoint: str = ""
    reducer: Child | None = None
    replacement: Child | None = None
    finished: bool = False
    refused: str = ""
    recent_blocks: RecentBlocks = field(default_factory=RecentBlocks)
    shadow_blocks: RecentBlocks = field(default_factory=RecentBlocks)
    counters: Counter[str] = field(default_factory=Counter)
    ended_counters: Counter[str] = field(default_factory=Counter)
    rates: dict[str, float] = field(default_factory=dict)
    _rate_reference: tuple[float, Counter[str]] = (0.0, Counter())

    @property
    def name(self) -> str:
        """Name of the stream in the node."""
        return self.section.name

    @property
    def ring(self) -> Path | None:
        """The ring; None if it does not exist."""
        run = self.run_file.read()
        return run.ring if run is not None and run.ring.exists() else None

    def count(self, reported: Iterable[Message], now: float) -> None:
        """Sum the counters of the receivers, and compute rates from two sums some seconds apart.

        Parameters
        ----------
        reported
            Counters of each living receiver.
        now
            Time, s of the monotonic clock.
        """
        self.counters = sum(map(flatten_counters, reported), start=Counter(self.ended_counters))
        reference_time, before = self._rate_reference
        if (elapsed := now - reference_time) >= _RATE_SECONDS:
            self.rates = (
                {key: (count - before[key]) / elapsed for key, count in self.counters.items()} if reference_time else {}
            )
            self._rate_reference = now, self.counters


class Streams:
    """All streams of a node, and the file that a supervisor leaves to the next one.

    Parameters
    ----------
    directory
        Run directory of the node.
    config
        Configuration of the node.

    Attributes
    ----------
    directory, spool
        Run directory and spool of the node.
    keep_runs
        Whether the runs continue at the next start of the node.
    """

    def __init__(self, directory: Path, config: NodeConfig) -> None:
        self.directory = directory
        self.spool = str(Path(config.spool_directory).absolute())
        self.keep_runs = False
        self._file = directory / "streams.json"
        self._config_dump = config.model_dump(mode="json")
        previous = self._read()
        same_config = previous.get("base") == self._config_dump
        self._all = {}
        for section in config.stream:
            stream = NodeStream(section, config, sys.executable, RunFile(directory, section.name))
            saved = previous.get("streams", {}).get(section.name)
            if same_config and saved and stream.ring:
                stream.config, stream.python = validate(NodeConfig, saved["config"]), saved["python"]
            self._all[section.name] = stream
        for path in directory.glob("ring-*-*"):
            name = path.name.removeprefix("ring-").rpartition("-")[0]
            if name not in self._all:  # of a stream that an earlier configuration had
                path.unlink()
                (directory / f"run-{name}.json").unlink(missing_ok=True)

    def __iter__(self) -> Iterator[NodeStream]:
        return iter(self._all.values())

    def get(self, name: str) -> NodeStream | None:
        """Return a stream.

        Parameters
        ----------
        name
            Name of the stream in the node.

        Returns
        -------
        NodeStream or None
            The stream; None if there is none of this name.
        """
        return self._all.get(name)

    @property
    def all_done(self) -> bool:
        """Whether every stream is reduced or refused."""
        return all(stream.finished or stream.refused for stream in self)

    def count(self, children: Iterable[Child], now: float) -> None:
        """Sum the counters of the receivers.

        Parameters
        ----------
        children
            All children.
        now
            Time, s of the monotonic clock.
        """
        reported = [child.state["inputs"] for child in children if "inputs" in child.state]
        for stream in self:
            stream.count((inputs[stream.name]["counters"] for inputs in reported if stream.name in inputs), now)

    def add_ended_counters(self, child: Child) -> None:
        """Keep the counters of a receiver that has ended.

        Parameters
        ----------
        child
            The process; one that is not a receiver changes nothing.
        """
        for stream in self:
            if (reported := child.state.get("inputs", {}).get(stream.name)) is not None:
                stream.ended_counters += flatten_counters(reported["counters"])

    def write(self) -> None:
        """Write the file for the next supervisor."""
        streams = {
            stream.name: {"python": stream.python, "config": stream.config.model_dump(mode="json")} for stream in self
        }
        write_atomically(self._file, json.dumps({"base": self._config_dump, "streams": streams}))

    def remove(self) -> None:
        """Remove the runs and the file, unless the runs are to continue at the next start."""
        if self.keep_runs:
            return
        for stream in self:
            if (run := stream.run_file.read()) is not None:
                stream.run_file.remove(run)
        self._file.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            previous: dict[str, Any] = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return previous
