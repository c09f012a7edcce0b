"""The state of a running node: its processes and streams, and how to start a process of each role.

The supervisor fills it; the upgrade, the status and the servers read it and do not import the supervisor.
"""

import sys
import time
from dataclasses import dataclass, field
from typing import Any

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import ConfigError
from edgefilter.node.ipc import Message
from edgefilter.node.supervisor.child import Child
from edgefilter.node.supervisor.processes import Children
from edgefilter.node.supervisor.streams import NodeStream, Streams

_RING_SETTINGS = {"buffer_seconds", "shallow", "policy"}  # settings of [input] that the receiver does not need


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

    def start_receiver(self, python: str = "") -> Child:
        """Start a receiver and send it its inputs.

        Parameters
        ----------
        python
            Its interpreter; that of the last receiver if empty.

        Returns
        -------
        Child
            The process.
        """
        child = self.receiver = self.children.spawn("receiver", python=python or self.receiver_python)
        self.send_settings(child)
        return child

    def start_reducer(self, stream: NodeStream) -> Child:
        """Start the reducer of a stream; it continues where the last one ended.

        Parameters
        ----------
        stream
            The stream.

        Returns
        -------
        Child
            The process.
        """
        child = stream.reducer = self.children.spawn("reducer", stream.name, stream.python)
        self.send_settings(child)
        return child

    def start_forwarder(self) -> Child:
        """Return a forwarder that was just started."""
        child = self.forwarder = self.children.spawn("forwarder")
        self.send_settings(child)
        return child

    def send_settings(self, child: Child) -> None:
        """Send a process its first message. A process that has its settings already ignores it.

        Parameters
        ----------
        child
            The process.
        """
        stream = self.streams.get(child.stream)
        if child.role == "receiver":
            self.send_inputs(child)
        elif child.role == "forwarder":
            child.send("settings", spool=str(self.streams.spool), config=self.config.model_dump(mode="json"))
        elif stream is not None:
            child.send("settings", **self.reducer_settings(stream, stream.config, shadow=False))
            if stream.received_header and not stream.header:
                child.send("stream", header=stream.received_header)

    def send_inputs(self, receiver: Child) -> None:
        """Send a receiver its first message.

        Parameters
        ----------
        receiver
            The process.
        """
        receiver.configured = True
        receiver.send("settings", inputs=[self._input_settings(stream) for stream in self.streams])

    def _input_settings(self, stream: NodeStream) -> Message:
        settings = self.config.input_of(stream.section).model_dump(mode="json", exclude=_RING_SETTINGS)
        settings |= {"name": stream.name, "ring": str(stream.ring) if stream.header else None}
        if ("receiver", "") not in self.working:
            settings["bind_seconds"] = 0.0  # no earlier receiver is about to leave the endpoint
        return settings | {"endpoint": stream.endpoint or settings["endpoint"]}

    def reducer_settings(self, stream: NodeStream, config: NodeConfig, shadow: bool) -> Message:
        """Make the first message of a reducer.

        Parameters
        ----------
        stream
            Its stream.
        config
            Its configuration.
        shadow
            Whether it only compares its products with those of another reducer.

        Returns
        -------
        Message
            Fields of the message.
        """
        return {
            "config": config.model_dump(mode="json"),
            "stream": stream.name,
            "ring": str(stream.ring),
            "run": stream.run,
            "header": stream.header,
            "spool": str(self.streams.spool),
            "budget": config.spool.budget_bytes,
            "shadow": shadow,
        }

    def check_not_draining(self) -> None:
        """Refuse a command that a draining node cannot execute.

        Raises
        ------
        ConfigError
            If the node is draining.
        """
        if self.draining:
            raise ConfigError("the node is draining")
