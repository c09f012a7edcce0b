"""What a reducer process does: aligned blocks out of the ring, products, account and cursor into the spool.

::

    settings ─▶ stream's header ─▶ ring ─▶ compile ─▶ window by window ─▶ end of the run
                                                   └▶ in shadow, block by block compared ─▶ take over at a block

A cursor belongs to a *run*, which is the life of one ring. A process that starts within a run goes on at the cursor: it
reads again what the stages look back to, which its predecessor has kept from being overwritten. A shadow makes the same
products beside the reducer, and keeps none until it is told from which block on they count.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgefilter.core.chunk import Chunk
from edgefilter.core.clock import NS, tai_ns, tai_ns_from_utc_mjd
from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import InputError, SpoolBusyError, SpoolFullError
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import Stream
from edgefilter.core.validation import validate
from edgefilter.core.version import __version__
from edgefilter.node.ipc import IpcClient, Message
from edgefilter.node.reducer.latency import ArrivalTimes
from edgefilter.node.ring import Policy, RingReader, make_ring
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.pipeline.engine import Engine
from edgefilter.pipeline.resource_budget import ResourceBudget, ring_samples, warm_up
from edgefilter.products.base import Product
from edgefilter.products.totals import BlockSummary
from edgefilter.spool import Cursor, Spool

_POLL_SECONDS = 0.1
_READER = "reducer"
_SHADOW = "shadow"


class _StopReducing(Exception):  # noqa: N818 - no error: the next block is another process's
    """The last block of this process is done."""


class ReducerWorker:
    """One reducer at work.

    Parameters
    ----------
    ipc
        To the supervisor.
    settings
        Its first message: ``config``, ``stream`` (what the node calls it), ``ring`` and ``spool`` (paths), ``run``
        (name of the ring's run), ``header`` (the stream's, if it is known) and ``shadow``.
    """

    def __init__(self, ipc: IpcClient, settings: Message) -> None:
        self._ipc = ipc
        self._settings = settings
        self._config = validate(NodeConfig, settings["config"])
        sections = {stream.name: stream for stream in self._config.stream}
        self._input = self._config.input_of(sections.get(settings["stream"], self._config.stream[0]))
        self._shadow: bool = settings["shadow"]
        self._stack = ExitStack()
        self._spool: Spool | None = None
        self._header: tuple[Sequence[Product], int, dict[str, int]] | None = None
        self._uncommitted: list[tuple[Sequence[Product], int, dict[str, int]]] | None = None
        self._end_sample: int | None = None
        self._totals: Counter[str] = Counter()
        self._arrival_times = ArrivalTimes()
        self._reader: RingReader | None = None
        # The ring keeps nothing for a shadow that looks back: if its card fails, it does.
        node = self._config.node
        self._backend_selector = BackendSelector(
            node.backend, node.threads, self._on_backend, fall_back_to_threads=not self._shadow
        )
        self._state: Message = {"ready": False, "phase": "waiting", "shadow": self._shadow, "reason": ""}
        now = time.time()
        self._tai_minus_utc_ns = tai_ns_from_utc_mjd(40587 + int(now // 86400), now % 86400) - round(now * NS)
        ipc.set_state_callback(self.state)

    def run(self) -> None:
        """Work until the run ends or another reducer takes over.

        Raises
        ------
        EdgefilterError
            If the settings do not go with the stream, or ring or spool cannot be used.
        """
        stream = self._wait_for_stream()
        self._plan = plan = Plan(stream, resolve(self._config, stream))
        self._block_samples = plan.samples_per_block
        self._restartable = self._make_ring()
        self._ipc.send("ring", path=self._settings["ring"], header=stream.to_json())
        self._update_state(phase="warming", header=stream.to_json(), stream=stream.id)
        self._update_state(code=__version__, settings=plan.settings.digest(), node=self._config.node.name)
        if self._shadow:
            warm_up(plan, self._backend_selector)
        else:
            self._open_spool()
            self._detach_stale_shadow()
        self._reader = self._attach(_SHADOW if self._shadow else _READER)
        first = self._wait_for_first_sample()
        if first is not None:
            with suppress(_StopReducing):
                self._reduce(first)
        self._update_state(phase="ended")
        while self._shadow:  # the run has ended, but the last blocks may still be its to keep
            self._handle_commands()
            time.sleep(_POLL_SECONDS)
        self._ipc.send("finished", last=self._end_sample is None, state=self.state())

    def state(self) -> Message:
        """Say what the supervisor is to know at every beat; called in the link's thread."""
        state = dict(self._state)
        next_sample = state.get("next_sample")
        with suppress(ValueError):  # of a reader that was just closed
            if self._reader is not None and next_sample is not None:
                stream, head = self._plan.stream, self._reader.head
                self._arrival_times.record(head, time.monotonic())
                state["lag_seconds"] = stream.seconds(max(0, head - next_sample))
                sky_ns = tai_ns(stream.epoch_tai_ns, stream.rate, next_sample)
                state["behind_sky_seconds"] = (time.time_ns() + self._tai_minus_utc_ns - sky_ns) / NS
                state["ring_seconds"] = stream.seconds(head - max(self._reader.tail, self._first_sample))
                state["ring_capacity_seconds"] = stream.seconds(self._reader.capacity)
        return state

    # --- before the first block

    def _wait_for_stream(self) -> Stream:
        header: str | None = self._settings["header"]
        if header is None and Path(self._settings["ring"]).exists():
            with RingReader.attach(self._settings["ring"], None) as ring:
                return ring.stream
        while header is None:
            self._ipc.mark_progress()
            message = self._ipc.receive(0.5)
            if message is not None and message["kind"] == "stream":
                header = message["header"]
        return Stream.from_json(header)

    def _make_ring(self) -> bool:
        """Make the ring if there is none; return whether it is deep enough for a restart without loss."""
        path, plan = self._settings["ring"], self._plan
        capacity = ring_samples(plan, self._input)
        if not Path(path).exists():
            make_ring(Path(path), plan.stream, capacity, Policy(self._input.policy))
        with RingReader.attach(path, None) as ring:
            if ring.capacity < capacity:
                raise InputError(
                    f"the ring holds {plan.stream.seconds(ring.capacity):.4g} s, these settings need "
                    f"{plan.stream.seconds(capacity):.4g} s: they can take effect when the node starts anew"
                )
        return not self._input.shallow

    def _attach(self, name: str) -> RingReader:
        """Attach to the ring; waits for a predecessor that is about to end."""
        deadline = time.monotonic() + 10
        while True:
            try:
                reader = RingReader.attach(self._settings["ring"], name)
            except InputError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            self._stack.callback(reader.close)
            return reader

    def _open_spool(self) -> None:
        """Open the spool; waits for a predecessor to end."""
        while self._spool is None:
            self._ipc.mark_progress()
            with suppress(SpoolBusyError):
                self._spool = self._stack.enter_context(
                    Spool.open(
                        self._settings["spool"],
                        budget_bytes=self._settings["budget"],
                        role="reducer",
                        name=self._settings["stream"],
                        wait=_POLL_SECONDS,
                    )
                )
        self._totals = Counter(self._spool.run_totals(self._cursor_key))
        self._update_state(tally=dict(self._totals))

    @property
    def _cursor_key(self) -> str:
        """Under what the spool knows the cursor."""
        return f"{self._plan.stream.id}/{self._settings['run']}"

    def _wait_for_first_sample(self) -> int | None:
        assert self._reader is not None
        while (first := self._reader.wait_for_first_sample(_POLL_SECONDS)) is None and self._reader.last is None:
            self._handle_commands()
        return first

    # --- block by block

    def _reduce(self, first: int) -> None:
        plan = self._plan
        self._first_sample = first
        stream_first_block = plan.block_of_sample(first)
        next_block = (
            self._first_shadow_block(stream_first_block) if self._shadow else self._first_block(stream_first_block)
        )
        with Engine(
            plan, self._on_block, self._config.node.name, self._backend_selector, next_block, stream_first_block
        ) as engine:
            self._engine = engine
            self._update_state(
                phase="reducing",
                next_sample=next_block * self._block_samples,
                block_samples=self._block_samples,
                latency_seconds=(engine.reducer.latency_blocks + 1) * plan.block_seconds,
            )
            self._ipc.send("ready", settings=plan.settings.digest(), state=self.state())
            while not engine.finished:
                if not self._feed_next():
                    engine.finish()

    def _first_block(self, stream_first_block: int) -> int:
        """First block that is not committed."""
        assert self._spool is not None
        cursors = self._spool.cursors()
        if own := cursors.get(self._cursor_key):
            return max(stream_first_block, -(-own.next_sample // self._block_samples))
        # The run before may have ended within the block in which this one begins: that block is in the store.
        ends = [c.next_sample for key, c in cursors.items() if key.startswith(f"{self._plan.stream.id}/")]
        starts_in_committed_block = (
            self._first_sample > stream_first_block * self._block_samples
            and (stream_first_block + 1) * self._block_samples in ends
        )
        return stream_first_block + starts_in_committed_block

    def _first_shadow_block(self, stream_first_block: int) -> int:
        """First block all of whose window the ring still has; none of it goes while the shadow's cursor is there."""
        assert self._reader is not None
        tail = max(self._reader.tail, self._reader.cursor)
        if tail <= self._first_sample:
            return stream_first_block
        first_whole_block = -(-(tail + self._plan.filter_samples) // self._block_samples)
        return max(stream_first_block, first_whole_block + ResourceBudget.from_plan(self._plan).history_blocks)

    def _feed_next(self) -> bool:
        """Take one window, if it is there; False once the run has ended."""
        self._handle_commands()
        assert self._reader is not None
        reducer, reader = self._engine.reducer, self._reader
        block = reducer.next_input_block
        _, stop = reducer.window(block)
        reader.release(self._oldest_needed_sample())
        if not reader.wait_until_ready(stop, _POLL_SECONDS):
            return True
        if reader.last is not None and reader.last <= block * self._block_samples:
            return False
        chunk = self._engine.window(reader.read)
        assert chunk is not None
        self._engine.feed(chunk, lambda: reader.still_valid(chunk), self._read_ahead)
        return True

    def _read_ahead(self, start: int, stop: int) -> Chunk | None:
        """Read a window that is ready and that the ring will not overwrite: nothing is held back for a shadow."""
        reader = self._reader
        assert reader is not None
        if (
            self._shadow
            or stop > reader.final
            or (reader.last is not None and reader.last <= stop - self._block_samples)
        ):
            return None
        return reader.read(start, stop)

    def _oldest_needed_sample(self) -> int:
        """First sample that this process, or the next one after its death, has to read."""
        reducer = self._engine.reducer
        block = reducer.next_input_block
        if self._restartable and not self._shadow:
            block = min(block, self._state["next_sample"] // self._block_samples - reducer.history_blocks)
        return reducer.window(max(block, 0))[0]

    def _on_block(self, products: Sequence[Product], next_block: int, summary: BlockSummary) -> None:
        self._ipc.mark_progress()
        item = (products, next_block, dict(summary.counts))
        if not summary.counts:
            self._header = item
            if not self._shadow:
                self._commit_header()
            return
        if self._end_sample is not None and next_block * self._block_samples > self._end_sample:
            raise _StopReducing
        if not self._shadow:
            self._commit(item)
        elif self._uncommitted is not None:
            self._uncommitted.append(item)
        self._update_state(ready=True, next_sample=next_block * self._block_samples)
        self._report_block(item)

    def _on_backend(self, backend: str, line: str) -> None:
        self._update_state(backend=backend)
        self._ipc.send("backend", backend=backend, line=line)

    def _commit_header(self) -> None:
        assert self._header is not None
        assert self._spool is not None
        for product in self._header[0]:
            self._spool.put(product)

    def _commit(self, item: tuple[Sequence[Product], int, dict[str, int]]) -> None:
        products, next_block, counts = item
        assert self._spool is not None
        cursor = Cursor(next_block * self._block_samples, self._first_sample, self._plan.settings.digest())
        while True:
            try:
                committed = self._spool.commit(products, self._cursor_key, cursor, counts)
                break
            except SpoolFullError as error:
                # The ring holds what comes meanwhile, and then, as it is set, the sender.
                self._update_state(reason=str(error))
                self._ipc.mark_progress()
                time.sleep(_POLL_SECONDS)
        if committed:
            self._totals.update(counts)
        self._update_state(reason="", tally=dict(self._totals))

    def _report_block(self, item: tuple[Sequence[Product], int, dict[str, int]]) -> None:
        products, next_block, counts = item
        names = sorted(product.name for product in products)
        latency = self._arrival_times.latency(next_block * self._block_samples, time.monotonic())
        self._ipc.send(
            "block",
            block=next_block - 1,
            digest=hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
            folders={name.partition("/")[0]: name.rpartition("-")[2] for name in names},
            counts=counts,
            latency=latency,
            shadow=self._shadow,
        )

    # --- what the supervisor wants

    def _handle_commands(self) -> None:
        self._ipc.mark_progress()
        while (message := self._ipc.receive(0)) is not None:
            match message["kind"]:
                case "end":
                    self._agree_end(message["at"], message["step"])
                case "go on":
                    self._end_sample = None
                    self._detach_stale_shadow()
                case "prepare":
                    self._prepare(message["align"])
                case "take over":
                    self._take_over(message["at"])
                case "orphaned":
                    raise _StopReducing

    def _agree_end(self, at: int, step: int) -> None:
        """Agree to the sample from which on another reducer is to work: ``at``, or some steps later if that is done."""
        done: int = self._state["next_sample"]
        self._end_sample = at + max(0, -(-(done - at) // step)) * step
        self._ipc.send("ending", at=self._end_sample)
        if done >= self._end_sample:
            raise _StopReducing

    def _prepare(self, align: int) -> None:
        """Keep what is made from now on, and say from which sample it is whole, at a multiple of ``align``."""
        self._uncommitted = []
        block = self._state["next_sample"] // self._block_samples
        while block * self._block_samples % align:
            block += 1
        self._ipc.send("prepared", at=block * self._block_samples)

    def _take_over(self, at: int) -> None:
        """Go on as the reducer, whose last block ended at a sample.

        Raises
        ------
        InputError
            If it died before that: then what it left must be made first.
        """
        self._open_spool()
        assert self._spool is not None
        cursor = self._spool.cursor(self._cursor_key)
        done = cursor.next_sample if cursor else self._first_sample // self._block_samples * self._block_samples
        if done < at:
            raise InputError(f"the reducer before ended at sample {done} instead of {at}")
        self._shadow = False
        assert self._reader is not None
        shadow, self._reader = self._reader, self._attach(_READER)
        shadow.detach()
        self._commit_header()
        for item in self._uncommitted or ():
            if item[1] * self._block_samples > at:
                self._commit(item)
        self._uncommitted = None
        self._update_state(shadow=False)
        self._ipc.send("took over", at=at)

    def _detach_stale_shadow(self) -> None:
        """Free the samples that a shadow which died still holds."""
        path = self._settings["ring"]
        with RingReader.attach(path, None) as ring:
            stale = any(reader.name == _SHADOW for reader in ring.readers())
        if stale:  # attached to in vain it would be mapped in vain, which takes a second for some GB
            with suppress(InputError):
                RingReader.attach(path, _SHADOW).detach()

    def _update_state(self, **fields: Any) -> None:
        self._state = self._state | fields
        self._ipc.mark_progress()

    def close(self) -> None:
        """Let go of ring and spool."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
