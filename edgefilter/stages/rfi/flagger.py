"""Interference: each flagger sets a bit of its own, none takes what is lost, none keeps memory from block to block.

::

    MASK ─▶ background ─▶ ZERO_DM ─▶ evidence: runs of power and of kurtosis ─▶ guard for the sky ─┬─▶ POWER, KURTOSIS
                                          └─▶ what is left of each channel ────────────────────────┴─▶ CARRIER, CHANNEL

What is flagged before the evidence does not enter it. ``docs/flagging.md`` has the reasons.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from edgefilter.compute.threads import Workers
from edgefilter.core.cells import Flag, usual_spectra
from edgefilter.core.config import FlagSettings
from edgefilter.stages.rfi.background import Background, View
from edgefilter.stages.rfi.channel_health import Left, judge
from edgefilter.stages.rfi.dispersion_guard import Guard
from edgefilter.stages.rfi.gpu_tolerance import UPRIGHT, Lean
from edgefilter.stages.rfi.quantisation import is_clipped, unclipped
from edgefilter.stages.rfi.thresholds import kurtosis_limits, kurtosis_sigma, power_limit
from edgefilter.stages.rfi.zero_dm import ZeroDm
from edgefilter_kernels.rfi.cell_statistics import GROUP, HIGH, LOW, RUN, SKY, evidence
from edgefilter_kernels.rfi.combine import combine
from edgefilter_kernels.rfi.drifting_tones import DRIFT, find_drifts, lines_of, mark_drifts
from edgefilter_kernels.rfi.intensity import LANES

_LEAST_SPECTRA = 16  # fewer make the kurtosis estimator too wide to tell anything
_SKEWED = 8  # voltages that a cell is taken to have if it is not known: a bright cell may then be chance, or a burst
_RUNS = np.array([1, 2, 4, 8, 16, 32, 64])  # cells
_KURTOSIS_RUNS = np.array([1, 4, 16, 64])  # cells
_EVENT = 2.0  # sigma of a single cell from which on it fills a track of the sky: 2 % of noise do
_EVENT_GROUP = 1.0  # sigma of 16 cells from which on they do: 16 % of noise do


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
            Which way decisions lean; see :mod:`edgefilter.stages.rfi.gpu_tolerance`.
        """
        accumulated = self.workers.get(accumulated)
        spectra = usual_spectra(accumulated)
        if moment4 is None or spectra < _LEAST_SPECTRA or not self._settings.kurtosis_sigma:
            moment4 = self.workers.empty((*flags.shape, 0), np.float32)
        view = View(power, moment4, accumulated, hands, flags, spectra)
        self._mask(flags)
        background = Background.of(view, self.workers, lean)
        clipped = self.workers.beside(lambda: is_clipped(view, background, self.workers))
        moved = self._zero_dm.find(view, background, lean.power)
        wanted = clipped()  # before flags change
        self._zero_dm.mark(flags, moved)
        doubt = np.zeros(flags.shape[1])
        if wanted:
            view, doubt = unclipped(view, background, self.workers)
        marks, groups, moments = self._evidence(view, background, moved.slowly, lean)

        def of_channels() -> NDArray[np.uint16]:
            moments[1, 1] += doubt * np.sqrt(hands) / kurtosis_sigma(max(spectra, 2)) * moments[1, 0]
            left = Left.of(moments, background.centre, background.sigma, spectra)
            found = judge(left, self._settings, lean.channel)
            found[self._protected & (found != 0)] = Flag.TAGGED
            return found

        channel = self.workers.beside(of_channels)
        self._guard.mark(marks, groups, background.live, background.times)
        self._keep_drifts(marks, groups, background.live)
        self._combined(marks, channel(), flags)

    def _mask(self, flags: NDArray[np.uint16]) -> None:
        if self._masked.size:
            lost = flags[:, self._masked] & np.uint16(Flag.LOST) != 0
            flags[:, self._masked] |= np.where(lost, np.uint16(0), np.uint16(Flag.MASK))

    def _keep_drifts(self, marks: NDArray[np.uint8], groups: NDArray[np.uint8], live: NDArray[np.bool_]) -> None:
        """Set DRIFT in ``marks`` on the lines of drifting tones."""
        steepest, _, lines = lines_of(*groups.shape)
        hits = self.workers.empty((1 + 2 * steepest, lines), np.uint8)
        if not hits.size:
            return
        alive, find, mark = self.workers.put(live), self.workers.kernel(find_drifts), self.workers.kernel(mark_drifts)
        self.workers.over(len(hits), lambda start, stop: find(groups, alive, hits, start, stop))
        # Lines cross each other: only ranges of times share no cell.
        self.workers.over(len(marks), lambda start, stop: mark(hits, marks, start, stop))

    def _combined(self, marks: NDArray[np.uint8], channel: NDArray[np.uint16], flags: NDArray[np.uint16]) -> None:
        """Set the flags of marks and of whole channels."""
        table = _flags_of_marks(bool(self._settings.power_sigma))
        put, kernel = self.workers.put, self.workers.kernel(combine)
        tables = put(np.stack([table, np.where(table != 0, Flag.TAGGED, 0).astype(np.uint16)]))
        protected, whole = put(self._protected), put(channel)

        def run(start: int, stop: int) -> None:
            kernel(marks, tables, protected, whole, int(Flag.LOST), flags, start, stop)

        self.workers.over(len(flags), run, pieces=4)

    def _evidence(
        self, view: View, background: Background, wander: NDArray[np.float64], lean: Lean
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64]]:
        """Return marks, groups and moments of :func:`edgefilter_kernels.rfi.cell_statistics.evidence`."""
        times, channels = view.flags.shape
        spectra, live = view.spectra, background.live
        per_unit = np.where(live, lean.power / np.where(live, background.sigma, 1), 0)
        weight = np.sqrt(view.accumulated / spectra if spectra else np.ones(times))
        gain, per_sigma = np.zeros((2, times))
        if view.moment4.shape[2]:
            for number in np.unique(view.accumulated[view.accumulated >= _LEAST_SPECTRA]).tolist():
                here = view.accumulated == number
                gain[here] = (number + 1) / (number - 1)
                per_sigma[here] = lean.kurtosis / kurtosis_sigma(number)
        tables = (
            np.stack([background.centre, per_unit]).astype(np.float32),
            np.stack([weight, lean.power * weight * wander, gain, per_sigma]).astype(np.float32),
            _RUNS,
            self._power_limits(spectra * view.hands),
            _KURTOSIS_RUNS,
            self._kurtosis_limits(spectra, view.moment4.shape[2]),
        )
        marks = self.workers.empty((times, channels), np.uint8)
        groups = self.workers.empty((-(-times // GROUP), channels), np.uint8)
        moments = self.workers.zeros((2, 4, channels), np.float64)
        kernel: Callable[..., None] = self.workers.kernel(evidence)
        given = view.power, view.moment4, view.hands, view.flags, *map(self.workers.put, tables)
        out = marks, groups, moments

        def run(start: int, stop: int) -> None:
            kernel(*given, _EVENT, _EVENT_GROUP, *out, start, stop)

        self.workers.over(channels, run, align=LANES, pieces=8)
        return marks, groups, np.asarray(self.workers.get(moments))

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


@cache
def _flags_of_marks(power: bool) -> NDArray[np.uint16]:
    """Return the flags of every combination of marks.

    A tone's low kurtosis is nothing that a pulse can have; the rest it can. What is a drifting tone's is merely tagged.
    """
    table = np.zeros(256, np.uint16)
    for mark in range(256):
        if mark & LOW or (mark & HIGH and not mark & SKY):
            table[mark] |= np.uint16(Flag.KURTOSIS)
        if power and mark & RUN and not mark & SKY:
            table[mark] |= np.uint16(Flag.POWER)
        if mark & DRIFT:  # in the place of the others
            table[mark] = 0 if mark & (RUN | HIGH | LOW) else np.uint16(Flag.TAGGED)
    return table
