"""What a plan costs: reckoned from its integers, and measured on noise."""

import os
import time
from dataclasses import dataclass
from typing import Self

import numpy as np

from edgefilter.chunk import Chunk
from edgefilter.config import InputSection
from edgefilter.errors import ConfigError
from edgefilter.plan import Plan
from edgefilter.reducer import Reducer
from edgefilter.stages.search import Search
from edgefilter.workers import Workers

_MEASURED_BYTES = 64 << 20
_WARMING_ROWS = 64  # enough to have everything compiled


@dataclass(frozen=True, slots=True)
class Facts:
    """What follows from a plan: bytes, seconds, counts."""

    bytes_per_second: float
    sweep_seconds: float
    trials: int
    history_blocks: int
    history_seconds: float
    restart_samples: int
    restart_bytes: int
    memory_bytes: int
    latency_seconds: float

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Reckon the facts of a plan."""
        with Workers(1) as workers:
            reducer = Reducer(plan, workers)
            trials = Search(plan, workers).trials
        restart = plan.filter_samples + (reducer.history_blocks + reducer.latency_blocks + 2) * plan.samples_per_block
        block_bytes = plan.samples_per_block * plan.stream.sample_bytes
        row_bytes = plan.channels * (4 * (4 if plan.settings.detect.stokes == "IQUV" else 1) + 2)
        cell_bytes = plan.channels * (8 * len(plan.stream.products) + 2)
        held_blocks = reducer.history_blocks + reducer.latency_blocks + 1
        memory = (
            3 * block_bytes  # ring and the window that is reduced
            + plan.cells_per_block * cell_bytes
            # rows held, and their whitened values and shares, those of the search's window once more
            + held_blocks * plan.rows_per_block * (row_bytes + 4 * plan.channels)
        )
        return cls(
            bytes_per_second=float(plan.stream.rate) * plan.stream.sample_bytes,
            sweep_seconds=plan.sweep_rows(plan.dm_range[1]) * plan.row_seconds,
            trials=trials,
            history_blocks=reducer.history_blocks,
            history_seconds=reducer.history_blocks * plan.block_seconds,
            restart_samples=restart,
            restart_bytes=restart * plan.stream.sample_bytes,
            memory_bytes=memory,
            latency_seconds=(reducer.latency_blocks + 1) * plan.block_seconds,
        )


def ring_samples(plan: Plan, settings: InputSection) -> int:
    """Reckon how many samples the ring of a stream is to hold.

    For a restart without loss it must hold what the stages look back to before the first block that is not committed,
    the blocks that wait for what comes after them, the one that is reduced and the one that arrives.

    Raises
    ------
    ConfigError
        If ``input.buffer_seconds`` is less than that, or, where ``input.shallow`` allows it, than what work needs.
    """
    late = round(settings.late_seconds * plan.stream.rate)
    lossless = Facts.of(plan).restart_samples + late
    if settings.buffer_seconds is None:
        return lossless
    wanted = round(settings.buffer_seconds * plan.stream.rate)
    least = plan.filter_samples + 2 * plan.samples_per_block + late if settings.shallow else lossless
    if wanted < least:
        raise ConfigError(
            f"input.buffer_seconds is {settings.buffer_seconds:g}: the ring of stream {plan.stream.name} must hold "
            f"{plan.stream.seconds(least):.4g} s"
            + ("" if settings.shallow else " for a restart without loss; input.shallow = true does without")
        )
    return wanted


def warm_up(plan: Plan, threads: int = 0) -> None:
    """Have all kernels that a plan needs compiled."""
    _cpu_per_second(plan, min(plan.rows_per_block, _WARMING_ROWS), threads)


def measure_cores(plan: Plan, threads: int = 0) -> tuple[float, int]:
    """Reduce noise with a plan like this one and say how many cores the stream keeps busy.

    Blocks are shortened to at most 64 MiB of raw samples so that the measurement takes seconds. The first pass, which
    compiles, does not count.

    Returns
    -------
    needed, here
        Cores needed for real time, and cores that this process may use.
    """
    rows = plan.rows_per_block
    while rows > 256 and rows * plan.samples_per_row * plan.stream.sample_bytes > _MEASURED_BYTES:
        rows //= 2
    warm_up(plan, threads)
    return _cpu_per_second(plan, rows, threads), len(os.sched_getaffinity(0))


def _cpu_per_second(plan: Plan, rows: int, threads: int) -> float:
    """Reduce one block of so many rows of noise; return processor seconds per second of stream."""
    settings = plan.settings.model_copy(update={"block": plan.settings.block.model_copy(update={"rows": rows})})
    small = Plan(plan.stream, settings)
    noise = np.random.default_rng(1)
    with Workers(threads) as workers:
        reducer = Reducer(small, workers)
        start, stop = reducer.window(0)
        raw = noise.integers(0, 256, (stop - start, plan.stream.sample_bytes), dtype=np.uint8)
        if plan.stream.bits == 32:
            raw = noise.normal(100, 10, (stop - start, plan.stream.numbers)).astype("<f4").view(np.uint8)
        began = time.process_time()
        for _ in reducer.feed(Chunk(start, raw)):
            pass
        for _ in reducer.finish():
            pass
        return (time.process_time() - began) / small.block_seconds
