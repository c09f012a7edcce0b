"""Interference: each flagger sets a bit of its own, none takes what is lost, none keeps memory from block to block.

::

    MASK ─▶ background ─▶ ZERO_DM ─▶ evidence: runs of power and of kurtosis ─▶ guard for the sky ─┬─▶ POWER, KURTOSIS
                                          └─▶ what is left of each channel ────────────────────────┴─▶ CARRIER, CHANNEL

What is flagged before the evidence does not enter it. ``docs/flagging.md`` has the reasons.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from edgefilter.cells import Flag, usual_spectra
from edgefilter.config import FlagSettings
from edgefilter.stages.clipped import unclipped
from edgefilter.stages.doubt import UPRIGHT, Lean
from edgefilter.stages.health import Left, judge
from edgefilter.stages.sky import Guard
from edgefilter.stages.thresholds import gamma_quantile, kurtosis_limits, kurtosis_sigma, power_limit
from edgefilter.stages.zerodm import ZeroDm
from edgefilter.workers import Workers
from edgefilter_kernels.combine import combine
from edgefilter_kernels.evidence import GROUP, HIGH, LOW, RUN, SKY, evidence
from edgefilter_kernels.intensity import LANES
from edgefilter_kernels.quantile import channel_quantiles

LEAST_TIMES = 16
"""Fewer say nothing about a channel."""

_LEAST_SPECTRA = 16  # fewer make the kurtosis estimator too wide to tell anything
_QUANTILE_TIMES = 1024  # times that are enough for a quantile: 4 % of sigma
_QUANTILES = np.array([0.3, 0.05])  # of the background; with it, of its scatter: interference lies above both
_BETWEEN = float(ndtri(0.3) - ndtri(0.05))
_MISMATCH = 1.2  # scatter over that of the radiometer equation from which on it is more than noise
_BY_CHANCE = 8.0  # what n times of noise may add to that ratio, times √n: four standard deviations
_VOLTAGES = 8 * 2 ** np.arange(15)  # that a cell may be of; for more, the distribution is normal
_SKEWED = 8  # voltages that a cell is taken to have if it is not known: a bright cell may then be chance, or a burst
_FRACTIONS = np.linspace(0.0, 0.68, 18)  # of the times that have interference: 0.7 leaves no quantile to see it by
_TIED = 0.2  # of the times that may share a value: more, and steps are too coarse for quantiles
_RUNS = np.array([1, 2, 4, 8, 16, 32, 64])  # cells
_KURTOSIS_RUNS = np.array([1, 4, 16, 64])  # cells
_EVENT = 2.0  # sigma of a single cell from which on it fills a track of the sky: 2 % of noise do
_EVENT_GROUP = 1.0  # sigma of 16 cells from which on they do: 16 % of noise do


@dataclass(frozen=True, slots=True)
class Background:
    """What the intensity of each channel is without interference.

    Parameters
    ----------
    centre, sigma
        float64 ``[channel]``: mean and standard deviation of a cell; sigma 0 where nothing is known.
    spectra
        Powers of a hand in most cells, 0 if not known.
    times
        Cells in use of the channel that has most: few, where a recording ends or a cut-out is replayed.
    """

    centre: NDArray[np.float64]
    sigma: NDArray[np.float64]
    spectra: int
    times: int

    @property
    def live(self) -> NDArray[np.bool_]:
        """Channels of which something is known."""
        return self.sigma > 0


class Flagger:
    """The chain of flaggers for one band, from arrays to arrays.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``: centres.
    cell_seconds
        Duration of a cell, s.
    settings
        Which flaggers, how eager.
    workers
        Threads, or the card that the arrays are on.
    """

    def __init__(
        self, frequencies_mhz: NDArray[np.float64], cell_seconds: float, settings: FlagSettings, workers: Workers
    ) -> None:
        self._settings = settings
        self.workers = workers
        self._masked = workers.put(np.flatnonzero(within(frequencies_mhz, settings.mask)))
        self._protected = within(frequencies_mhz, settings.protect)
        self._channel_quantiles, self._combine = workers.kernel(channel_quantiles), workers.kernel(combine)
        self._evidence_in: Callable[..., None] = workers.kernel(evidence)
        self._guard = Guard(frequencies_mhz, cell_seconds, settings.sky_dm, workers)
        self._zero_dm = ZeroDm(frequencies_mhz, cell_seconds, settings, workers)

    def flag(
        self,
        power: NDArray[np.float32],
        moment4: NDArray[np.float32] | None,
        accumulated: NDArray[np.int32],
        hands: int,
        flags: NDArray[np.uint16],
        lean: Lean = UPRIGHT,
    ) -> None:
        r"""Set bits of ``flags``.

        Parameters
        ----------
        power
            float32 ``[time, channel, product]``: the first ``hands`` products are mean \|v\|² and add up.
        moment4
            float32 ``[time, channel, hand]``: mean \|v\|⁴, or None.
        accumulated
            int32 ``[time]``: voltages in a cell, 0 if not known.
        hands
            Products that add up to the intensity.
        flags
            uint16 ``[time, channel]``, changed in place. LOST cells stay LOST and nothing else.
        lean
            Which way decisions lean; see :mod:`edgefilter.stages.doubt`.
        """
        times, channels = flags.shape
        if self._masked.size:
            lost = flags[:, self._masked] & np.uint16(Flag.LOST) != 0
            flags[:, self._masked] |= np.where(lost, np.uint16(0), np.uint16(Flag.MASK))
        put, accumulated = self.workers.put, self.workers.get(accumulated)
        background = self._background(power, accumulated, hands, flags, lean)
        self._zero_dm.flag(power, hands, background.centre, background.sigma / lean.power, flags)
        if moment4 is None or background.spectra < _LEAST_SPECTRA or not self._settings.kurtosis_sigma:
            moment4 = self.workers.empty((times, channels, 0), np.float32)
        moment4, doubt = unclipped(
            power, moment4, accumulated, flags, background.centre, background.sigma, self.workers
        )
        marks = self.workers.empty((times, channels), np.uint8)
        groups = self.workers.empty((-(-times // GROUP), channels), np.uint8)
        moments = self._evidence(power, moment4, accumulated, hands, background, flags, marks, groups, lean)
        moments[1, 1] += doubt * np.sqrt(hands) / kurtosis_sigma(max(background.spectra, 2)) * moments[1, 0]
        left = Left.of(moments, background.centre, background.sigma, background.spectra)
        judged = self.workers.beside(lambda: judge(left, self._settings, lean.channel))
        self._guard.mark(marks, groups, background.live, background.times)
        channel = judged()
        channel[self._protected & (channel != 0)] = Flag.TAGGED

        table = _flags_of_marks(bool(self._settings.power_sigma))
        tables = put(np.stack([table, np.where(table != 0, Flag.TAGGED, 0).astype(np.uint16)]))
        protected, whole = put(self._protected), put(channel)

        def run(start: int, stop: int) -> None:
            self._combine(marks, tables, protected, whole, int(Flag.LOST), flags, start, stop)

        self.workers.over(times, run, pieces=4)

    def _background(
        self,
        power: NDArray[np.float32],
        accumulated: NDArray[np.int32],
        hands: int,
        flags: NDArray[np.uint16],
        lean: Lean,
    ) -> Background:
        channels = flags.shape[1]
        step = int(np.clip(len(power) // _QUANTILE_TIMES, 1, 4))
        found = self.workers.zeros((2, channels), np.float64), self.workers.zeros((2, channels), np.int64)
        fractions = self.workers.put(_QUANTILES)

        def run(start: int, stop: int) -> None:
            self._channel_quantiles(power, hands, flags, step, fractions, *found, start, stop)

        self.workers.over(channels, run, align=LANES, pieces=4)
        quantiles, count = map(self.workers.get, found)
        spectra = usual_spectra(accumulated)
        measured = (quantiles[0] - quantiles[1]) / _BETWEEN
        if spectra:
            centre, sigma = _mixed(quantiles, count[0], spectra * hands, lean)
            expected = centre / np.sqrt(spectra * hands)
            usual = centre > 0
            if usual.any() and lean.power * np.median(measured[usual] / expected[usual]) > _MISMATCH:
                centre = quantiles[0] / gamma_quantile(spectra * hands, float(_QUANTILES[0]))
                sigma = measured
        else:
            centre, sigma = _skewed(quantiles[0], measured)
            coarse = count[1] > _TIED * np.maximum(count[0], 1)
            if coarse.any():
                some = self.workers.get(power[::step]), self.workers.get(flags[::step])
                centre[coarse], sigma[coarse] = _plain(some[0][:, coarse, :hands], some[1][:, coarse])
        live = (count[0] >= LEAST_TIMES) & (measured > 0)
        return Background(centre, np.where(live, sigma, 0.0), spectra, step * int(count[0].max(initial=0)))

    def _evidence(
        self,
        power: NDArray[np.float32],
        moment4: NDArray[np.float32],
        accumulated: NDArray[np.int32],
        hands: int,
        background: Background,
        flags: NDArray[np.uint16],
        marks: NDArray[np.uint8],
        groups: NDArray[np.uint8],
        lean: Lean,
    ) -> NDArray[np.float64]:
        times, channels = flags.shape
        spectra, live = background.spectra, background.live
        centre = background.centre.astype(np.float32)
        per_unit = np.where(live, lean.power / np.where(live, background.sigma, 1), 0).astype(np.float32)
        weight = np.sqrt(accumulated / spectra if spectra else np.ones(times)).astype(np.float32)
        gain, per_sigma = np.zeros((2, times), np.float32)
        if moment4.shape[2]:
            for number in np.unique(accumulated[accumulated >= _LEAST_SPECTRA]).tolist():
                here = accumulated == number
                gain[here] = (number + 1) / (number - 1)
                per_sigma[here] = lean.kurtosis / kurtosis_sigma(number)
        middle = np.ones(channels, np.float32)
        limits = (
            _RUNS,
            self._power_limits(spectra * hands),
            _KURTOSIS_RUNS,
            self._kurtosis_limits(spectra, moment4.shape[2]),
        )
        tables = [self.workers.put(table) for table in (centre, per_unit, weight, gain, middle, per_sigma, *limits)]
        moments = self.workers.zeros((2, 4, channels), np.float64)

        def run(start: int, stop: int) -> None:
            self._evidence_in(
                power, moment4, hands, flags, *tables, _EVENT, _EVENT_GROUP, marks, groups, moments, start, stop
            )

        self.workers.over(channels, run, align=LANES, pieces=8)
        return np.asarray(self.workers.get(moments))

    def _power_limits(self, spectra: int) -> NDArray[np.float32]:
        limits = np.full((2, len(_RUNS)), np.inf, np.float32)
        # Without the flagger, runs are still looked for: they are what the guard and the channels' health go by.
        sigma = self._settings.power_sigma or FlagSettings().power_sigma
        limits[0] = [power_limit(spectra or _SKEWED, window, sigma) for window in _RUNS.tolist()]
        return limits

    def _kurtosis_limits(self, spectra: int, hands: int) -> NDArray[np.float32]:
        limits = np.full((2, len(_KURTOSIS_RUNS)), np.inf, np.float32)
        if hands:
            tail = float(ndtr(-self._settings.kurtosis_sigma))
            for at, window in enumerate(_KURTOSIS_RUNS.tolist()):
                low, high = kurtosis_limits(spectra, tail, window * hands)
                unit = window * np.sqrt(hands) / kurtosis_sigma(spectra)
                limits[:, at] = (high - 1) * unit, (1 - low) * unit
        return limits


def within(frequencies_mhz: NDArray[np.float64], bands: tuple[tuple[float, float], ...]) -> NDArray[np.bool_]:
    """Channels whose centre lies in one of the bands, [low, high] in MHz."""
    found = np.zeros(len(frequencies_mhz), np.bool_)
    for low, high in bands:
        found |= (frequencies_mhz >= low) & (frequencies_mhz <= high)
    return found


def _skewed(
    level: NDArray[np.float64], scatter: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and sigma of cells of which the 30 % quantile and the scatter below it are known.

    Power is skewed: below its mean it scatters less than above. By how much follows from scatter over level, if the
    level has no offset; with one, cells seem to be of more voltages, and at worst the answer is that of the normal
    distribution.
    """
    high, low = np.array(
        [[gamma_quantile(number, quantile) for number in _VOLTAGES.tolist()] for quantile in _QUANTILES.tolist()]
    )
    ratio = (high - low) / high / _BETWEEN
    here = np.divide(scatter, level, out=np.zeros_like(level), where=level > 0)
    centre = level / np.interp(here, ratio[::-1], high[::-1])
    sigma = centre * np.interp(here, ratio[::-1], 1 / np.sqrt(_VOLTAGES[::-1]))
    skewed = here > ratio[-1]
    return np.where(skewed, centre, level - ndtri(_QUANTILES[0]) * scatter), np.where(skewed, sigma, scatter)


def _mixed(
    quantiles: NDArray[np.float64], count: NDArray[np.int64], spectra: int, lean: Lean
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the noise, of which a part of the times shows nothing: it lies above.

    Where a fraction f of the times has interference, the p quantile of all is the p / (1 - f) quantile of the noise;
    two of them tell f. Up to 0.2 of scatter over noise, or what few times may have, f is taken to be 0.
    """
    high, low = (np.array([gamma_quantile(spectra, float(p / (1 - f))) for f in _FRACTIONS]) for p in _QUANTILES)
    found = 1 - quantiles[1] / np.where(quantiles[0] > 0, quantiles[0], 1.0)
    wider = np.maximum(_MISMATCH, 1 + _BY_CHANCE / np.sqrt(np.maximum(count, 1)))
    often = lean.power * found > wider * (1 - low[0] / high[0])
    centre = np.where(often, quantiles[1] / np.interp(found, 1 - low / high, low), quantiles[0] / high[0])
    return centre, centre / np.sqrt(spectra)


def _plain(power: NDArray[np.float32], flags: NDArray[np.uint16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation over the used cells: all that data of one or two bits have."""
    used = flags == 0
    value = power.sum(axis=2, dtype=np.float64)
    count = np.maximum(used.sum(axis=0), 1)
    mean = (value * used).sum(axis=0) / count
    return mean, np.sqrt(((value - mean) ** 2 * used).sum(axis=0) / count)


@cache
def _flags_of_marks(power: bool) -> NDArray[np.uint16]:
    """Return the flags of every combination of marks.

    A tone's low kurtosis is nothing that a pulse can have; the rest it can.
    """
    table = np.zeros(256, np.uint16)
    for mark in range(256):
        if mark & LOW or (mark & HIGH and not mark & SKY):
            table[mark] |= np.uint16(Flag.KURTOSIS)
        if power and mark & RUN and not mark & SKY:
            table[mark] |= np.uint16(Flag.POWER)
    return table
