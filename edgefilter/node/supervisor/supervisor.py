"""The supervisor: starts the processes of a node, watches them, replaces them, and stops them in order.

It holds nothing that is needed to go on: samples are in the rings, products and cursors in the spool. When it dies its
children work on, and the next supervisor takes them over.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import ConfigError, EdgefilterError
from edgefilter.node.ipc import Message
from edgefilter.node.logs import logger
from edgefilter.node.ring import RingWriter
from edgefilter.node.run_directory import run_directory
from edgefilter.node.supervisor.control_socket import Control
from edgefilter.node.supervisor.http import Health
from edgefilter.node.supervisor.processes import Child, ChildError, Children
from edgefilter.node.supervisor.status import status
from edgefilter.node.supervisor.streams import NodeStream, Streams
from edgefilter.node.supervisor.systemd import notify, watchdog_seconds
from edgefilter.node.supervisor.upgrade import Upgrades

_TICK_SECONDS = 0.25
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0  # before a process that keeps dying is started again, s
_TRIES = 5  # to start a process that never worked
_RING_SECONDS = 60.0
_DRAIN_SECONDS = 60.0  # for a receiver to take in what has arrived

_OF_THE_RING = {"buffer_seconds", "shallow", "policy"}  # settings of [input] that no receiver needs

Tell = Callable[..., None]


class Supervisor:
    """One node.

    Parameters
    ----------
    config
        Its configuration.
    read_config
        Reads the configuration again, from another file if one is named.
    tell
        Called with a fact and its details: ``listening``, ``stream``, ``block`` and ``remaining``.
    environment
        What children find in their environment.
    """

    def __init__(
        self,
        config: NodeConfig,
        read_config: Callable[[str | None], NodeConfig],
        tell: Tell = lambda *_, **__: None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.config = config
        self.read_config = read_config
        self.tell = tell
        self.log = logger(node=config.node.name)
        self.directory = run_directory(config)
        self.children = Children(self.directory, self._hear, self._lose, environment or {})
        self.streams = Streams(self.directory, config)
        self.receiver: Child | None = None
        self.receiver_python = sys.executable
        self.forwarder: Child | None = None
        self.restarts: dict[str, int] = {"receiver": 0, "reducer": 0, "forwarder": 0}
        self.began = time.monotonic()
        self.draining = False
        self.upgrades = Upgrades(self)
        self._health = Health(self)
        self._control = Control(self.directory / "control.sock", self)
        self._fruitless: dict[tuple[str, str], int] = {}
        self._proven: set[tuple[str, str]] = set()
        self._over: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run until the streams end, the node is drained, or it cannot go on.

        Raises
        ------
        EdgefilterError
            If it cannot begin, or no stream goes with its settings.
        """
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.do(self._reload()))
        try:
            self._health.open()
            await self._control.open()
            await self._begin()
            self.do(self._watch())
            await self._over
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._control.close()
            self._health.close()
            await self.children.close()
        self.streams.remove()

    def do(self, work: Any) -> "asyncio.Task[None]":
        """Run a coroutine beside all else; its failure ends the node."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(error)

    def _end(self, error: BaseException | None = None) -> None:
        if self._over is not None and not self._over.done():
            if error is None:
                self._over.set_result(None)
            else:
                self._over.set_exception(error)

    # --- beginning

    async def _begin(self) -> None:
        for child in await self.children.open():
            if not self._adopt(child):
                child.leaving = True
                child.kill()
                await child.ended
        for stream in self.streams:
            if stream.reducer is not None:
                stream.reducer.send("go on")  # whatever the last supervisor was about
        fresh = [stream for stream in self.streams if stream.reducer is None]
        expected = []
        for stream in fresh:
            self.start_reducer(stream)
            assert stream.reducer is not None
            if stream.ring.exists():
                expected.append((stream.reducer, stream.reducer.expect("ring")))
        for reducer, message in expected:  # so that the receiver drops no frame of a stream that goes on
            with suppress(ChildError):
                await reducer.answer(message, _RING_SECONDS)
        if self.receiver is None:
            self.start_receiver()
        if self.forwarder is None and self.streams.spool.exists():
            self._start_forwarder()
        self.streams.write()

    def _adopt(self, child: Child) -> bool:
        """Take over a child of the last supervisor, unless there is one in its place."""
        stream = self.streams.get(child.stream)
        if child.role == "receiver" and self.receiver is None:
            self.receiver = child
        elif child.role == "forwarder":
            self.forwarder = child
        elif child.role == "reducer" and stream is not None and stream.reducer is None:
            stream.reducer = child
        else:
            return False
        self._proven.add((child.role, child.stream))
        self.log.info("adopted", child=child.name, pid=child.pid)
        self._settle(child)  # the last supervisor may have died before it did; who has settings keeps them
        return True

    def _settle(self, child: Child) -> None:
        """Send a child its first message."""
        stream = self.streams.get(child.stream)
        if child.role == "receiver":
            self.send_inputs(child)
        elif child.role == "forwarder":
            child.send("settings", spool=str(self.streams.spool), config=self.config.model_dump(mode="json"))
        elif stream is not None:
            child.send("settings", **self.reducer_settings(stream, stream.config, shadow=False))
            if stream.arrived and not stream.header:
                child.send("stream", header=stream.arrived)

    def start_receiver(self, python: str = "") -> Child:
        """Start a receiver and give it its inputs."""
        child = self.receiver = self.children.spawn("receiver", python=python or self.receiver_python)
        self._settle(child)
        return child

    def send_inputs(self, receiver: Child) -> None:
        """Send a receiver its first message."""
        receiver.settled = True
        receiver.send("settings", inputs=[self._input(stream) for stream in self.streams])

    def _input(self, stream: NodeStream) -> Message:
        settings = self.config.input_of(stream.section).model_dump(mode="json", exclude=_OF_THE_RING)
        settings |= {"name": stream.name, "ring": str(stream.ring) if stream.header else None}
        if ("receiver", "") not in self._proven:
            settings["bind_seconds"] = 0.0  # no predecessor is about to leave the endpoint
        return settings | {"endpoint": stream.endpoint or settings["endpoint"]}

    def start_reducer(self, stream: NodeStream) -> None:
        """Start the reducer of a stream; it goes on where the last one was."""
        stream.reducer = self.children.spawn("reducer", stream.name, stream.python)
        self._settle(stream.reducer)

    def reducer_settings(self, stream: NodeStream, config: NodeConfig, shadow: bool) -> Message:
        """Return the first message of a reducer."""
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

    def _start_forwarder(self) -> None:
        self.forwarder = self.children.spawn("forwarder")
        self._settle(self.forwarder)

    # --- what children say

    def _hear(self, child: Child, message: Message) -> None:
        kind = message["kind"]
        stream = self.streams.get(child.stream or message.get("input", ""))
        if kind not in ("hello", "block"):
            self.log.debug("heard", child=child.name, message=message)
        if kind in ("listening", "ready", "took over"):
            self._proven.add((child.role, child.stream))
            self._fruitless.pop((child.role, child.stream), None)
        if kind == "hello":
            self._catch_up(child)
        elif kind == "listening" and stream is not None:
            self._listens(stream, message["endpoint"])
        elif kind == "stream" and stream is not None:
            self._stream_came(stream, message["header"])
        elif kind == "ring" and stream is not None:
            self._ring_made(stream, message["header"])
        elif kind == "block" and stream is not None:
            self._block_made(child, stream, message)
        elif kind == "backend":
            self.log.info("backend", child=child.name, backend=message["backend"], line=message["line"])
        elif kind == "compiling":
            self.tell("compiling", kernel=message["kernel"])
            self.log.debug("compiling", kernel=message["kernel"])
        elif kind == "finished" and stream is not None and child is stream.reducer and message["last"]:
            child.leaving = stream.finished = True
        elif kind == "retired" or (kind == "drained"):
            child.leaving = True

    def _catch_up(self, child: Child) -> None:
        """Learn from a child's state what it may have told to a supervisor that died."""
        for name, facts in child.state.get("inputs", {}).items():
            stream = self.streams.get(name)
            if stream is not None and not child.leaving:
                self._listens(stream, facts["endpoint"])
                if facts["header"] and not facts["ring"]:
                    self._stream_came(stream, facts["header"])
        stream = self.streams.get(child.stream)
        if child.role == "reducer" and stream is not None and child is stream.reducer and child.state.get("header"):
            self._ring_made(stream, child.state["header"])

    def _listens(self, stream: NodeStream, endpoint: str) -> None:
        stream.endpoint = endpoint
        self.streams.write()
        self.tell("listening", endpoint=endpoint, stream=stream.name)
        self.log.debug("listening", endpoint=endpoint, stream=stream.name)
        notify(f"READY=1\nSTATUS=listening on {endpoint}")

    def _stream_came(self, stream: NodeStream, header: str) -> None:
        stream.arrived = header
        if stream.reducer is not None:
            stream.reducer.send("stream", header=header)

    def _ring_made(self, stream: NodeStream, header: str) -> None:
        if stream.header is None:
            stream.header = header
            self.streams.write()
            self.tell("stream", header=stream.header, config=stream.config)
            if self.forwarder is None:
                self._start_forwarder()
        for child in self.children.all.values():
            if child.role == "receiver" and child.settled:
                child.send("ring", input=stream.name, path=str(stream.ring))

    def _block_made(self, child: Child, stream: NodeStream, message: Message) -> None:
        made = stream.shadow_made if child is stream.candidate else stream.made
        made.note(message)
        if not message["shadow"]:
            self._health.observe(stream.name, message["latency"])
            counts = message["counts"]
            self.tell("block", stream=stream.name, block=message["block"], counts=counts)
            self.log.debug("block", stream=stream.name, block=message["block"], latency=message["latency"], **counts)

    # --- what becomes of them

    def _lose(self, child: Child) -> None:
        stream = self.streams.get(child.stream)
        self.streams.add_past(child)
        if child.leaving or (stream is not None and child is stream.candidate):
            self.log.debug("ended", child=child.name)
            if stream is not None and stream.finished and self.streams.all_done:
                self.do(self.drain())
            return
        self.log.warning("died", child=child.name, why=child.why)
        key = (child.role, child.stream)
        tries = self._fruitless[key] = self._fruitless.get(key, 0) + 1
        if key not in self._proven and (child.refused or tries == _TRIES):
            if stream is not None and not stream.header:
                stream.refused = child.why
            if stream is None or stream.header or all(other.refused for other in self.streams):
                self._end(EdgefilterError(child.why))
            return
        self.restarts[child.role] += 1
        wait = 0.0 if tries == 1 else min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (tries - 2))
        self.do(self._start_again(child, stream, wait))

    async def _start_again(self, child: Child, stream: NodeStream | None, wait: float) -> None:
        await asyncio.sleep(wait)
        if child is self.forwarder:
            self._start_forwarder()
        elif child is self.receiver and not self.draining:
            # It would drop the frames of a stream that is known but has no ring yet.
            while any(other.arrived and not (other.header or other.refused) for other in self.streams):
                await asyncio.sleep(_TICK_SECONDS / 5)
            self.start_receiver()
        elif stream is not None and child is stream.reducer:
            self.start_reducer(stream)

    async def _watch(self) -> None:
        pet = watchdog_seconds()
        petted = ticked = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            if now - ticked > 4 * _TICK_SECONDS:  # this process slept, or the machine did
                self.children.forgive()
            ticked = now
            for child in self.children.hung(self.config.node.hang_seconds):
                self.log.warning("hung", child=child.name, seconds=round(max(now - child.heard, child.idle), 1))
                child.kill()
            self.streams.count(self.children.all.values(), now)
            if pet is not None and now - petted > pet - _TICK_SECONDS:
                notify("WATCHDOG=1")
                petted = now

    # --- ending

    def _asked_to_stop(self) -> None:
        if self.draining:  # asked twice: at once; ring and spool keep what is there
            self.log.warning("stopped before all was reduced: the next start goes on")
            for stream in self.streams:
                stream.keep_ring = True
            self._end()
        else:
            self.do(self.drain())

    async def drain(self) -> None:
        """Take in what has arrived, reduce it, empty the spool, and end."""
        if self.draining:
            return
        self.draining = True
        notify("STOPPING=1")
        self.log.info("draining")
        await self.upgrades.give_up()
        for child in list(self.children.all.values()):
            if child.role == "receiver":
                child.leaving = True
                child.send("drain")
                await asyncio.wait({child.ended}, timeout=_DRAIN_SECONDS)
                child.kill()
        for stream in self.streams:
            if stream.header is None:
                if stream.reducer is not None:
                    stream.reducer.leaving = True
                    stream.reducer.kill()
            elif stream.ring.exists():
                with suppress(EdgefilterError), RingWriter.attach(stream.ring) as ring:
                    ring.end()  # if the receiver died instead of ending it
        while any(stream.header and not stream.finished for stream in self.streams):
            await asyncio.sleep(_TICK_SECONDS / 5)
        await self._drain_forwarder()
        self._end()

    async def _drain_forwarder(self) -> None:
        until = time.monotonic() + self.config.node.drain_seconds
        while (child := self.forwarder) is not None and time.monotonic() < until:
            if not child.leaving:
                child.leaving = True
                child.send("drain")
            await asyncio.wait({child.ended}, timeout=until - time.monotonic())
            if child.ended.done() and child.ended.result() == 0:
                return
            if child.ended.done():  # of one that another supervisor had started nobody knows how it ended
                self._start_forwarder()
        if child is not None:
            self.tell("remaining", products=child.state.get("products", 0), why=child.state.get("last_error", ""))

    async def _reload(self) -> None:
        try:
            await self.upgrades.reload(self.log.info)
        except EdgefilterError as error:
            self.log.error("not reloaded", why=str(error))

    def status(self) -> Message:
        """Say how the node is; see :func:`edgefilter.node.supervisor.status.status`."""
        return status(self)

    @property
    def health_port(self) -> int | None:
        """Port of the health server, if there is one."""
        return self._health.port

    def check_running(self) -> None:
        """Refuse what a node that ends cannot do.

        Raises
        ------
        ConfigError
            If it is about to end.
        """
        if self.draining:
            raise ConfigError("the node is draining")
