"""The supervisor: starts the processes of a node, monitors and restarts them, and stops them in order.

It keeps no data that are needed to continue: samples are in the rings, products and cursors in the spool. When it dies,
its children continue, and the next supervisor takes them over.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import EdgefilterError
from edgefilter.node.http import HttpServer
from edgefilter.node.ipc import Message
from edgefilter.node.logs import logger
from edgefilter.node.ring import RingWriter
from edgefilter.node.run_directory import run_directory
from edgefilter.node.supervisor.child import Child
from edgefilter.node.supervisor.control_socket import Command, ControlServer, ProgressCallback
from edgefilter.node.supervisor.node_state import NodeState
from edgefilter.node.supervisor.processes import Children
from edgefilter.node.supervisor.status import status
from edgefilter.node.supervisor.streams import NodeStream, Streams
from edgefilter.node.supervisor.upgrade import Upgrader
from edgefilter.node.systemd import sd_notify, watchdog_seconds

_TICK_SECONDS = 0.25
_FIRST_RESTART_DELAY, _MAX_RESTART_DELAY = 0.1, 10.0  # of a process that dies repeatedly, s
_MAX_START_ATTEMPTS = 5  # of a process that has never worked
_STATUS_SECONDS = 2.0  # for this process to answer a request for its status
_DRAIN_SECONDS = 60.0  # for a receiver to receive what has arrived

EventCallback = Callable[..., None]


class Supervisor:
    """Runs one node.

    Parameters
    ----------
    config
        Configuration of the node.
    read_config
        Reads the configuration again, from another file if it gets a path.
    on_event
        Called with an event and its details: ``listening``, ``stream``, ``compiling``, ``block`` and ``remaining``.
    environment
        Environment variables that are added for the children.

    Attributes
    ----------
    state
        The processes and streams of the node.
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
        self._http = HttpServer(config.node.health_port, names, self._get_status)
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

    def _get_status(self) -> Message:
        """Return the status in another thread; a supervisor that hangs is a TimeoutError."""

        async def get() -> Message:
            return status(self.state)

        assert self._finished is not None
        return asyncio.run_coroutine_threadsafe(get(), self._finished.get_loop()).result(_STATUS_SECONDS)

    async def run(self) -> None:
        """Run until the streams end, the node is drained, or it fails.

        Raises
        ------
        EdgefilterError
            If the node cannot start, or the settings fit none of its streams.
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
        """Run a coroutine as a task; an exception in it ends the node."""
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

    # --- start

    async def _start_children(self) -> None:
        for child in await self.state.children.open():
            if not self._adopt(child):
                child.stopping = True
                child.kill()
                await child.ended
        for stream in self.state.streams:
            if stream.reducer is not None:
                stream.reducer.send("go on")  # cancels an upgrade that the last supervisor had begun
            else:
                self.state.start_reducer(stream)
        if self.state.receiver is None:
            self.state.start_receiver()
        if self.state.forwarder is None:
            self.state.start_forwarder()
        self.state.streams.write()

    def _adopt(self, child: Child) -> bool:
        """Take over a child of the last supervisor; return False if another child has its role already."""
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
        self.state.log.info("process taken over", child=child.name, pid=child.pid)
        return True

    # --- messages from children

    def _on_message(self, child: Child, message: Message) -> None:
        kind = message["kind"]
        stream = self.state.streams.get(child.stream or message.get("input", ""))
        if kind not in ("hello", "block"):
            self.state.log.debug("message received", child=child.name, message=message)
        if kind in ("listening", "ready", "took over"):
            self.state.working.add((child.role, child.stream))
            self._failed_starts.pop((child.role, child.stream), None)
        match kind:
            case "hello":
                self._on_hello(child)
            case "listening" if stream is not None:
                self._on_listening(stream, message["endpoint"])
            case "stream" if stream is not None and child.role == "reducer":
                self._on_stream(stream, message["header"])
            case "block" if stream is not None:
                self._on_block(child, stream, message)
            case "backend":
                self.state.log.info("backend", child=child.name, backend=message["backend"], line=message["line"])
            case "compiling":
                self._on_event("compiling", kernel=message["kernel"])
                self.state.log.debug("compiling", kernel=message["kernel"])
            case "finished" if stream is not None and child is stream.reducer and message["last"]:
                child.stopping = stream.finished = True
            case "retired" | "drained":
                child.stopping = True

    def _on_hello(self, child: Child) -> None:
        """Handle the state of a child, which may have sent the same news to a supervisor that died."""
        for name, fields in child.state.get("inputs", {}).items():
            stream = self.state.streams.get(name)
            if stream is not None and not child.stopping:
                self._on_listening(stream, fields["endpoint"])
        stream = self.state.streams.get(child.stream)
        if child.role == "reducer" and stream is not None and child is stream.reducer and child.state.get("header"):
            self._on_stream(stream, child.state["header"])

    def _on_listening(self, stream: NodeStream, endpoint: str) -> None:
        stream.endpoint = endpoint
        self._on_event("listening", endpoint=endpoint, stream=stream.name)
        self.state.log.debug("listening", endpoint=endpoint, stream=stream.name)
        sd_notify(f"READY=1\nSTATUS=listening on {endpoint}")

    def _on_stream(self, stream: NodeStream, header: str) -> None:
        if stream.header is None:
            stream.header = header
            self._on_event("stream", header=stream.header, config=stream.config)

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

    # --- end and restart of children

    def _on_exit(self, child: Child) -> None:
        stream = self.state.streams.get(child.stream)
        self.state.streams.add_ended_counters(child)
        if child.stopping or (stream is not None and child is stream.replacement):
            self.state.log.debug("process ended", child=child.name)
            if stream is not None and stream.finished and self.state.streams.all_done:
                self._start_task(self._drain())
            return
        self.state.log.warning("process died", child=child.name, why=child.why)
        key = (child.role, child.stream)
        if child.ready:
            self.state.working.add(key)
        attempts = self._failed_starts[key] = self._failed_starts.get(key, 0) + 1
        if key not in self.state.working and (child.refused or attempts == _MAX_START_ATTEMPTS):
            if stream is not None and not stream.ring:
                stream.refused = child.why
            if stream is None or not stream.refused or all(other.refused for other in self.state.streams):
                self._end(EdgefilterError(child.why))
            return
        self.state.restarts[child.role] += 1
        delay = 0.0 if attempts == 1 else min(_MAX_RESTART_DELAY, _FIRST_RESTART_DELAY * 2.0 ** (attempts - 2))
        self._start_task(self._restart(child, stream, delay))

    async def _restart(self, child: Child, stream: NodeStream | None, delay: float) -> None:
        await asyncio.sleep(delay)
        if child is self.state.forwarder:
            self.state.start_forwarder()
        elif child is self.state.receiver and not self.state.draining:
            self.state.start_receiver()
        elif stream is not None and child is stream.reducer:
            self.state.start_reducer(stream)

    async def _monitor_children(self) -> None:
        watchdog_interval = watchdog_seconds()
        last_watchdog_time = last_tick_time = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            if now - last_tick_time > 4 * _TICK_SECONDS:  # this process or the machine was suspended
                self.state.children.reset_hang_timers()
            last_tick_time = now
            for child in self.state.children.hung(self.state.config.node.hang_seconds):
                self.state.log.warning("process hung", child=child.name, why=child.why)
                child.kill()
            self.state.streams.count(self.state.children.all.values(), now)
            if watchdog_interval is not None and now - last_watchdog_time > watchdog_interval - _TICK_SECONDS:
                sd_notify("WATCHDOG=1")
                last_watchdog_time = now

    # --- end of the node

    def _on_stop_signal(self) -> None:
        if self.state.draining:  # the second signal ends the node at once; ring and spool keep their content
            self.state.log.warning("stopped before all samples were reduced: the next start continues")
            self.state.streams.keep_runs = True
            self._end()
        else:
            self._start_task(self._drain())

    async def _drain(self) -> None:
        """Receive what has arrived, reduce it, empty the spool, and end the node."""
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
            if (ring := stream.ring) is None:
                if stream.reducer is not None:
                    stream.reducer.stopping = True
                    stream.reducer.kill()
            else:
                with suppress(EdgefilterError), RingWriter.attach(ring) as writer:
                    writer.end()  # in case the receiver died before it could end the run
        while any(stream.ring and not stream.finished for stream in self.state.streams):
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
            if child.ended.done():  # it failed, or another supervisor started it and its exit status is unknown
                self.state.start_forwarder()
        if child is not None:
            self._on_event("remaining", products=child.state.get("products", 0), why=child.state.get("last_error", ""))

    async def _reload(self) -> None:
        try:
            await self._upgrader.reload(self.state.log.info)
        except EdgefilterError as error:
            self.state.log.error("not reloaded", why=str(error))
