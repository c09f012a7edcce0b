"""The node in one process: a receiver thread fills the ring, the caller's thread reduces what is in it."""

import contextlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from edgefilter.config import NodeConfig
from edgefilter.engine import Engine, ReducedSummary, into
from edgefilter.errors import EdgefilterError
from edgefilter.node.old_receiver import Receiver, ReceiverCounters
from edgefilter.node.ring import Ring
from edgefilter.plan import Plan, resolve
from edgefilter.store.directory import DirectoryStore
from edgefilter.stream import Stream
from edgefilter.tally import Tally

_POLL_SECONDS = 0.1


class Daemon:
    """Receives one stream and reduces it into a store.

    1. :meth:`wait_for_stream` waits for the stream's header; the ring is made by it.
    2. :meth:`reduce` takes block after block out of the ring. A block is taken when all its samples have come, or when
       ``input.late_seconds`` of newer ones have.
    3. When the stream ends or ``stop`` is set, the receiver first takes in what has arrived, then the last, partial
       block is reduced. Nothing that has arrived is lost.

    Parameters
    ----------
    config
        The node's configuration.
    store
        Directory of the store.

    Raises
    ------
    InputError
        If the endpoint cannot be bound.
    StoreError
        If the store cannot be written.
    """

    def __init__(self, config: NodeConfig, store: str | Path) -> None:
        self._config = config
        self.tally = Tally()
        self._made: queue.SimpleQueue[tuple[Plan, Ring] | EdgefilterError] = queue.SimpleQueue()
        self._plan: Plan | None = None
        self._ring: Ring | None = None
        # Bound first: a node that cannot listen leaves no store behind.
        self._receiver = Receiver(config.input.endpoint, self._make_ring)
        try:
            self.store = DirectoryStore(store, create=True)
        except EdgefilterError:
            self._receiver.close()
            raise
        self._thread = threading.Thread(target=self._receive, name="receiver", daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Where the node listens, with the port it got."""
        return self._receiver.endpoint

    @property
    def counters(self) -> ReceiverCounters:
        """What the receiver has counted."""
        return self._receiver.counters

    def wait_for_stream(self, stop: threading.Event) -> Plan | None:
        """Wait for the header of a stream; None if ``stop`` was set first.

        Raises
        ------
        ConfigError
            If the configuration does not go with the stream.
        """
        while not stop.is_set():
            try:
                made = self._made.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(made, EdgefilterError):
                raise made
            self._plan, self._ring = made
            return self._plan
        return None

    def reduce(self, stop: threading.Event, tell: Callable[[ReducedSummary], None] = lambda _: None) -> None:
        """Reduce until the stream ends or ``stop`` is set; call ``tell`` for each finished block."""
        plan, ring = self._plan, self._ring
        assert plan is not None, "wait_for_stream comes first"
        assert ring is not None
        slack = round(self._config.input.late_seconds * plan.stream.rate)
        while (first := ring.wait_for_first(_POLL_SECONDS)) is None and ring.last is None:
            self._heed(stop)
        if first is None:
            return
        begin = plan.block_of_sample(first)
        node = self._config.node
        with Engine(plan, into(self.store), node.name, node.threads, begin, begin, self.tally) as engine:
            while True:
                block = engine.reducer.next_raw
                start, end = engine.reducer.window(block)
                while not ring.wait_until_ready(end, slack, _POLL_SECONDS):
                    self._heed(stop)
                if ring.last is not None and ring.last <= block * plan.samples_per_block:
                    break
                for done in engine.feed(ring.read(start, end)):
                    tell(done)
                ring.release(end - plan.filter_samples)
                self._heed(stop)
            for done in engine.finish():
                tell(done)

    def _heed(self, stop: threading.Event) -> None:
        if stop.is_set():
            self._receiver.stop()

    def _receive(self) -> None:
        # An error of _make_ring has been handed to the thread that waits for the stream.
        with contextlib.suppress(EdgefilterError):
            self._receiver.run()

    def _make_ring(self, stream: Stream) -> Ring:
        try:
            plan = Plan(stream, resolve(self._config, stream))
            ring = Ring(stream, self._capacity(plan))
        except EdgefilterError as error:
            self._made.put(error)
            raise
        self._made.put((plan, ring))
        return ring

    def _capacity(self, plan: Plan) -> int:
        late = round(self._config.input.late_seconds * plan.stream.rate)
        least = plan.filter_samples + 2 * plan.samples_per_block + late
        wanted = round((self._config.input.buffer_seconds or 0.0) * plan.stream.rate)
        return max(least, wanted)

    def close(self) -> None:
        """Stop receiving and give back the socket."""
        if self._ring is not None:
            self._ring.close()  # a receiver that waits for room in it would wait for ever
        self._receiver.stop()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
