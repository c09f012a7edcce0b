"""How much of a card's memory a stream takes: reckoned from its plan, so that it is known before the first block."""

from edgefilter.compute.gpu_transfer import ROOMS
from edgefilter.compute.threads import Workers
from edgefilter.core.plan import Plan
from edgefilter.stages.rfi.dispersion_guard import STEP, Tracks
from edgefilter.stages.search.dm_plan import groups
from edgefilter.stages.search.normalise import Whiten
from edgefilter.stages.search.single_pulse import Search
from edgefilter.stages.search.single_pulse_gpu import SERIES_BYTES
from edgefilter.stages.search.subbands import Tree
from edgefilter_kernels.cuda.filterbank.workspace import BATCH_BYTES
from edgefilter_kernels.cuda.search import band_occupancy, boxcar
from edgefilter_kernels.filterbank.workspace import FLUSH
from edgefilter_kernels.rfi.cell_statistics import GROUP

CONTEXT = "CUDA"
"""What is CUDA's own, and no array."""

_CONTEXT_BYTES = 600 << 20  # with the compiled kernels
_SPARE = 1.25  # CuPy's pool cuts its memory into pieces that do not always fit the next array


def card_memory(plan: Plan) -> dict[str, int]:
    """Return bytes of a card's memory that a reduction takes, by what takes them.

    They are the arrays that the stages hold at once, a quarter more for what the pool of memory leaves unused, and
    what CUDA needs itself.
    """
    cells, rows, channels = plan.cells_per_block, plan.rows_per_block, plan.channels
    hands, products = _products(plan)
    with Workers(1) as workers:
        whiten, search = Whiten(plan, workers), Search(plan, workers)
    tree = Tree(plan)
    trials = [len(group.dm) for group in groups(plan, tree.bands)]
    blocks = 1 + sum(-(-depth // rows) for depth in (search.history, search.lookahead))
    window = search.history + rows + search.lookahead
    spectrum = 8 * plan.fine_channels * hands
    parts = {
        # One window is computed, the next one comes.
        "samples": ROOMS * (plan.samples_per_block + plan.filter_samples) * plan.stream.sample_bytes,
        # One block in 16 is flagged again, in a copy; fourth moments once more, where clipping is undone.
        "cells": cells * channels * (2 * (4 * products + 2) + 3 * 4 * hands * plan.voltage),
        # What is transformed, as much again for cuFFT, and sums of it, which are more if few spectra make a cell.
        "filterbank": 4 * max(BATCH_BYTES, spectrum * min(plan.spectra_per_cell, FLUSH)) * plan.voltage,
        "flagging": _flagging(plan),
        # Stokes parameters, the same in double precision, and weights.
        "rows": rows * channels * (12 * products + 2),
        # Power and weights, block by block and joined; values and shares of the blocks around, and of the window, with
        # its coarser copies.
        "whitening": channels * (12 * (whiten.history + rows) + 2 * blocks * rows + 4 * window),
        # Delays of trials.
        "tables": 8 * channels * sum(trials),
        # Series, the sums that they are made of, and where the launches that look at them work.
        "search": 2 * max(SERIES_BYTES, 4 * (len(tree.parts) - 1) * rows * max(trials))
        + boxcar.SCRATCH_BYTES
        + band_occupancy.SCRATCH_BYTES,
    }
    return {name: int(_SPARE * size) for name, size in parts.items()} | {CONTEXT: _CONTEXT_BYTES}


def _products(plan: Plan) -> tuple[int, int]:
    hands = len(plan.stream.products)
    if plan.voltage:
        return hands, 2 * hands if plan.settings.detect.stokes == "IQUV" else hands
    return 1, hands


def _flagging(plan: Plan) -> int:
    cells, channels, seconds = plan.cells_per_block, plan.channels, plan.stream.seconds(plan.samples_per_cell)
    most = 0
    for step in (STEP, GROUP):
        tracks = Tracks.of(plan.frequencies_mhz, seconds, plan.settings.flag.sky_dm, step)
        # Counts and hits of each segment, and delays.
        each = 2 * (len(tracks.edges) - 1) * -(-cells // step) + 4 * channels
        most += len(tracks.delays) * each
    # Levels and marks of each cell; then marks, the last event before, and order statistics.
    return cells * channels * (10 + 1 + 4 + 4) + most
