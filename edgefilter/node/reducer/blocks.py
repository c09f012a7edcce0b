"""The work of a reducer process: it reads aligned blocks from the ring and commits their products to the spool.

::

    run file ─▶ stream header ─▶ ring ─▶ compile ─▶ reduce window by window ─▶ end of the run
                                                 └▶ as a shadow: blocks are compared ─▶ take over at a block

A cursor belongs to a *run*, the life of one ring. A process that starts within a run continues at the cursor: it reads
again the history that the stages need, which its predecessor has protected from being overwritten. A shadow makes the
same products beside the reducer, and keeps them only from the block on at which it is to take over.
"""

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from edgefilter.core.chunk import Chunk
from edgefilter.core.clock import NS, tai_ns, tai_ns_from_utc_mjd
from edgefilter.core.closing import Closing
from edgefilter.core.config import NodeConfig
from edgefilter.core.endpoint import input_packages
from edgefilter.core.errors import InputError
from edgefilter.core.locks import acquire_lock
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.validation import validate
from edgefilter.core.version import __version__
from edgefilter.node.ipc import Link, Message
from edgefilter.node.reducer.block_committer import BlockCommitter, ReducedBlock
from edgefilter.node.reducer.latency import ArrivalTimes
from edgefilter.node.ring import Policy, RingReader, make_ring
from edgefilter.node.run_file import Run, RunFile
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.pipeline.engine import Engine
from edgefilter.pipeline.resource_budget import ResourceBudget, ring_samples, warm_up
from edgefilter.products.base import Product
from edgefilter.products.totals import BlockSummary

_POLL_SECONDS = 0.1
_ATTACH_SECONDS = 10.0  # for a predecessor to leave the ring
_READER = "reducer"
_SHADOW = "shadow"


class _StopReducing(Exception):  # noqa: N818 - not an error: another process reduces the next block
    """The last block of this process is done."""


class ReducerWorker(Closing):
    """Reduces one stream.

    Parameters
    ----------
    link
        Where commands come from and events go to.
    settings
        Settings of the process: see :func:`~edgefilter.node.process_settings.reducer_settings`.

    Raises
    ------
    EdgefilterError
        If the settings are not valid, or another process reduces the stream.
    """

    def __init__(self, link: Link, settings: Message) -> None:
        self._link = link
        self._settings = settings
        self._directory = Path(settings["directory"])
        self._run_file = RunFile(self._directory, settings["stream"])
        self._config = validate(NodeConfig, settings["config"])
        sections = {stream.name: stream for stream in self._config.stream}
        self._input = self._config.input_of(sections.get(settings["stream"], self._config.stream[0]))
        self._shadow: bool = settings["shadow"]
        self._stack = ExitStack()
        self._committer: BlockCommitter | None = None  # None in shadow
        self._header: ReducedBlock | None = None
        self._uncommitted: list[ReducedBlock] | None = None  # of a shadow that is about to take over
        self._end_sample: int | None = None
        self._stopping = False
        self._arrival_times = ArrivalTimes()
        self._reader: RingReader | None = None
        # A shadow cannot fall back to the processor: the ring does not keep the history that this needs.
        node = self._config.node
        self._backend_selector = BackendSelector(
            node.backend, node.threads, self._on_backend, fall_back_to_threads=not self._shadow
        )
        self._state: Message = {"ready": False, "phase": "waiting", "shadow": self._shadow, "reason": ""}
        now = time.time()
        self._tai_minus_utc_ns = tai_ns_from_utc_mjd(40587 + int(now // 86400), now % 86400) - round(now * NS)
        if not self._shadow:
            self._lock_stream()
            self._run_file.remove_stale_rings()
        link.set_state_callback(self.state)

    def run(self) -> Run | None:
        """Reduce until the run ends, another reducer takes over, or a command ends this one.

        Returns
        -------
        Run or None
            The run, if it has ended and all of it is committed.

        Raises
        ------
        EdgefilterError
            If the settings do not fit the stream, or the ring or the spool cannot be used.
        """
        self._link.send("status", line=f"waiting for stream {self._settings['stream']}")
        with suppress(_StopReducing):
            self._run = run = self._wait_for_run()
            self._plan = plan = Plan(
                run.stream, resolve(self._config, run.stream), input_packages(self._input.endpoint)
            )
            self._block_samples = plan.samples_per_block
            self._restartable = self._make_ring()
            self._link.send("stream", header=run.stream.to_json())
            self._update_state(phase="warming", header=run.stream.to_json(), stream=run.stream.id)
            self._update_state(code=__version__, settings=plan.settings.digest(), node=self._config.node.name)
            if self._shadow:
                warm_up(plan, self._backend_selector)
            else:
                self._open_spool()
                self._delete_stale_shadow_cursor()
            self._reader = self._attach(_SHADOW if self._shadow else _READER)
            first = self._wait_for_first_sample()
            if first is not None:
                self._reduce(first)
            self._update_state(phase="ended")
            while self._shadow:  # it may still have to take over the last blocks
                self._handle_commands()
                time.sleep(_POLL_SECONDS)
            finished = self._end_sample is None
            self._link.send("finished", last=finished, state=self.state())
            return run if finished else None
        return None

    def state(self) -> Message:
        """Return the state for the heartbeat; the thread of the IPC client calls it."""
        state = dict(self._state)
        next_sample = state.get("next_sample")
        with suppress(ValueError):  # the reader was closed meanwhile
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

    def _lock_stream(self) -> None:
        stream = self._settings["stream"]
        error = InputError(f"stream {stream}: another reducer runs in {self._directory}")
        lock = self._directory / f"reducer-{stream}.lock"
        acquire_lock(self._stack, lock, self._settings["wait_seconds"], error)

    def _wait_for_run(self) -> Run:
        while (run := self._run_file.read()) is None:
            self._link.mark_progress()
            message = self._link.receive(_POLL_SECONDS)
            if message is not None and message["kind"] in ("drain", "retire", "orphaned"):
                raise _StopReducing
        return run

    def _make_ring(self) -> bool:
        """Make the ring if there is none; return whether it is large enough for a restart without loss."""
        ring, plan = self._run.ring, self._plan
        capacity = ring_samples(plan, self._input)
        if not ring.exists():  # make_ring would first allocate all its memory
            make_ring(ring, plan.stream, capacity, Policy(self._input.policy))
        with RingReader.attach(ring, None) as reader:
            if reader.capacity < capacity:
                raise InputError(
                    f"the ring holds {plan.stream.seconds(reader.capacity):.4g} s, these settings need "
                    f"{plan.stream.seconds(capacity):.4g} s: restart the node to use them"
                )
        return not self._input.shallow

    def _attach(self, name: str) -> RingReader:
        """Attach to the ring; wait for a predecessor that is about to end."""
        deadline = time.monotonic() + _ATTACH_SECONDS
        while True:
            try:
                reader = RingReader.attach(self._run.ring, name)
            except InputError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            self._stack.callback(reader.close)
            return reader

    def _open_spool(self) -> None:
        """Open the spool; wait for a predecessor to end."""
        self._committer = self._stack.enter_context(
            BlockCommitter(
                self._settings,
                self._plan,
                self._run.name,
                self._config.spool.budget_bytes,
                self._on_spool_wait,
            )
        )
        self._update_state(tally=dict(self._committer.totals))

    def _on_spool_wait(self, reason: str) -> None:
        self._update_state(reason=reason)
        self._handle_commands()

    def _wait_for_first_sample(self) -> int | None:
        assert self._reader is not None
        while (first := self._reader.wait_for_first_sample(_POLL_SECONDS)) is None and self._reader.last is None:
            self._handle_commands()
            if self._run_file.read() != self._run:
                break  # the receiver has ended the run before it had a ring
        return first

    # --- block by block

    def _reduce(self, first: int) -> None:
        plan = self._plan
        self._first_sample = first
        stream_first_block = plan.block_of_sample(first)
        if self._committer is not None:
            next_block = self._committer.first_block(first)
        else:
            next_block = self._first_shadow_block(stream_first_block)
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
            self._link.send("ready", settings=plan.settings.digest(), state=self.state())
            self._link.send("status", line=f"reducing {plan.stream.id}")
            while not engine.finished:
                if not self._feed_next():
                    engine.finish()

    def _first_shadow_block(self, stream_first_block: int) -> int:
        """Return the first block whose whole window is in the ring, where the shadow's cursor protects it."""
        assert self._reader is not None
        tail = max(self._reader.tail, self._reader.cursor)
        if tail <= self._first_sample:
            return stream_first_block
        first_whole_block = -(-(tail + self._plan.filter_samples) // self._block_samples)
        return max(stream_first_block, first_whole_block + ResourceBudget.from_plan(self._plan).history_blocks)

    def _feed_next(self) -> bool:
        """Reduce one window if it is ready; return False after the end of the run."""
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
        """Return a window that is ready, to copy it to the GPU early. A shadow never reads ahead."""
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
        """Return the first sample that this process, or its successor if it dies, has to read."""
        reducer = self._engine.reducer
        block = reducer.next_input_block
        if self._restartable and not self._shadow:
            block = min(block, self._state["next_sample"] // self._block_samples - reducer.history_blocks)
        return reducer.window(max(block, 0))[0]

    def _on_block(self, products: Sequence[Product], next_block: int, summary: BlockSummary) -> None:
        self._link.mark_progress()
        block = ReducedBlock(products, next_block, dict(summary.counts))
        if not summary.counts:
            self._header = block
            if self._committer is not None:
                self._committer.commit_header(block)
            return
        if self._end_sample is not None and next_block * self._block_samples > self._end_sample:
            raise _StopReducing
        if self._committer is not None:
            self._commit(self._committer, block)
        elif self._uncommitted is not None:
            self._uncommitted.append(block)
        self._update_state(ready=True, next_sample=next_block * self._block_samples)
        self._report_block(block)

    def _on_backend(self, backend: str, line: str) -> None:
        self._update_state(backend=backend)
        self._link.send("backend", backend=backend, line=line)

    def _commit(self, committer: BlockCommitter, block: ReducedBlock) -> None:
        committer.commit(block, self._first_sample)
        self._update_state(reason="", tally=dict(committer.totals))

    def _report_block(self, block: ReducedBlock) -> None:
        names = sorted(product.name for product in block.products)
        latency = self._arrival_times.latency(block.next_block * self._block_samples, time.monotonic())
        self._link.send(
            "block",
            block=block.next_block - 1,
            digest=hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
            folders={name.partition("/")[0]: name.rpartition("-")[2] for name in names},
            counts=block.counts,
            latency=latency,
            shadow=self._shadow,
        )

    # --- commands

    def _handle_commands(self) -> None:
        self._link.mark_progress()
        while (message := self._link.receive(0)) is not None:
            match message["kind"]:
                case "drain":
                    self._stopping = True
                case "end":
                    self._agree_end(message["at"], message["step"])
                case "go on":
                    self._end_sample = None
                    self._delete_stale_shadow_cursor()
                case "prepare":
                    self._prepare(message["align"])
                case "take over":
                    self._take_over(message["at"])
                case "retire" | "orphaned":
                    raise _StopReducing
        # A run that has ended is reduced to its end; another continues in the next process.
        if self._stopping and (self._reader is None or self._reader.last is None):
            raise _StopReducing

    def _agree_end(self, at: int, step: int) -> None:
        """Stop at sample ``at`` for another reducer, or some steps later if blocks after it are done, and report it."""
        done: int = self._state["next_sample"]
        self._end_sample = at + max(0, -(-(done - at) // step)) * step
        self._link.send("ending", at=self._end_sample)
        if done >= self._end_sample:
            raise _StopReducing

    def _prepare(self, align: int) -> None:
        """Keep the products from now on, and report their first sample, rounded up to a multiple of ``align``."""
        self._uncommitted = []
        block = self._state["next_sample"] // self._block_samples
        while block * self._block_samples % align:
            block += 1
        self._link.send("prepared", at=block * self._block_samples)

    def _take_over(self, at: int) -> None:
        """Continue as the reducer, from the sample at which the old reducer has ended.

        Raises
        ------
        InputError
            If the old reducer died before that sample.
        """
        self._lock_stream()
        self._open_spool()
        assert self._committer is not None
        assert self._header is not None
        assert self._reader is not None
        done = self._committer.next_sample()
        if done is None:
            done = self._first_sample // self._block_samples * self._block_samples
        if done < at:
            raise InputError(f"the old reducer ended at sample {done}, expected {at}")
        self._shadow = False
        shadow, self._reader = self._reader, self._attach(_READER)
        shadow.detach()
        self._committer.commit_header(self._header)
        for block in self._uncommitted or ():
            if block.next_block * self._block_samples > at:
                self._commit(self._committer, block)
        self._uncommitted = None
        self._update_state(shadow=False)
        self._link.send("took over", at=at)

    def _delete_stale_shadow_cursor(self) -> None:
        """Delete the cursor of a shadow that died, which holds the writer back."""
        path = self._run.ring
        with RingReader.attach(path, None) as ring:
            stale = any(reader.name == _SHADOW for reader in ring.readers())
        if stale:  # otherwise do not attach: mapping some GB takes a second
            with suppress(InputError):
                RingReader.attach(path, _SHADOW).detach()

    def _update_state(self, **fields: Any) -> None:
        self._state = self._state | fields
        self._link.mark_progress()

    def close(self) -> None:
        """Close the ring and the spool."""
        self._stack.close()
