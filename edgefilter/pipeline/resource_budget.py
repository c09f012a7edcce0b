"""What a reduction needs: memory, latency and ring depth computed from its plan, processor time measured on noise."""

import os
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.chunk import Chunk
from edgefilter.core.errors import ConfigError
from edgefilter.core.node_sections import InputSection
from edgefilter.core.plan import Plan
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.pipeline.reducer import Reducer
from edgefilter.stages.search.single_pulse import SinglePulseSearch

_MEASURED_BYTES = 64 << 20
_MEASURED_BLOCKS = 2
_WARM_UP_ROWS = 64  # enough to compile everything


@dataclass(frozen=True, slots=True)
class ResourceBudget:
    """What follows from a plan.

    Parameters
    ----------
    bytes_per_second
        Raw samples, B/s.
    sweep_seconds
        Dispersion sweep of the highest DM across the band, s.
    trials
        DM trials of the search.
    history_blocks, history_seconds
        What must be read before the first wanted block, in blocks and s.
    restart_samples, restart_bytes
        What the ring must hold for a restart without loss, in samples and B.
    memory_bytes
        Memory of the reducer and the ring, B, estimated.
    latency_seconds
        From the last sample of a block to its products, s, at real time.
    """

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
    def from_plan(cls, plan: Plan) -> Self:
        """Compute the budget of a plan.

        Parameters
        ----------
        plan
            The plan.

        Returns
        -------
        ResourceBudget
            Its budget.
        """
        with ThreadBackend(1) as backend:
            reducer = Reducer(plan, backend)
            trials = SinglePulseSearch(plan, backend).trials
        restart = plan.filter_samples + (reducer.history_blocks + reducer.latency_blocks + 2) * plan.samples_per_block
        block_bytes = plan.samples_per_block * plan.stream.sample_bytes
        row_bytes = plan.channels * (4 * (4 if plan.settings.detect.stokes == "IQUV" else 1) + 2)
        cell_bytes = plan.channels * (8 * len(plan.stream.products) + 2)
        held_blocks = reducer.history_blocks + reducer.latency_blocks + 1
        memory = (
            3 * block_bytes  # ring and the window that is reduced
            + plan.cells_per_block * cell_bytes
            # rows in the history with their normalised values and weights, those of the search window twice
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
    """Compute how many samples the ring of a stream must hold.

    For a restart without loss it holds what the stages look back to before the first block that is not committed, the
    blocks that wait for later ones, the block in work and the block that arrives.

    Parameters
    ----------
    plan
        Layout of the reduction.
    settings
        Section ``input`` of the configuration.

    Returns
    -------
    int
        Samples.

    Raises
    ------
    ConfigError
        If ``input.buffer_seconds`` is less than that; with ``input.shallow``, if it is less than the reduction needs at
        all.
    """
    late_samples = round(settings.late_seconds * plan.stream.rate)
    lossless = ResourceBudget.from_plan(plan).restart_samples + late_samples
    if settings.buffer_seconds is None:
        return lossless
    wanted = round(settings.buffer_seconds * plan.stream.rate)
    minimum = plan.filter_samples + 2 * plan.samples_per_block + late_samples if settings.shallow else lossless
    if wanted < minimum:
        raise ConfigError(
            f"input.buffer_seconds is {settings.buffer_seconds:g}: the ring of stream {plan.stream.name} must hold "
            f"{plan.stream.seconds(minimum):.4g} s"
            + ("" if settings.shallow else " for a restart without loss; input.shallow = true does without")
        )
    return wanted


def warm_up(plan: Plan, backend_selector: BackendSelector) -> None:
    """Compile all kernels that a plan needs.

    Parameters
    ----------
    plan
        Layout of the reduction.
    backend_selector
        Chooses what runs them.
    """
    with backend_selector.create_backend(plan) as backend:
        reducer = Reducer(_with_block_rows(plan, min(plan.rows_per_block, _WARM_UP_ROWS)), backend)
        deque(reducer.feed(_noise_window(reducer, 0)), 0)
        deque(reducer.finish(), 0)


def measure_cores(plan: Plan, threads: int = 0) -> tuple[float, int]:
    """Measure how many cores a stream keeps busy, by reducing noise.

    Blocks are shortened to 64 MiB of raw samples so that the measurement takes seconds, but not below the sweep of the
    highest DM, which the search of each block includes. Only blocks in the steady state count: neither compilation nor
    the first touch of memory.

    Parameters
    ----------
    plan
        Layout of the reduction.
    threads
        Threads to use, 0 for one a core.

    Returns
    -------
    needed, here
        Cores needed for real time, and cores that this process may use.
    """
    rows, minimum = plan.rows_per_block, max(256, plan.sweep_rows(plan.dm_range[1]))
    while rows > minimum and rows * plan.samples_per_row * plan.stream.sample_bytes > _MEASURED_BYTES:
        rows //= 2
    warm_up(plan, BackendSelector(threads=threads))
    return _cpu_per_second(plan, rows, threads), len(os.sched_getaffinity(0))


def _cpu_per_second(plan: Plan, rows: int, threads: int) -> float:
    """Reduce blocks of noise with ``rows`` rows; return processor seconds per second of stream."""
    with ThreadBackend(threads) as backend:
        reducer = Reducer(_with_block_rows(plan, rows), backend)
        filling = reducer.latency_blocks + 1
        raw = _noise_window(reducer, 0).data  # the same for each: making it must not count
        for block in range(filling + _MEASURED_BLOCKS):
            if block == filling:
                started = time.process_time()
            deque(reducer.feed(Chunk(reducer.window(block)[0], raw)), 0)
        return (time.process_time() - started) / (_MEASURED_BLOCKS * reducer.plan.block_seconds)


def _with_block_rows(plan: Plan, rows: int) -> Plan:
    settings = plan.settings.model_copy(update={"block": plan.settings.block.model_copy(update={"rows": rows})})
    return replace(plan, settings=settings)


def _noise_window(reducer: Reducer, block: int) -> Chunk:
    """Return the raw window of a block, filled with noise."""
    stream, (start, stop) = reducer.plan.stream, reducer.window(block)
    noise = np.random.default_rng(1)
    if stream.bits == 32:
        return Chunk(
            start, noise.normal(100, 10, (stop - start, stream.values_per_sample)).astype("<f4").view(np.uint8)
        )
    return Chunk(start, noise.integers(0, 256, (stop - start, stream.sample_bytes), dtype=np.uint8))
