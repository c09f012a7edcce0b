"""The supervisor: starts the processes of a node, watches them, replaces them, and stops them in order.

It holds nothing that is needed to go on: samples are in the rings, products and cursors in the spool. When it dies its
children work on, and the next supervisor takes them over.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import EdgefilterError
from edgefilter.node.ipc import Message
from edgefilter.node.logs import logger
from edgefilter.node.ring import RingWriter
from edgefilter.node.run_directory import run_directory
from edgefilter.node.supervisor.control_socket import Command, ControlServer, ProgressCallback
from edgefilter.node.supervisor.http import HttpServer
from edgefilter.node.supervisor.node_state import NodeState
from edgefilter.node.supervisor.processes import Child, ChildError, Children
from edgefilter.node.supervisor.status import status
from edgefilter.node.supervisor.streams import NodeStream, Streams
from edgefilter.node.supervisor.systemd import sd_notify, watchdog_seconds
from edgefilter.node.supervisor.upgrade import Upgrader

_TICK_SECONDS = 0.25
_FIRST_RESTART_DELAY, _MAX_RESTART_DELAY = 0.1, 10.0  # before a process that keeps dying is started again, s
_MAX_START_ATTEMPTS = 5  # to start a process that never worked
_RING_SECONDS = 60.0
_DRAIN_SECONDS = 60.0  # for a receiver to take in what has arrived

EventCallback = Callable[..., None]


class Supervisor:
    """One node.

    Parameters
    ----------
    config
        Its configuration.
    read_config
        Reads the configuration again, from another file if one is named.
    on_event
        Called with a fact and its details: ``listening``, ``stream``, ``block`` and ``remaining``.
    environment
        What children find in their environment.

    Attributes
    ----------
    state
        Its processes and streams.
    """

    def __init__(
        self,
        config: NodeConfig,
        read_config: Callable[[str | None], NodeConfig],
        on_event: EventCallback = lambda *_, **__: None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._on_event = on_event
        log = logger(node=config.node.name)
        directory = run_directory(config)
        children = Children(directory, self._on_message, self._on_exit, environment or {})
        self.state = NodeState(config, log, children, Streams(directory, config))
        self._upgrader = Upgrader(self.state, read_config)
        names = [stream.name for stream in self.state.streams]
        self._http = HttpServer(config.node.health_port, names, lambda: status(self.state))
        self._control_server = ControlServer(directory / "control.sock", self._commands(), log)
        self._failed_starts: dict[tuple[str, str], int] = {}
        self._finished: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def _commands(self) -> dict[str, Command]:
        """Return the commands of the control socket."""

        async def get_status(_: ProgressCallback) -> Message:
            return status(self.state)

        async def drain(_: ProgressCallback) -> None:
            await asyncio.shield(self._start_task(self._drain()))

        return {
            "status": get_status,
            "drain": drain,
            "reload": self._upgrader.reload,
            "upgrade": self._upgrader.upgrade,
        }

    async def run(self) -> None:
        """Run until the streams end, the node is drained, or it cannot go on.

        Raises
        ------
        EdgefilterError
            If it cannot begin, or no stream goes with its settings.
        """
        loop = asyncio.get_running_loop()
        self._finished = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._start_task(self._reload()))
        try:
            self.state.health_port = self._http.open()
            await self._control_server.open()
            await self._start_children()
            self._start_task(self._monitor_children())
            await self._finished
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._control_server.close()
            self._http.close()
            await self.state.children.close()
        self.state.streams.remove()

    def _start_task(self, work: Any) -> "asyncio.Task[None]":
        """Run a coroutine beside all else; its failure ends the node."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(error)

    def _end(self, error: BaseException | None = None) -> None:
        if self._finished is not None and not self._finished.done():
            if error is None:
                self._finished.set_result(None)
            else:
                self._finished.set_exception(error)

    # --- beginning

    async def _start_children(self) -> None:
        for child in await self.state.children.open():
            if not self._adopt(child):
                child.stopping = True
                child.kill()
                await child.ended
        for stream in self.state.streams:
            if stream.reducer is not None:
                stream.reducer.send("go on")  # whatever the last supervisor was about
        without_reducer = [stream for stream in self.state.streams if stream.reducer is None]
        expected = []
        for stream in without_reducer:
            reducer = self.state.start_reducer(stream)
            if stream.ring.exists():
                expected.append((reducer, reducer.expect("ring")))
        for reducer, message in expected:  # so that the receiver drops no frame of a stream that goes on
            with suppress(ChildError):
                await reducer.wait_for_reply(message, _RING_SECONDS)
        if self.state.receiver is None:
            self.state.start_receiver()
        if self.state.forwarder is None and self.state.streams.spool.exists():
            self.state.start_forwarder()
        self.state.streams.write()

    def _adopt(self, child: Child) -> bool:
        """Take over a child of the last supervisor, unless there is one in its place."""
        stream = self.state.streams.get(child.stream)
        if child.role == "receiver" and self.state.receiver is None:
            self.state.receiver = child
        elif child.role == "forwarder":
            self.state.forwarder = child
        elif child.role == "reducer" and stream is not None and stream.reducer is None:
            stream.reducer = child
        else:
            return False
        self.state.working.add((child.role, child.stream))
        self.state.log.info("adopted", child=child.name, pid=child.pid)
        self.state.send_settings(child)  # the last supervisor may have died before it did; who has settings keeps them
        return True

    # --- what children say

    def _on_message(self, child: Child, message: Message) -> None:
        kind = message["kind"]
        stream = self.state.streams.get(child.stream or message.get("input", ""))
        if kind not in ("hello", "block"):
            self.state.log.debug("heard", child=child.name, message=message)
        if kind in ("listening", "ready", "took over"):
            self.state.working.add((child.role, child.stream))
            self._failed_starts.pop((child.role, child.stream), None)
        if kind == "hello":
            self._on_hello(child)
        elif kind == "listening" and stream is not None:
            self._on_listening(stream, message["endpoint"])
        elif kind == "stream" and stream is not None:
            self._on_stream(stream, message["header"])
        elif kind == "ring" and stream is not None:
            self._on_ring(stream, message["header"])
        elif kind == "block" and stream is not None:
            self._on_block(child, stream, message)
        elif kind == "backend":
            self.state.log.info("backend", child=child.name, backend=message["backend"], line=message["line"])
        elif kind == "compiling":
            self._on_event("compiling", kernel=message["kernel"])
            self.state.log.debug("compiling", kernel=message["kernel"])
        elif kind == "finished" and stream is not None and child is stream.reducer and message["last"]:
            child.stopping = stream.finished = True
        elif kind == "retired" or (kind == "drained"):
            child.stopping = True

    def _on_hello(self, child: Child) -> None:
        """Learn from a child's state what it may have told to a supervisor that died."""
        for name, fields in child.state.get("inputs", {}).items():
            stream = self.state.streams.get(name)
            if stream is not None and not child.stopping:
                self._on_listening(stream, fields["endpoint"])
                if fields["header"] and not fields["ring"]:
                    self._on_stream(stream, fields["header"])
        stream = self.state.streams.get(child.stream)
        if child.role == "reducer" and stream is not None and child is stream.reducer and child.state.get("header"):
            self._on_ring(stream, child.state["header"])

    def _on_listening(self, stream: NodeStream, endpoint: str) -> None:
        stream.endpoint = endpoint
        self.state.streams.write()
        self._on_event("listening", endpoint=endpoint, stream=stream.name)
        self.state.log.debug("listening", endpoint=endpoint, stream=stream.name)
        sd_notify(f"READY=1\nSTATUS=listening on {endpoint}")

    def _on_stream(self, stream: NodeStream, header: str) -> None:
        stream.received_header = header
        if stream.reducer is not None:
            stream.reducer.send("stream", header=header)

    def _on_ring(self, stream: NodeStream, header: str) -> None:
        if stream.header is None:
            stream.header = header
            self.state.streams.write()
            self._on_event("stream", header=stream.header, config=stream.config)
            if self.state.forwarder is None:
                self.state.start_forwarder()
        for child in self.state.children.all.values():
            if child.role == "receiver" and child.configured:
                child.send("ring", input=stream.name, path=str(stream.ring))

    def _on_block(self, child: Child, stream: NodeStream, message: Message) -> None:
        recent_blocks = stream.shadow_blocks if child is stream.replacement else stream.recent_blocks
        recent_blocks.record(message)
        if not message["shadow"]:
            self._http.observe_latency(stream.name, message["latency"])
            counts = message["counts"]
            self._on_event("block", stream=stream.name, block=message["block"], counts=counts)
            self.state.log.debug(
                "block", stream=stream.name, block=message["block"], latency=message["latency"], **counts
            )

    # --- what becomes of them

    def _on_exit(self, child: Child) -> None:
        stream = self.state.streams.get(child.stream)
        self.state.streams.add_ended_counters(child)
        if child.stopping or (stream is not None and child is stream.replacement):
            self.state.log.debug("ended", child=child.name)
            if stream is not None and stream.finished and self.state.streams.all_done:
                self._start_task(self._drain())
            return
        self.state.log.warning("died", child=child.name, why=child.why)
        key = (child.role, child.stream)
        attempts = self._failed_starts[key] = self._failed_starts.get(key, 0) + 1
        if key not in self.state.working and (child.refused or attempts == _MAX_START_ATTEMPTS):
            if stream is not None and not stream.header:
                stream.refused = child.why
            if stream is None or stream.header or all(other.refused for other in self.state.streams):
                self._end(EdgefilterError(child.why))
            return
        self.state.restarts[child.role] += 1
        wait = 0.0 if attempts == 1 else min(_MAX_RESTART_DELAY, _FIRST_RESTART_DELAY * 2.0 ** (attempts - 2))
        self._start_task(self._restart(child, stream, wait))

    async def _restart(self, child: Child, stream: NodeStream | None, wait: float) -> None:
        await asyncio.sleep(wait)
        if child is self.state.forwarder:
            self.state.start_forwarder()
        elif child is self.state.receiver and not self.state.draining:
            # It would drop the frames of a stream that is known but has no ring yet.
            while any(other.received_header and not (other.header or other.refused) for other in self.state.streams):
                await asyncio.sleep(_TICK_SECONDS / 5)
            self.state.start_receiver()
        elif stream is not None and child is stream.reducer:
            self.state.start_reducer(stream)

    async def _monitor_children(self) -> None:
        watchdog_interval = watchdog_seconds()
        last_watchdog_time = last_tick_time = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            if now - last_tick_time > 4 * _TICK_SECONDS:  # this process slept, or the machine did
                self.state.children.reset_hang_timers()
            last_tick_time = now
            for child in self.state.children.hung(self.state.config.node.hang_seconds):
                self.state.log.warning(
                    "hung", child=child.name, seconds=round(max(now - child.last_message_time, child.idle), 1)
                )
                child.kill()
            self.state.streams.count(self.state.children.all.values(), now)
            if watchdog_interval is not None and now - last_watchdog_time > watchdog_interval - _TICK_SECONDS:
                sd_notify("WATCHDOG=1")
                last_watchdog_time = now

    # --- ending

    def _on_stop_signal(self) -> None:
        if self.state.draining:  # asked twice: at once; ring and spool keep what is there
            self.state.log.warning("stopped before all was reduced: the next start goes on")
            for stream in self.state.streams:
                stream.keep_ring = True
            self._end()
        else:
            self._start_task(self._drain())

    async def _drain(self) -> None:
        """Take in what has arrived, reduce it, empty the spool, and end."""
        if self.state.draining:
            return
        self.state.draining = True
        sd_notify("STOPPING=1")
        self.state.log.info("draining")
        await self._upgrader.cancel()
        for child in list(self.state.children.all.values()):
            if child.role == "receiver":
                child.stopping = True
                child.send("drain")
                await asyncio.wait({child.ended}, timeout=_DRAIN_SECONDS)
                child.kill()
        for stream in self.state.streams:
            if stream.header is None:
                if stream.reducer is not None:
                    stream.reducer.stopping = True
                    stream.reducer.kill()
            elif stream.ring.exists():
                with suppress(EdgefilterError), RingWriter.attach(stream.ring) as ring:
                    ring.end()  # if the receiver died instead of ending it
        while any(stream.header and not stream.finished for stream in self.state.streams):
            await asyncio.sleep(_TICK_SECONDS / 5)
        await self._drain_forwarder()
        self._end()

    async def _drain_forwarder(self) -> None:
        deadline = time.monotonic() + self.state.config.node.drain_seconds
        while (child := self.state.forwarder) is not None and time.monotonic() < deadline:
            if not child.stopping:
                child.stopping = True
                child.send("drain")
            await asyncio.wait({child.ended}, timeout=deadline - time.monotonic())
            if child.ended.done() and child.ended.result() == 0:
                return
            if child.ended.done():  # of one that another supervisor had started nobody knows how it ended
                self.state.start_forwarder()
        if child is not None:
            self._on_event("remaining", products=child.state.get("products", 0), why=child.state.get("last_error", ""))

    async def _reload(self) -> None:
        try:
            await self._upgrader.reload(self.state.log.info)
        except EdgefilterError as error:
            self.state.log.error("not reloaded", why=str(error))
