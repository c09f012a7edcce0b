"""Whole reductions of a recording in memory."""

from collections.abc import Callable
from typing import Any

from edgefilter.core.chunk import Chunk
from edgefilter.core.plan import Plan
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.pipeline.engine import Engine
from edgefilter.sources.base import Source


def windows_until_end(plan: Plan, recording: Source) -> Callable[[int, int], Chunk | None]:
    """Return a function that reads a window, or None if the recording ends before the window's block."""

    def read(start: int, stop: int) -> Chunk | None:
        return recording.read(start, stop) if stop - plan.samples_per_block < recording.samples else None

    return read


def reduce_recording(
    backend_selector: BackendSelector, plan: Plan, recording: Source, engine_class: type[Engine] = Engine
) -> dict[int, dict[str, bytes]]:
    """Return the products of each block; blocks must be stored once, in order."""
    collected: dict[int, dict[str, bytes]] = {}

    def collect(products: Any, next_block: int, summary: Any) -> None:
        if summary.counts:
            assert next_block - 1 == len(collected)
            collected[next_block - 1] = {product.name: product.content for product in products}

    read = windows_until_end(plan, recording)
    with engine_class(plan, collect, "node", backend_selector) as engine:
        while not engine.finished:
            raw = engine.window(read)
            if raw is None:
                engine.finish()
            else:
                engine.feed(raw, read_ahead=read)
    return collected
