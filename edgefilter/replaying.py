"""Recorded samples through the same engine as live ones."""

from collections.abc import Iterator
from pathlib import Path

from edgefilter.backend import Compute
from edgefilter.config import Reduction
from edgefilter.engine import Engine, into
from edgefilter.plan import Plan, resolve
from edgefilter.sources import Source
from edgefilter.store.connect import connect
from edgefilter.tally import Tally


class Replay:
    """Reduces a source into a store.

    Parameters
    ----------
    source
        Samples.
    settings
        Settings; what they leave open follows from the source.
    store
        Directory of the store, made if it is not there, its ``file://`` URL, or ``s3://BUCKET/PREFIX``.
    node
        Name that the products' paths carry.
    compute
        What reduces.

    Raises
    ------
    ConfigError
        If the settings do not go with the source.
    StoreError
        If the store cannot be written.
    """

    def __init__(
        self,
        source: Source,
        settings: Reduction,
        store: str | Path,
        node: str = "node",
        compute: Compute = Compute(),  # noqa: B008 - frozen
    ) -> None:
        self._source = source
        self._compute = compute
        self.plan = Plan(source.stream, resolve(settings, source.stream, source.samples))
        self._store = connect(store, create=True)
        self._node = node
        self.tally = Tally()

    def run(self) -> Iterator[int]:
        """Reduce all; yield, after each block, the number of samples that are done."""
        with Engine(self.plan, into(self._store), self._node, self._compute, tally=self.tally) as engine:
            while not engine.ended:
                start, stop = engine.reducer.window(engine.reducer.next_raw)
                if engine.reducer.next_raw * self.plan.samples_per_block < self._source.samples:
                    engine.feed(self._source.read(start, stop))
                    yield min(stop, self._source.samples)
                else:
                    engine.finish()
