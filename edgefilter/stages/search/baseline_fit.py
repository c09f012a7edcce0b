"""The fit of a baseline: steps, and the smoothest curve that leaves white noise.

Curves are fitted to nodes, means of a short time, of several series at once: the profile of the band, those of its
parts, or single channels. All arrays are ``[node, series]``.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

Series = NDArray[np.float64]
Mask = NDArray[np.bool_]

HALF_WINDOWS = (64, 32, 16, 8, 4, 2)
"""Nodes on either side of the one at which a local parabola is evaluated."""

_MAX_SUM_NODES = 64  # nodes in the longest sums that are compared with white noise
_OUTLIER_SIGMA = 4.0
_MAX_OUTLIERS = 0.25
_FIT_PASSES = 5
_MAX_MEDIAN_SERIES = 32  # a running median, a better start, takes long for more
_MAD_TO_SIGMA = 1.4826
_STEP_SPAN = 8  # nodes on either side from which the height of a step is extrapolated
_STEP_SIGMA = 7.0  # its least significance
_STEADY_SPAN = 16  # nodes on either side whose medians must differ, too, which those of a wide pulse do not …
_STEP_STEADY = 0.5  # … by this fraction of the height
_MAX_STEPS = 16


@dataclass(frozen=True, slots=True)
class WhiteTest:
    """When a series counts as white noise.

    Parameters
    ----------
    max_excess
        Largest excess of the variance of sums of nodes, in standard deviations of its estimate.
    min_sums
        Fewest sums of a length whose variance is tested.
    max_outliers
        Largest fraction of nodes that may stand out: pulses and bursts.
    """

    max_excess: float
    min_sums: int
    max_outliers: float


@dataclass(frozen=True, slots=True)
class Step:
    """A sudden change of the level.

    Parameters
    ----------
    series
        The series that changes.
    node
        The node in which it changes.
    height
        By how much.
    """

    series: int
    node: int
    height: float


def fit_baseline(values: Series, good: Mask, test: WhiteTest, noise: Series | None = None) -> Series | None:
    """Fit the smoothest baseline that leaves white noise.

    Parameters
    ----------
    values
        float64 ``[node, series]``.
    good
        bool ``[node, series]``: nodes with data.
    test
        When a series is white.
    noise
        float64 ``[series]``: scatter of a node of white noise; None to measure it.

    Returns
    -------
    Series or None
        float64 ``[node, series]``: the baselines, 0 where a series is white; None if all are.
    """
    if noise is None:
        noise = _white_noise(values, good)
    usable = noise > 0
    values = _fill(values, good)
    values = values - np.median(values, axis=0)
    active = np.flatnonzero(usable & ~is_white(values, good, noise, _MAX_SUM_NODES, test))
    if not len(active):
        return None
    smooth = np.zeros((len(values), len(usable)))
    smooth[:, active] = _smooth(values[:, active], good[:, active], noise[active], test)
    return smooth


def is_white(values: Series, good: Mask, noise: Series, longest: int, test: WhiteTest) -> Mask:
    """Tell whether sums of 1, 2, 4 … nodes scatter as those of white noise do.

    A few nodes that stand out, pulses or bursts, do not count.

    Parameters
    ----------
    values, good
        As for :func:`fit_baseline`; the mean of the values is 0.
    noise
        float64 ``[series]``: scatter of a node.
    longest
        Nodes in the longest sums.
    test
        When a series is white.

    Returns
    -------
    white
        bool ``[series]``.
    """
    used = _inliers(values, good, noise)
    white = np.asarray(used.sum(axis=0) >= (1 - test.max_outliers) * good.sum(axis=0))
    scaled = np.where(used, values / np.where(noise > 0, noise, 1.0), 0.0)
    nodes = 1
    while nodes <= longest and len(values) >= test.min_sums * nodes:
        whole = len(values) // nodes * nodes
        count = used[:whole].reshape(-1, nodes, values.shape[1]).sum(axis=1)
        square = scaled[:whole].reshape(-1, nodes, values.shape[1]).sum(axis=1) ** 2
        enough = count >= (nodes + 1) // 2
        sums = np.maximum(enough.sum(axis=0), 1)
        excess = np.where(enough, square / np.maximum(count, 1), 0.0).sum(axis=0) / sums - 1
        white &= excess * np.sqrt(sums / 2) <= test.max_excess
        nodes *= 2
    return white


def _smooth(values: Series, good: Mask, noise: Series, test: WhiteTest) -> Series:
    smooth = np.zeros_like(values)
    rest = np.arange(values.shape[1])
    for half in HALF_WINDOWS:
        fit = _local_parabola(values[:, rest], good[:, rest], noise[rest], half)
        white = is_white(values[:, rest] - fit, good[:, rest], noise[rest], half, test)
        done = np.ones_like(white) if half == HALF_WINDOWS[-1] else white
        smooth[:, rest[done]] = fit[:, done]
        rest = rest[~done]
        if not len(rest):
            break
    return smooth


def _white_noise(values: Series, good: Mask) -> Series:
    # Scatter of a node, from second differences, which no slow change reaches; 0 where there are too few.
    three = good[:-2] & good[1:-1] & good[2:]
    second = np.where(three, np.abs(values[:-2] - 2 * values[1:-1] + values[2:]), np.inf)
    second.sort(axis=0)
    count = three.sum(axis=0)
    median = second[np.maximum(count - 1, 0) // 2, np.arange(values.shape[1])]
    return np.where(count > 0, _MAD_TO_SIGMA / math.sqrt(6.0) * np.where(count > 0, median, 0.0), 0.0)


def _fill(values: Series, good: Mask) -> Series:
    # Linear between the nodes that have data.
    if good.all():
        return values
    node = np.arange(len(values))[:, None]
    left = np.maximum.accumulate(np.where(good, node, -1), axis=0)
    right = np.minimum.accumulate(np.where(good, node, len(values))[::-1], axis=0)[::-1]
    none = (left < 0) & (right == len(values))
    left, right = np.where(left < 0, right, left), np.where(right == len(values), left, right)
    part = (node - left) / np.maximum(right - left, 1)
    left, right = (np.take_along_axis(values, np.where(none, 0, at), axis=0) for at in (left, right))
    return np.where(none, 0.0, (1 - part) * left + part * right)


def _inliers(values: Series, good: Mask, noise: Series) -> Mask:
    # Nodes without those that stand out, and without their neighbours, of which a part may stand out.
    outlier = np.abs(values) > _OUTLIER_SIGMA * noise
    near = outlier.copy()
    near[1:] |= outlier[:-1]
    near[:-1] |= outlier[1:]
    return good & ~near


def _local_parabola(values: Series, good: Mask, noise: Series, half: int) -> Series:
    # Local regression (Cleveland 1979, JASA 74, 829); outliers are replaced by the curve, and it is fitted again.
    smoother = _smoother(len(values), half)
    if values.shape[1] <= _MAX_MEDIAN_SERIES:
        fit = median_filter(values, (min(2 * (half // 2) + 1, len(values)), 1), mode="nearest")
    else:
        fit = smoother @ values
    for _ in range(_FIT_PASSES):
        used = _inliers(values - fit, good, noise)
        few = used.sum(axis=0) < (1 - _MAX_OUTLIERS) * good.sum(axis=0)
        fit = np.asarray(smoother @ np.where(used | few, values, fit))
    return np.asarray(fit)


@cache
def _smoother(nodes: int, half: int) -> Series:
    # Matrix [node, node] that evaluates a parabola, fitted to the nodes around each one with Epanechnikov weights.
    index = np.arange(nodes)
    offset = (index - index[:, None]) / (half + 1)
    weight = np.maximum(1 - offset**2, 0)
    basis = np.stack([np.ones_like(offset), offset, offset**2], axis=2)  # [at, node, power]
    moments = np.einsum("an,anp,anq->apq", weight, basis, basis) + 1e-9 * np.eye(3)
    first = np.linalg.inv(moments)[:, 0]
    return np.asarray(np.einsum("ap,an,anp->an", first, weight, basis))


def find_steps(values: Series, good: Mask) -> list[Step]:
    """Find sudden changes of the level that last.

    Parameters
    ----------
    values, good
        As for :func:`fit_baseline`.

    Returns
    -------
    list of Step
        At most 16 in each series, the most significant one first.
    """
    noise, values = _white_noise(values, good), _fill(values, good).copy()
    steps: list[Step] = []
    if len(values) <= 2 * _STEADY_SPAN:
        return steps
    for number in np.flatnonzero(noise > 0).tolist():
        for _ in range(_MAX_STEPS):
            step = _strongest_step(values[:, number], noise[number])
            if step is None:
                break
            node, height = step
            steps.append(Step(number, node, height))
            values[node + 1 :, number] -= height
            values[node, number] = (values[node - 1, number] + values[node + 1, number]) / 2
    return steps


def _strongest_step(values: Series, noise: float) -> tuple[int, float] | None:
    height = _jumps(values)
    lasting = _median_changes(values)
    found = (height * lasting > 0) & (np.abs(lasting) > _STEP_STEADY * np.abs(height))
    found &= np.abs(height) > _STEP_SIGMA * noise * _jump_error()
    if not found.any():
        return None
    node = int(np.argmax(np.where(found, np.abs(height), 0.0)))
    return node, float(height[node])


def _jumps(values: Series) -> Series:
    # Difference at each node between the lines through the nodes after it and before it; 0 near the ends.
    weight, span = _edge_weights(), _STEP_SPAN
    before = np.convolve(values, weight, "full")[: len(values)]  # a line that ends one node later
    after = np.convolve(values[::-1], weight, "full")[: len(values)][::-1]
    jumps = np.zeros(len(values))
    at = np.arange(span, len(values) - span)
    jumps[at] = after[at + 1] - before[at - 1]
    return jumps


def _median_changes(values: Series) -> Series:
    # Difference at each node between the medians of the nodes after and before it, over a longer time; 0 near the ends.
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, _STEADY_SPAN), axis=1)
    changes = np.zeros(len(values))
    at = np.arange(_STEADY_SPAN, len(values) - _STEADY_SPAN)
    changes[at] = medians[at + 1] - medians[at - _STEADY_SPAN]
    return changes


@cache
def _edge_weights() -> Series:
    # Weights of the nodes at distances 1, 2 … in a regression line, evaluated at distance 0.
    x = np.arange(1, _STEP_SPAN + 1)
    centre = x.mean()
    return np.asarray(1 / len(x) - centre * (x - centre) / ((x - centre) ** 2).sum())


def _jump_error() -> float:
    return math.sqrt(2 * float((_edge_weights() ** 2).sum()))
