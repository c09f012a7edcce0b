"""Commits reduced blocks to the spool: products, counts and cursor in one transaction."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from edgefilter.core.closing import Closing
from edgefilter.core.errors import SpoolBusyError, SpoolFullError
from edgefilter.core.plan import Plan
from edgefilter.node.ipc import Message
from edgefilter.products.base import Product
from edgefilter.spool import Cursor, Spool

_POLL_SECONDS = 0.1


class ReducedBlock(NamedTuple):
    """The products of a block, or of the stream's header.

    Parameters
    ----------
    products
        The products.
    next_block
        The block after it.
    counts
        Its counts by name; empty for the header.
    """

    products: Sequence[Product]
    next_block: int
    counts: dict[str, int]


class BlockCommitter(Closing):
    """The spool, as the reducer of one run uses it. Waits until no other process has it open.

    Parameters
    ----------
    settings
        Settings of the process: ``spool`` and ``stream``.
    plan
        The plan of the reduction.
    run
        Name of the run.
    budget_bytes
        Most bytes in the spool; None is as many as the disk takes.
    on_wait
        Called with the reason, or an empty text, again and again while the spool is in use or full.
    """

    def __init__(
        self, settings: Message, plan: Plan, run: str, budget_bytes: int | None, on_wait: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._cursor_key = f"{plan.stream.id}/{run}"
        self._on_wait = on_wait
        self._spool = self._open(settings, budget_bytes)
        self.totals: Counter[str] = Counter(self._spool.run_totals(self._cursor_key))
        """Sums of the counts of all blocks of the run."""

    def _open(self, settings: Message, budget_bytes: int | None) -> Spool:
        while True:
            self._on_wait("")
            with suppress(SpoolBusyError):
                return Spool.open(
                    settings["spool"],
                    budget_bytes=budget_bytes,
                    role="reducer",
                    name=settings["stream"],
                    wait=_POLL_SECONDS,
                )

    def first_block(self, first_sample: int) -> int:
        """Return the first block that is not committed.

        A run that begins within an earlier run of the same stream begins after the blocks of that run: they are
        committed, and the sender has repeated their last frames.

        Parameters
        ----------
        first_sample
            First sample of the run.

        Returns
        -------
        int
            Block number.
        """
        block_samples = self._plan.samples_per_block
        cursors = self._spool.cursors()
        done = [
            cursor.next_sample
            for key, cursor in cursors.items()
            if key == self._cursor_key
            or (key.startswith(f"{self._plan.stream.id}/") and cursor.first_sample < first_sample < cursor.next_sample)
        ]
        return max(self._plan.block_of_sample(first_sample), -(-max(done, default=0) // block_samples))

    def next_sample(self) -> int | None:
        """Return the first sample that is not committed, or None if the run has no cursor yet."""
        cursor = self._spool.cursor(self._cursor_key)
        return None if cursor is None else cursor.next_sample

    def commit_header(self, header: ReducedBlock) -> None:
        """Write the products of the stream's header.

        Parameters
        ----------
        header
            The products.
        """
        for product in header.products:
            self._spool.put(product)

    def commit(self, block: ReducedBlock, first_sample: int) -> None:
        """Commit a block; wait while the spool is full.

        Parameters
        ----------
        block
            The block. One that is committed already changes nothing.
        first_sample
            First sample of the run.
        """
        cursor = Cursor(block.next_block * self._plan.samples_per_block, first_sample, self._plan.settings.digest())
        while True:
            try:
                committed = self._spool.commit(block.products, self._cursor_key, cursor, block.counts)
                break
            except SpoolFullError as error:
                # Meanwhile the ring keeps new samples; when it is full, its policy decides.
                self._on_wait(str(error))
                time.sleep(_POLL_SECONDS)
        if committed:
            self.totals.update(block.counts)

    def close(self) -> None:
        """Close the spool."""
        self._spool.close()
