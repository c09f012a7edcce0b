"""The baseline: slow changes of the level that many channels share, such as those of the gain.

In the sum over a thousand channels a change of a few hundredths of a sigma a channel stands out, and the search would
take it for pulses or for noise. It is estimated from nodes, the means of some 16 ms of each channel, and subtracted
from the rows before they are normalised and rounded.

A baseline that follows every fluctuation would remove wide pulses. So each part of the band gets the slowest one that
leaves white noise, and none if the noise is white without: on a still sky, rows stay as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.plan import Plan
from edgefilter.stages.search.baseline_fit import Step, WhiteTest, find_steps, fit_baseline
from edgefilter_kernels.search.baseline import node_statistics, subtract_baseline

_NODE_SECONDS = 16e-3
_CONTEXT_SECONDS = 1.0
_MAX_CONTEXT_BLOCKS = 4  # short blocks are for low latency
_BANDS = 8
_MIN_CHANNELS = 8  # of a band
_MIN_NODES = 16
_BAND_TEST = WhiteTest(max_excess=5.0, min_sums=3, max_outliers=0.25)
_PART_TEST = WhiteTest(max_excess=15.0, min_sums=3, max_outliers=0.25)  # a wide pulse stands out in a part of the band
_CHANNEL_TEST = WhiteTest(max_excess=7.0, min_sums=12, max_outliers=0.08)  # a thousand channels are tested
_MIN_RUN_NODES = 8
_RUN_EXTENSION = 0.2
_MIN_PRESENT = 0.5  # of the channels, at a node that is not lost
_MEDIAN_SQUARE = 0.455  # of a unit Gaussian
_STEP_WIDTH = 1e-3  # nodes; much less than a row


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
        found = self._estimate(nearby)
        if found is None:
            return window
        row = np.arange(window.start, window.stop) - first_block * self._rows
        node = (row + 0.5) * self.nodes / self._rows - 0.5
        steps = [replace(step, node=self._step_position(step, found, window, node)) for step in found.steps]
        level, at = found.level(steps)
        position = np.interp(node, at, np.arange(len(at))).astype(np.float32)
        kernel = self._backend.kernel(subtract_baseline)
        arrays = tuple(self._backend.to_device(array) for array in (window.stokes[0], level, position))
        flat = self._backend.empty(window.weight.shape, np.float32)
        self._backend.parallel_for(len(flat), lambda start, stop: kernel(*arrays, start, stop, flat))
        return Rows(window.start, flat[None], window.weight)

    def _estimate(self, nearby: Sequence[NodeStatistics | None]) -> "_ChannelBaseline | None":
        shape = self.nodes, self._channels
        weight, mean, variance = (
            np.concatenate([np.zeros(shape, np.float32) if one is None else getattr(one, name) for one in nearby])
            for name in ("weight", "mean", "variance")
        )
        valid = weight > 0.5 * weight.max(initial=1.0)
        level, sigma = _masked_median(mean, valid), np.sqrt(_masked_median(variance, valid & (variance > 0)))
        usable = (sigma > 0) & (sigma > 1e-6 * np.abs(level))
        valid &= usable
        if valid.any(axis=1).sum() < _MIN_NODES:
            return None
        sigma = np.where(usable, sigma, 1.0)
        offset = np.where(valid, (mean - level) / sigma, 0.0).astype(np.float64)
        shared = self._fit_shared(offset, valid)
        coefficient = _coefficients(offset, shared.drift, valid) if shared.drift.any() else np.ones(self._channels)
        cells = np.sum(weight * valid, axis=0) / np.maximum(valid.sum(axis=0), 1)
        noise = np.where(usable & (cells > 0), 1 / np.sqrt(np.maximum(cells, 1)), 0.0)
        own = fit_baseline(offset - coefficient * shared.drift, valid, _CHANNEL_TEST, noise=noise)
        remains = _beside_interference(valid | ~usable)
        if own is None and not shared.drift.any() and not remains.any():
            return None
        smooth = coefficient * shared.smooth + (0.0 if own is None else own)
        scale = np.where(usable, sigma, 0.0)  # a dead channel stays dead
        smooth = np.where(remains, np.nan, smooth * scale)
        return _ChannelBaseline(smooth, shared.steps, coefficient * scale, level, sigma)

    def _fit_shared(self, offset: NDArray[np.float64], valid: NDArray[np.bool_]) -> "_SharedBaseline":
        shared = _SharedBaseline(np.zeros_like(offset), np.zeros_like(offset), [])
        whole = [slice(0, self._channels)]
        # Steps of a part of the band first: they split the median over the whole band.
        for bands, test in ((self._bands, None), (whole, _BAND_TEST), (self._bands, _PART_TEST)):
            profile, good = _profiles(offset - shared.drift, valid, self._bands)
            if bands is whole:  # a dispersed pulse is in few parts of the band at a time
                profile, good = _masked_median(profile.T, good.T)[:, None], np.asarray(good.any(axis=1))[:, None]
            for step in find_steps(profile, good):
                shared.add_step(step, bands[step.series])
                profile[step.node + 1 :, step.series] -= step.height
                good[step.node, step.series] = False
            curves = fit_baseline(profile, good, test) if test else None
            if curves is not None:
                for number, band in enumerate(bands):
                    shared.smooth[:, band] += curves[:, number, None]
                    shared.drift[:, band] += curves[:, number, None]
        return shared

    def _step_position(
        self, step: "_BandStep", found: "_ChannelBaseline", window: Rows, node: NDArray[np.float64]
    ) -> float:
        # Where a step is, to a row: the split of the rows around its node that leaves the least sum of squares.
        near = np.flatnonzero(np.abs(node - step.node) < 1.5)
        if not len(near):
            return step.node
        rows, band = slice(near[0], near[-1] + 1), step.band
        power, weight = (self._backend.to_host(array[rows, band]) for array in (window.stokes[0], window.weight))
        offset = np.where(weight > 0, (power - found.centre[band]) / found.sigma[band], np.nan)
        if not (has := np.isfinite(offset).any(axis=1)).any():
            return step.node
        profile, at = np.nanmedian(offset[has], axis=1), node[rows][has]
        early, late = profile[at < step.node - 0.5], profile[at > step.node + 0.5]
        if len(early):
            left = float(early.mean())
            right = float(late.mean()) if len(late) else left + step.height
        elif len(late):
            right = float(late.mean())
            left = right - step.height
        else:
            return step.node
        gain = np.cumsum((profile - right) ** 2 - (profile - left) ** 2)
        split = int(np.argmax(np.concatenate([[0.0], gain])))
        return float(at[split] if split < len(at) else at[-1] + 1 / 64) - 0.5 * self.nodes / self._rows


@dataclass(frozen=True, slots=True)
class _BandStep:
    # A sudden change of the level of some channels, in sigma; node counts from the first node, and may be a fraction.
    node: float
    band: slice
    height: float


@dataclass(frozen=True, slots=True)
class _SharedBaseline:
    # Of the band and its parts, [node, channel], in sigma: without the steps and with them.
    smooth: NDArray[np.float64]
    drift: NDArray[np.float64]
    steps: list[_BandStep]

    def add_step(self, step: Step, band: slice) -> None:
        self.steps.append(_BandStep(float(step.node), band, step.height))
        self.drift[step.node, band] += step.height / 2
        self.drift[step.node + 1 :, band] += step.height


@dataclass(frozen=True, slots=True)
class _ChannelBaseline:
    # smooth is [node, channel], in units of power; others [channel]: power of a channel per sigma of a step, level and
    # scatter of a row.
    smooth: NDArray[np.float64]
    steps: list[_BandStep]
    step_scale: NDArray[np.float64]
    centre: NDArray[np.float32]
    sigma: NDArray[np.float32]

    def level(self, steps: list[_BandStep]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        # The baseline [point, channel], and where its points are, in nodes: two at each step.
        nodes = np.arange(len(self.smooth), dtype=np.float64)
        at = np.concatenate([nodes, *([step.node - _STEP_WIDTH, step.node + _STEP_WIDTH] for step in steps)])
        at = np.clip(np.sort(at), 0, nodes[-1])
        left = np.minimum(at.astype(np.int64), len(nodes) - 2)
        part = (at - left)[:, None]
        level = (1 - part) * self.smooth[left] + part * self.smooth[left + 1]
        for step in steps:
            level[at > step.node, step.band] += step.height * self.step_scale[step.band]
        return level.astype(np.float32), at


def _profiles(
    offset: NDArray[np.float64], valid: NDArray[np.bool_], bands: list[slice]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    # Median over the channels of each band, [node, band], and where enough of them are valid.
    profile, good = np.zeros((len(offset), len(bands))), np.zeros((len(offset), len(bands)), np.bool_)
    for number, band in enumerate(bands):
        here, width = valid[:, band], band.stop - band.start
        good[:, number] = here.sum(axis=1) >= max(0.25 * width, min(_MIN_CHANNELS, width / 2))
        rows = good[:, number]
        profile[rows, number] = _masked_median(offset[rows, band].T, here[rows].T)
    return profile, good


def _beside_interference(present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # Nodes of a channel just before and after a long stretch that was flagged: its beginning and end, too weak to be
    # flagged. They are extended in proportion to its length (Offringa et al. 2012, A&A 539, A95).
    rows_lost = present.mean(axis=1) < _MIN_PRESENT
    flagged = ~present & ~rows_lost[:, None]
    beside = np.zeros_like(present)
    for view, out in ((flagged, beside), (flagged[::-1], beside[::-1])):
        run, reach = np.zeros((2, present.shape[1]))
        for here, extended in zip(view, out, strict=True):
            run = np.where(here, run + 1, 0)
            reach = np.where(run >= _MIN_RUN_NODES, np.ceil(_RUN_EXTENSION * run), reach - 1)
            extended |= ~here & (reach >= 0)
    return beside


def _masked_median(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    # Median along the first axis; 0 where there is nothing.
    if valid.all():
        return np.asarray(np.median(values, axis=0))
    some = np.where(valid, values, np.inf)
    some.sort(axis=0)
    count = valid.sum(axis=0)
    middle = np.take_along_axis(some, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    return np.where(count > 0, middle, 0.0)


def _coefficients(
    offset: NDArray[np.float64], drift: NDArray[np.float64], valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    # How much of the baseline each channel has: regression, drawn towards 1 as far as noise explains the differences.
    y, x = np.where(valid, offset, 0.0), np.where(valid, drift, 0.0)
    count = np.maximum(valid.sum(axis=0), 1)
    x, y = (np.where(valid, one - one.sum(axis=0) / count, 0.0) for one in (x, y))
    power = np.sum(x * x, axis=0)
    some = power > 0
    slope = np.ones(offset.shape[1])
    np.divide(np.sum(x * y, axis=0), power, out=slope, where=some)
    noise = np.sum((y - slope * x) ** 2, axis=0) / np.maximum(count - 2, 1)
    error = np.where(some, noise / np.maximum(power, 1e-30), 0.0)
    if not some.any():
        return slope
    deviation = (slope - 1.0) ** 2
    # Empirical Bayes (Efron & Morris 1975, JASA 70, 311). The typical deviation from 1 is the measured one less its
    # error.
    true = max(float(np.median(deviation[some])) / _MEDIAN_SQUARE - float(np.median(error[some])), 0.0)
    return np.where(some, 1.0 + (slope - 1.0) * true / (true + error + 1e-30), 1.0)
