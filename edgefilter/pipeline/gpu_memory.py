"""Estimate of the GPU memory that a stream takes, from its plan, before the first block."""

from edgefilter.compute.gpu_transfer import STAGING_BUFFERS
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.plan import Plan
from edgefilter.stages.rfi.dispersion_guard import CELLS_PER_STEP, lay_out_tracks
from edgefilter.stages.search.baseline import BaselineEstimator
from edgefilter.stages.search.dm_plan import plan_trial_groups
from edgefilter.stages.search.normalise import Normaliser
from edgefilter.stages.search.single_pulse import SinglePulseSearch
from edgefilter.stages.search.single_pulse_gpu import SERIES_BYTES
from edgefilter.stages.search.subbands import SubbandTree
from edgefilter_kernels.cuda.filterbank.workspace import BATCH_BYTES
from edgefilter_kernels.cuda.search import band_occupancy, boxcar
from edgefilter_kernels.filterbank.workspace import FLUSH_SPECTRA
from edgefilter_kernels.rfi.cell_statistics import GROUP_TIMES

CUDA_CONTEXT = "CUDA"
"""Name of the part that CUDA itself takes, beside the arrays."""

_CONTEXT_BYTES = 600 << 20  # including the compiled kernels
_POOL_OVERHEAD = 1.25  # fragmentation of CuPy's memory pool


def estimate_gpu_memory(plan: Plan) -> dict[str, int]:
    """Return the GPU memory that the reduction of a stream takes.

    It is the sum of the arrays that the stages hold at the same time, 25 % more for the fragmentation of the memory
    pool, and the memory of CUDA itself.

    Parameters
    ----------
    plan
        Plan of the stream.

    Returns
    -------
    dict
        Bytes by purpose.
    """
    cells, rows, channels = plan.cells_per_block, plan.rows_per_block, plan.channels
    n_pols, products = _product_counts(plan)
    with ThreadBackend(1) as backend:
        normaliser, search = Normaliser(plan, backend), SinglePulseSearch(plan, backend)
        baseline = BaselineEstimator(plan, backend, -(-normaliser.history // rows))
    tree = SubbandTree(plan)
    trials = [len(group.dm) for group in plan_trial_groups(plan, tree.bands)]
    blocks = 1 + sum(-(-depth // rows) for depth in (search.history, search.lookahead))
    window = search.history + rows + search.lookahead
    spectrum = 8 * plan.fine_channels * n_pols
    parts = {
        # One window is reduced, the next one is copied.
        "samples": STAGING_BUFFERS * (plan.samples_per_block + plan.filter_samples) * plan.stream.sample_bytes,
        # One block in 16 is flagged again, in a copy; fourth moments once more, for the correction of clipping.
        "cells": cells * channels * (2 * (4 * products + 2) + 3 * 4 * n_pols * plan.voltage),
        # The spectra of a batch, as much again for cuFFT, and their sums, which are more if a cell has few spectra.
        "filterbank": 4 * max(BATCH_BYTES, spectrum * min(plan.spectra_per_cell, FLUSH_SPECTRA)) * plan.voltage,
        "flagging": _flagging_bytes(plan),
        # Stokes parameters, the same in double precision, and weights.
        "rows": rows * channels * (12 * products + 2),
        # Rows of the blocks whose baseline is not known yet, and a copy without baseline.
        "baseline": channels * (6 * baseline.blocks_after * rows + 4 * (normaliser.history + rows)),
        # Power and weights, block by block and joined; values and weights of the blocks around, and of the window, with
        # its copies at lower time resolution.
        "normalisation": channels * (12 * (normaliser.history + rows) + 2 * blocks * rows + 4 * window),
        # Delays of trials.
        "tables": 8 * channels * sum(trials),
        # DM-time series, their sub-band sums, and scratch memory of the launches that search them.
        "search": 2 * max(SERIES_BYTES, 4 * (len(tree.parts) - 1) * rows * max(trials))
        + boxcar.SCRATCH_BYTES
        + band_occupancy.SCRATCH_BYTES,
    }
    return {name: int(_POOL_OVERHEAD * size) for name, size in parts.items()} | {CUDA_CONTEXT: _CONTEXT_BYTES}


def _product_counts(plan: Plan) -> tuple[int, int]:
    n_pols = len(plan.stream.products)
    if plan.voltage:
        return n_pols, 2 * n_pols if plan.settings.detect.stokes == "IQUV" else n_pols
    return 1, n_pols


def _flagging_bytes(plan: Plan) -> int:
    cells, channels, seconds = plan.cells_per_block, plan.channels, plan.stream.seconds(plan.samples_per_cell)
    track_bytes = 0
    for step in (CELLS_PER_STEP, GROUP_TIMES):
        tracks = lay_out_tracks(plan.frequencies_mhz, seconds, plan.settings.flag.sky_dm, step)
        # Counts and hits of each segment, and delays.
        bytes_per_dm = 2 * (len(tracks.edges) - 1) * -(-cells // step) + 4 * channels
        track_bytes += len(tracks.delays) * bytes_per_dm
    # Levels and marks of each cell; then marks, the time of the last event before it, and order statistics.
    return cells * channels * (10 + 1 + 4 + 4) + track_bytes
