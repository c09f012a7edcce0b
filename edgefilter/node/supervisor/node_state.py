"""The state of a running node: its processes and streams, and how to start a process of each role.

The supervisor fills it; the upgrade, the status and the servers read it and do not import the supervisor.
"""

import sys
import time
from dataclasses import dataclass, field
from typing import Any

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import ConfigError
from edgefilter.node.process_settings import forwarder_settings, receiver_settings, reducer_settings
from edgefilter.node.supervisor.child import Child
from edgefilter.node.supervisor.processes import Children
from edgefilter.node.supervisor.streams import NodeStream, Streams

_WAIT_SECONDS = 20.0  # for another process of the same role to end


@dataclass(eq=False)
class NodeState:
    """A running node.

    Parameters
    ----------
    config
        Its configuration; a reload replaces it.
    log
        Its log.
    children, streams
        Its processes and streams.
    receiver, receiver_python, forwarder
        The receiver, the interpreter that it runs in, and the forwarder; reducers belong to their streams.
    restarts
        Number of restarts after a process died or hung, by role.
    replaced
        Number of attempts to replace a process, by outcome: ``done`` or ``failed``.
    start_time
        When the supervisor started, s of the monotonic clock.
    draining
        Whether the node is ending.
    health_port
        Port of the health server, if it serves.
    working
        Role and stream of each process that has worked at least once. Others are restarted a limited number of times.
    """

    config: NodeConfig
    log: Any
    children: Children
    streams: Streams
    receiver: Child | None = None
    receiver_python: str = sys.executable
    forwarder: Child | None = None
    restarts: dict[str, int] = field(default_factory=lambda: {"receiver": 0, "reducer": 0, "forwarder": 0})
    replaced: dict[str, int] = field(default_factory=lambda: {"done": 0, "failed": 0})
    start_time: float = field(default_factory=time.monotonic)
    draining: bool = False
    health_port: int | None = None
    working: set[tuple[str, str]] = field(default_factory=set)

    def start_receiver(self) -> None:
        """Start the receiver."""
        self.receiver = self.spawn_receiver(self.receiver_python)

    def spawn_receiver(self, python: str) -> Child:
        """Start a receiver that receives as soon as the present one has ended.

        Parameters
        ----------
        python
            Its interpreter.

        Returns
        -------
        Child
            The process.
        """
        sections = [stream.section for stream in self.streams]
        settings = receiver_settings(self.config, self.streams.directory, sections, _WAIT_SECONDS)
        return self.children.spawn("receiver", settings, python=python)

    def start_reducer(self, stream: NodeStream) -> None:
        """Start the reducer of a stream; it continues where the last one ended.

        Parameters
        ----------
        stream
            The stream.
        """
        stream.reducer = self.spawn_reducer(stream, stream.config, stream.python)

    def spawn_reducer(self, stream: NodeStream, config: NodeConfig, python: str, shadow: bool = False) -> Child:
        """Start a reducer.

        Parameters
        ----------
        stream
            Its stream.
        config, python
            Its configuration and interpreter.
        shadow
            Whether it only compares its products with those of the present reducer.

        Returns
        -------
        Child
            The process.
        """
        settings = reducer_settings(config, self.streams.directory, stream.name, _WAIT_SECONDS, shadow)
        # A new configuration does not move the spool of a running node.
        return self.children.spawn("reducer", settings | {"spool": self.streams.spool}, stream.name, python)

    def start_forwarder(self) -> None:
        """Start the forwarder."""
        settings = forwarder_settings(self.config, self.streams.spool, self.config.spool.request_seconds)
        self.forwarder = self.children.spawn("forwarder", settings)

    def check_not_draining(self) -> None:
        """Refuse a command that a draining node cannot execute.

        Raises
        ------
        ConfigError
            If the node is draining.
        """
        if self.draining:
            raise ConfigError("the node is draining")
