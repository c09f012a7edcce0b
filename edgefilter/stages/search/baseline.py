"""The baseline: slow changes of the level that many channels share, such as those of the gain.

In the sum over a thousand channels a change of a few hundredths of a sigma a channel stands out, and the search would
take it for pulses or for noise. It is estimated from nodes, the means of some 16 ms of each channel, and subtracted
from the rows before they are normalised and rounded.

A baseline that follows every fluctuation would remove wide pulses. So each part of the band gets the slowest one that
leaves white noise, and none if the noise is white without: on a still sky, rows stay as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.plan import Plan
from edgefilter_kernels.search.baseline import node_statistics, subtract_baseline

_NODE_SECONDS = 16e-3
_CONTEXT_SECONDS = 1.0
_MAX_CONTEXT_BLOCKS = 4  # short blocks are for low latency
_BANDS = 8
_MIN_CHANNELS = 8  # of a band
_MIN_NODES = 16
_HALF_WINDOWS = (64, 32, 16, 8, 4, 2)  # nodes on either side of the one at which a local parabola is evaluated
_MAX_TEST_NODES = 64
_MAX_EXCESS_SIGMA = 5.0
_OUTLIER_SIGMA = 4.0
_MAX_OUTLIERS = 0.25
_FIT_PASSES = 3
_MEDIAN_STD = 1.2533
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """Statistics of the nodes of a block, float32 ``[node, channel]``.

    Parameters
    ----------
    weight
        Cells; 0 where there is no data.
    mean
        Mean power.
    variance, group_variance
        Variance of a cell, from single rows and from means of
        :data:`~edgefilter_kernels.search.baseline.GROUP_ROWS` rows.
    """

    weight: NDArray[np.float32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    group_variance: NDArray[np.float32]


class BaselineEstimator:
    """Estimates the baseline of each block from the nodes of the blocks around it.

    Parameters
    ----------
    plan
        Layout of the reduction.
    backend
        Runs the kernels.
    min_blocks_before
        Blocks before a block from which rows are removed together with its own.
    """

    def __init__(self, plan: Plan, backend: ThreadBackend, min_blocks_before: int = 0) -> None:
        rows = plan.rows_per_block
        self.nodes = max(round(plan.block_seconds / _NODE_SECONDS), 1)
        """Nodes of a block."""
        self.nodes = min(self.nodes, rows)
        context = min(math.ceil(_CONTEXT_SECONDS / plan.block_seconds), _MAX_CONTEXT_BLOCKS)
        self.blocks_before, self.blocks_after = max(context, min_blocks_before), context
        """Blocks before and after a block whose nodes are needed."""
        self._edges = np.arange(self.nodes + 1) * rows // self.nodes
        self._rows = rows
        self._channels = plan.channels
        count = max(min(_BANDS, plan.channels // _MIN_CHANNELS), 1)
        self._bands = [
            slice(band * plan.channels // count, (band + 1) * plan.channels // count) for band in range(count)
        ]
        self._backend = backend

    def measure(self, rows: Rows) -> NodeStatistics:
        """Measure the nodes of a block.

        Parameters
        ----------
        rows
            Rows of the block, in arrays of the backend.

        Returns
        -------
        NodeStatistics
            In NumPy arrays.
        """
        kernel, to_device = self._backend.kernel(node_statistics), self._backend.to_device
        arrays = to_device(rows.stokes[0]), to_device(rows.weight), to_device(self._edges)
        out = self._backend.empty((4, self.nodes, self._channels), np.float32)
        self._backend.parallel_for(self.nodes, lambda start, stop: kernel(*arrays, start, stop, out))
        return NodeStatistics(*self._backend.to_host(out))

    def remove(self, window: Rows, nearby: Sequence[NodeStatistics | None], first_block: int) -> Rows:
        """Subtract the baseline from rows.

        Parameters
        ----------
        window
            Rows of a block, and rows before it.
        nearby
            Nodes of the block, and of the :attr:`blocks_before` and :attr:`blocks_after` it; None where there is none.
        first_block
            Number of the first one of ``nearby``.

        Returns
        -------
        Rows
            The same rows if the band has no baseline.
        """
        level = self.estimate(nearby)
        if level is None:
            return window
        row = np.arange(window.start, window.stop) - first_block * self._rows
        position = np.clip((row + 0.5) * self.nodes / self._rows - 0.5, 0, len(level) - 1).astype(np.float32)
        kernel = self._backend.kernel(subtract_baseline)
        arrays = tuple(self._backend.to_device(array) for array in (window.stokes[0], level, position))
        flat = self._backend.empty(window.weight.shape, np.float32)
        self._backend.parallel_for(len(flat), lambda start, stop: kernel(*arrays, start, stop, flat))
        return Rows(window.start, flat[None], window.weight)

    def estimate(self, nearby: Sequence[NodeStatistics | None]) -> NDArray[np.float32] | None:
        """Estimate the baseline of some consecutive blocks.

        Parameters
        ----------
        nearby
            Nodes of the blocks; None where there is no block.

        Returns
        -------
        NDArray or None
            float32 ``[node, channel]``: the baseline at all nodes, in units of power; None if there is none.
        """
        shape = self.nodes, self._channels
        weight = np.concatenate([np.zeros(shape, np.float32) if one is None else one.weight for one in nearby])
        mean = np.concatenate([np.zeros(shape, np.float32) if one is None else one.mean for one in nearby])
        variance = np.concatenate([np.zeros(shape, np.float32) if one is None else one.variance for one in nearby])
        valid = weight > 0.5 * weight.max(initial=1.0)
        with np.errstate(invalid="ignore"):
            level = _masked_median(mean, valid)
            sigma = np.sqrt(_masked_median(variance, valid & (variance > 0)))
        usable = np.isfinite(sigma) & (sigma > 1e-6 * np.abs(level))
        if not usable.any():
            return None
        valid &= usable
        scale = np.where(usable, sigma, 1.0).astype(np.float32)
        offset = np.where(valid, (mean - np.where(usable, level, 0.0)) / scale, np.float32(np.nan))
        whole = _common_baseline(offset, slice(None))
        drift = np.zeros_like(offset) if whole is None else np.repeat(whole[:, None], offset.shape[1], axis=1)
        changed = whole is not None
        for band in self._bands if len(self._bands) > 1 else ():
            part = _common_baseline(offset - drift, band)
            if part is not None:
                drift[:, band] += part[:, None]
                changed = True
        if not changed:
            return None
        drift *= _coefficients(offset, drift) * np.where(usable, scale, 0.0)  # a dead channel stays dead
        return drift.astype(np.float32)


def _masked_median(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    # Median over nodes of each channel; NaN where there is none.
    if valid.all():
        return np.asarray(np.median(values, axis=0), np.float32)
    some = np.where(valid, values, np.float32(np.inf))
    some.sort(axis=0)
    count = valid.sum(axis=0)
    middle = some[np.maximum(count - 1, 0) // 2, np.arange(values.shape[1])]
    return np.where(count > 0, middle, np.float32(np.nan))


def _common_baseline(offset: NDArray[np.float32], band: slice) -> NDArray[np.float64] | None:
    # The smoothest baseline of a band that leaves white noise; None if the noise is white without it.
    here = offset[:, band]
    present = np.isfinite(here)
    count = present.sum(axis=1)
    good = count >= max(0.25 * here.shape[1], min(_MIN_CHANNELS, here.shape[1] / 2))
    if good.sum() < _MIN_NODES:
        return None
    profile = np.zeros(len(here))
    profile[good] = _masked_median(here[good].T, present[good].T)
    noise = _white_noise(profile, good)
    if noise == 0.0:
        return None
    centre = np.median(profile[good])
    if _is_white(profile - centre, good, noise, _MAX_TEST_NODES):
        return None
    best = np.zeros(len(here))
    for half in _HALF_WINDOWS:
        best = _local_parabola(profile, good, half, noise)
        if _is_white(profile - best, good, noise, half):
            break
    return best


def _white_noise(profile: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    # Scatter of a node, from second differences, which no slow change reaches.
    three = good[:-2] & good[1:-1] & good[2:]
    second = (profile[:-2] - 2 * profile[1:-1] + profile[2:])[three]
    return float(_MAD_TO_SIGMA * np.median(np.abs(second)) / np.sqrt(6.0)) if len(second) else 0.0


def _inliers(residual: NDArray[np.float64], good: NDArray[np.bool_], noise: float) -> NDArray[np.bool_]:
    # Nodes without those that stand out, and without their neighbours, of which a part may stand out.
    outlier = np.abs(residual) > _OUTLIER_SIGMA * noise
    outlier = np.convolve(outlier, np.ones(3), "same") > 0.5
    return good & ~outlier


def _is_white(residual: NDArray[np.float64], good: NDArray[np.bool_], noise: float, longest: int) -> bool:
    # Whether sums of 1, 2, 4 … nodes scatter as those of white noise do. Few large values are pulses or bursts.
    used = _inliers(residual, good, noise)
    if used.sum() < (1 - _MAX_OUTLIERS) * good.sum():
        return False
    values = residual[used] / noise
    nodes = 1
    while nodes <= longest and len(values) >= 3 * nodes:
        sums = values[: len(values) // nodes * nodes].reshape(-1, nodes).sum(axis=1)
        excess = float(np.mean(sums**2)) / nodes - 1.0
        if excess * np.sqrt(len(sums) / 2) > _MAX_EXCESS_SIGMA:
            return False
        nodes *= 2
    return True


def _local_parabola(
    profile: NDArray[np.float64], good: NDArray[np.bool_], half: int, noise: float
) -> NDArray[np.float64]:
    # Local regression by parabolas (Cleveland 1979, JASA 74, 829), Epanechnikov weights; outliers are left out.
    count = len(profile)
    offset = np.arange(-half, half + 1) / (half + 1)
    shape = (1 - offset**2) * np.array([offset**power for power in range(5)])  # [power, window]
    index = np.arange(count)[:, None] + np.arange(-half, half + 1)
    inside = (index >= 0) & (index < count)
    index = np.clip(index, 0, count - 1)
    used, fit = good.copy(), profile
    for _ in range(_FIT_PASSES):
        weight = (inside & used[index]).astype(np.float64)
        moments = weight @ shape.T  # [node, power]
        sums = (weight * profile[index]) @ shape[:3].T
        matrix = moments[:, np.add.outer(np.arange(3), np.arange(3))]
        matrix += 1e-9 * np.eye(3)
        fit = np.linalg.solve(matrix, sums[:, :, None])[:, 0, 0]
        used = _inliers(profile - fit, good, noise)
        if used.sum() < (1 - _MAX_OUTLIERS) * good.sum():
            used = good
    return fit


def _coefficients(offset: NDArray[np.float32], drift: NDArray[np.floating]) -> NDArray[np.float64]:
    # How much of the baseline each channel has: regression, drawn towards 1 as far as noise explains the differences.
    present = np.isfinite(offset)
    y, x = np.where(present, offset, 0.0), np.where(present, drift, 0.0)
    power = np.sum(x * x, axis=0, dtype=np.float64)
    some = power > 0
    slope = np.ones(offset.shape[1])
    np.divide(np.sum(x * y, axis=0, dtype=np.float64), power, out=slope, where=some)
    residual = np.where(present, y - slope * x, 0.0)
    noise = np.sum(residual**2, axis=0) / np.maximum(present.sum(axis=0) - 1, 1)
    error = np.where(some, noise / np.maximum(power, 1e-30), 0.0)
    if not some.any():
        return slope
    deviation = (slope - 1.0) ** 2
    # Empirical Bayes: the typical true deviation is what is left of the measured one without its error.
    true = max(float(np.median(deviation[some])) / 0.455 - float(np.median(error[some])), 0.0)
    return np.where(some, 1.0 + (slope - 1.0) * true / (true + error + 1e-30), 1.0)
