"""The forwarder: moves products from the spool to the store, in a process of its own.

The supervisor starts ``python -m edgefilter.node.forwarder.process``, a process manager ``edgefilter forward``.
"""

import logging
import os
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgefilter.core.closing import Closing
from edgefilter.core.errors import ConflictError, SpoolFullError, StoreError, UnavailableError
from edgefilter.core.node_sections import SpoolSection
from edgefilter.core.validation import validate
from edgefilter.node.child_process import run_child
from edgefilter.node.forwarder.retry import Backoff, RateLimiter
from edgefilter.node.ipc import Link, Message
from edgefilter.node.logs import JSON_VARIABLE, configure
from edgefilter.products.base import Product
from edgefilter.products.dropped import dropped_products
from edgefilter.products.merge import merge
from edgefilter.spool import Entry, Spool
from edgefilter.spool.batches import BatchPlanner
from edgefilter.store.base import Store
from edgefilter.store.connect import connect, store_plugin

POLL_SECONDS = 0.2
_MERGE_SECONDS = 1.0
_MAX_DROPPED_NOTES = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ForwarderStatus:
    """Status of the forwarder; uploads and failures are counted from its start.

    Parameters
    ----------
    ready, reason
        Whether the last upload succeeded, and the error if not.
    products, bytes
        Number and size of the products in the spool.
    stuck
        Products that the store refuses permanently.
    dropped
        Dropped products that are not listed in the store's table ``dropped`` yet.
    uploaded, uploaded_bytes
        Number and size of the products that are proven to be in the store.
    failed
        Failed uploads.
    last_error
        Error of the last failed upload.
    """

    ready: bool = True
    reason: str = ""
    products: int = 0
    bytes: int = 0
    stuck: int = 0
    dropped: int = 0
    uploaded: int = 0
    uploaded_bytes: int = 0
    failed: int = 0
    last_error: str = ""


class Forwarder(Closing):
    """Uploads the products of a spool to a store.

    1. Merge groups of table pieces that are due, within the spool; write dropped products into the table ``dropped``.
    2. Upload sealed products by priority and age, several at once; :meth:`Store.put` proves that each has arrived.
    3. Delete uploaded products from the spool, retry failed ones later, quarantine those that the store refuses.

    The process may be killed at any point: repeating an upload changes nothing.

    Parameters
    ----------
    spool
        The spool, opened with the role ``forwarder``.
    store
        The destination.
    settings
        Section ``[spool]`` of the configuration.
    node
        Name of the node, for dropped products whose names do not contain it.
    clock
        Monotonic clock, s.
    rng
        Random numbers for the jitter of delays.
    """

    def __init__(
        self,
        spool: Spool,
        store: Store,
        settings: SpoolSection,
        node: str,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._spool = spool
        self._store = store
        self._node = node
        self._clock = clock
        self._uploads = settings.uploads
        self._batches = BatchPlanner(settings.batch_blocks, settings.batch_seconds)
        self._backoff = Backoff(settings.retry_seconds, rng or random.Random())  # noqa: S311 - jitter
        self._rate_limiter = RateLimiter(settings.bytes_per_second)
        self._pool = ThreadPoolExecutor(settings.uploads, "upload")
        self._in_flight: dict[Future[None], Entry] = {}
        self._merged_at = float("-inf")
        self._dropped_since: float | None = None
        self.draining = False
        self.status = ForwarderStatus()
        self._count()

    def step(self) -> None:
        """Merge, upload and clean up as far as possible without waiting."""
        now = self._clock()
        self._collect(now)
        if self.draining or now - self._merged_at >= _MERGE_SECONDS:
            self._merged_at = now
            # On a full disk this must wait; uploads continue and make room.
            with suppress(SpoolFullError):
                self._merge(now)
                self._write_dropped_tables(now)
        self._start(now)
        self._count()

    def _count(self) -> None:
        payload_totals = self._spool.payload_totals().values()
        stuck, dropped = self._spool.counts()
        self.status = replace(
            self.status,
            products=sum(total.files for total in payload_totals),
            bytes=sum(total.bytes for total in payload_totals),
            stuck=stuck,
            dropped=dropped,
        )

    def wait(self, seconds: float) -> None:
        """Wait until an upload ends.

        Parameters
        ----------
        seconds
            Maximum time to wait, s.
        """
        if self._in_flight:
            wait(self._in_flight, seconds, FIRST_COMPLETED)
        else:
            time.sleep(seconds)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to upload."""
        return not self._in_flight and self.status.products == self.status.stuck and not self.status.dropped

    def _collect(self, now: float) -> None:
        for future in [future for future in self._in_flight if future.done()]:
            entry = self._in_flight.pop(future)
            try:
                future.result()
            except ConflictError as error:
                with suppress(SpoolFullError):  # the next upload is refused and quarantined again
                    self._spool.quarantine(entry, str(error))
                self._record_failure(error)
            except StoreError as error:
                retry_after = error.retry_after if isinstance(error, UnavailableError) else None
                self._backoff.record_failure(entry.name, now, retry_after)
                self._record_failure(error)
                self.status = replace(self.status, ready=False, reason=str(error))
            else:
                self._spool.mark_delivered(entry)
                self._backoff.record_success(entry.name)
                self.status = replace(
                    self.status,
                    ready=True,
                    reason="",
                    uploaded=self.status.uploaded + 1,
                    uploaded_bytes=self.status.uploaded_bytes + entry.size,
                )

    def _record_failure(self, error: StoreError) -> None:
        self.status = replace(self.status, failed=self.status.failed + 1, last_error=str(error))
        log.warning("%s", error)

    def _start(self, now: float) -> None:
        while (
            len(self._in_flight) < self._uploads and not self._backoff.delay(now) and not self._rate_limiter.delay(now)
        ):
            # One upload at a time until one has shown that the store is available again.
            if self._in_flight and not self.status.ready:
                return
            in_flight = {entry.name for entry in self._in_flight.values()}
            entries = self._spool.next_entries(1, in_flight | self._backoff.names_in_backoff(now))
            if not entries:
                return
            content = self._spool.read(entries[0])
            if content is None:
                continue
            self._rate_limiter.consume(len(content), now)
            future = self._pool.submit(self._store.put, Product(entries[0].name, content))
            self._in_flight[future] = entries[0]

    def _merge(self, now: float) -> None:
        for group in self._batches.due(self._spool.unsealed(), now, self.draining):
            if len(group) == 1:
                self._spool.seal(group)
                continue
            pieces = [(entry.name, self._spool.read(entry)) for entry in group]
            if any(content is None for _, content in pieces):
                continue  # a piece was dropped meanwhile; the others are due again at the next step
            try:
                self._spool.merge(group, merge([(name, content) for name, content in pieces if content is not None]))
            except SpoolFullError:
                self._spool.seal(group)  # no room to merge them: upload the pieces
            except StoreError as error:
                if self._spool.contains_all(group):
                    self._record_failure(error)
                    self._spool.seal(group)

    def _write_dropped_tables(self, now: float) -> None:
        """Write dropped products into tables, when they are many or have waited for the batch time."""
        notes = self._spool.dropped()
        if not notes:
            self._dropped_since = None
            return
        if self._dropped_since is None:
            self._dropped_since = now
        if not (
            self.draining or len(notes) >= _MAX_DROPPED_NOTES or now - self._dropped_since >= self._batches.seconds
        ):
            return
        by_name = {note.name: note for note in notes}
        for product, names in dropped_products(self._node, ((n.name, n.size, n.reason) for n in notes)):
            self._spool.record_dropped([by_name.pop(name) for name in names], product)
        for note in by_name.values():
            log.warning("%s: dropped (%s); the next start of its stream makes it again", note.name, note.reason)
        self._spool.purge_dropped(list(by_name.values()))

    def close(self) -> None:
        """Wait until the uploads in flight have ended."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def serve(link: Link, settings: Message, *, drain: bool = False, release: bool = False) -> ForwarderStatus:
    """Forward until the spool is empty after the command ``drain``, or another command ends it.

    Parameters
    ----------
    link
        Where commands come from.
    settings
        Settings of the process: see :func:`~edgefilter.node.process_settings.forwarder_settings`.
    drain
        Whether to end when the spool is empty.
    release
        Whether to release the products first that the store has refused.

    Returns
    -------
    ForwarderStatus
        The status at the end.

    Raises
    ------
    EdgefilterError
        If the spool or the store cannot be opened.
    """
    section = validate(SpoolSection, settings["section"], where="settings")
    store_plugin(settings["store"]).load()  # a scheme that does not exist is reported now, not with the first product
    link.send("status", line=f"forwarding from {settings['spool']} to {settings['store']}")
    commands = _Commands(link, drain)
    while not (Path(settings["spool"]) / "manifest.sqlite").exists():  # a reducer makes it
        if commands.handle(POLL_SECONDS) or commands.draining:
            return ForwarderStatus()
    with ExitStack() as stack:
        store = connect(settings["store"], create=True, timeout=section.request_seconds)
        spool = stack.enter_context(Spool.open(settings["spool"], role="forwarder", wait=settings["wait_seconds"]))
        if any((spool.recovered.orphans, spool.recovered.lost)):
            log.warning("spool %s: %s", spool.location, spool.recovered)
        if release:
            log.warning("%s stuck products released", spool.release())
        forwarder = stack.enter_context(Forwarder(spool, store, section, settings["node"]))
        link.set_state_callback(lambda: asdict(forwarder.status))
        while not commands.handle(0):
            forwarder.draining = commands.draining
            if forwarder.draining and forwarder.finished:
                break
            forwarder.step()
            forwarder.wait(POLL_SECONDS)
    return forwarder.status


class _Commands:
    """The commands to a forwarder.

    Parameters
    ----------
    link
        Where they come from.
    draining
        Whether the forwarder ends when the spool is empty.
    """

    def __init__(self, link: Link, draining: bool) -> None:
        self._link = link
        self._deadline = float("inf")
        self.draining = draining

    def handle(self, timeout: float) -> bool:
        """Handle the next command; return whether the forwarder must end now."""
        self._link.mark_progress()
        message = self._link.receive(timeout)
        if message is not None and message["kind"] == "drain":
            self.draining = True
            self._deadline = time.monotonic() + message.get("seconds", float("inf"))
        ends = message is not None and message["kind"] in ("retire", "orphaned")
        return ends or time.monotonic() >= self._deadline


if __name__ == "__main__":
    configure(JSON_VARIABLE in os.environ)
    sys.exit(run_child(serve))
