"""A process of the node under any process manager: signals are its commands, its events go to the log.

To systemd, and to every other manager that sets ``NOTIFY_SOCKET``, it reports readiness, what it does, its end, and
that it makes progress.
"""

import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from edgefilter.core.closing import Closing
from edgefilter.core.config import NodeConfig
from edgefilter.node.ipc import Message
from edgefilter.node.logs import logger
from edgefilter.node.status import process_status
from edgefilter.node.systemd import sd_notify, watchdog_seconds

_START_FACTOR = 10  # a process that starts may make no progress for so many times as long: it compiles


class ServiceLink(Closing):
    """Connects a process to its process manager: a :class:`~edgefilter.node.ipc.Link`.

    SIGTERM and SIGINT are the command ``drain``, SIGHUP is ``retire``: the process ends, and its successor continues.
    A second SIGTERM or SIGINT ends the process at once.

    Parameters
    ----------
    role
        ``receiver``, ``reducer`` or ``forwarder``, for the log.
    config
        Configuration of the node.
    stream
        Stream of a reducer; empty for other processes.
    health_port
        Port of the health pages on the loopback interface; None is without.
    drain_seconds
        Maximum time to drain, s.

    Raises
    ------
    ConfigError
        If the port is taken.
    """

    def __init__(
        self, role: str, config: NodeConfig, stream: str = "", health_port: int | None = None, drain_seconds: float = 0
    ) -> None:
        self._config = config
        self._stream = stream
        self._drain_seconds = drain_seconds
        self._log = logger(node=config.node.name, process=role, **({"stream": stream} if stream else {}))
        self._commands: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._state: Callable[[], Message] = dict
        self._start_time = self._last_progress_time = time.monotonic()
        self._closed = threading.Event()
        self._ready = False
        self._http: Any = None
        if health_port is not None:
            self._open_http(health_port)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        if (interval := watchdog_seconds()) is not None:
            threading.Thread(target=self._watch, args=(interval,), name="watchdog", daemon=True).start()

    def _open_http(self, port: int) -> None:
        # Imported here: the receiver starts faster without it.
        from edgefilter.node.http import HttpServer

        self._http = HttpServer(port, [self._stream] if self._stream else [], self._status)
        self._log.info("health pages", port=self._http.open())

    def set_state_callback(self, state: Callable[[], Message]) -> None:
        """Set the function that returns the state.

        Parameters
        ----------
        state
            Returns the whole state of the process, JSON types only.
        """
        self._state = state

    def mark_progress(self) -> None:
        """Report progress; without it the watchdog of the process manager ends the process."""
        self._last_progress_time = time.monotonic()

    def send(self, kind: str, **fields: Any) -> None:
        """Log an event.

        Parameters
        ----------
        kind
            Kind of the event.
        **fields
            Its other fields.
        """
        self.mark_progress()
        fields.pop("state", None)
        if kind == "status":
            kind = fields.pop("line")
            sd_notify(f"STATUS={kind}" if self._ready else f"READY=1\nSTATUS={kind}")
            self._ready = True
        elif kind == "block" and self._http is not None:
            self._http.observe_latency(self._stream, fields["latency"])
        (self._log.debug if kind in ("block", "stream") else self._log.info)(kind, **fields)

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next command.

        Parameters
        ----------
        timeout
            Maximum time to wait, s; None is without limit.

        Returns
        -------
        dict or None
            The command; None if there is none within the time.
        """
        try:
            return (
                self._commands.get(timeout=timeout) if timeout is None or timeout > 0 else self._commands.get_nowait()
            )
        except queue.Empty:
            return None

    def close(self) -> None:
        """Close the health pages and stop the watchdog."""
        self._closed.set()
        if self._http is not None:
            self._http.close()

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._commands.put({"kind": "retire"})
            return
        sd_notify("STOPPING=1")
        self._commands.put({"kind": "drain", "seconds": self._drain_seconds})
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, lambda *_: os._exit(0))

    def _watch(self, interval: float) -> None:
        limit = self._config.node.hang_seconds
        while not self._closed.wait(interval):
            state = self._state()
            starting = not state.get("ready", state)
            if time.monotonic() - self._last_progress_time < limit * (_START_FACTOR if starting else 1):
                sd_notify("WATCHDOG=1")

    def _status(self) -> Message:
        status = process_status(self._config.node.name, self._stream, self._state())
        return status | {"uptime_seconds": round(time.monotonic() - self._start_time, 1)}
