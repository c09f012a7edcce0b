"""Measure the signal loss of flagging: the fraction of injected signals, and of noise, that is flagged.

Pulses and a spectral line multiply the cells of a copy of a part of a block, as a signal from the sky does, and the
copy is flagged. Cells that are flagged in it, and not in the part without the signal, are lost to the signal. The
result follows from the block and its number alone, so that products do too.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.cells import FLAGGERS, Cells, Flag, FlagCost, flag_name, median_accumulated, n_polarisations
from edgefilter.core.plan import Plan, dispersion_delay
from edgefilter.stages.rfi.background import Background
from edgefilter.stages.rfi.block import BlockView
from edgefilter.stages.rfi.flagger import Flagger
from edgefilter.stages.rfi.gpu_tolerance import NOMINAL

SIGNAL_SIGMAS = (0.5, 3.0, 30.0)
"""Strengths of the injected signals, in standard deviations of a cell."""

MEASURE_INTERVAL_BLOCKS = 16
"""Blocks from one measurement to the next."""

_MEASURED_TIMES = (
    512,
    1024,
)  # fewest and most times of a block that are flagged eight times more: see docs/flagging.md
_PULSES_PER_BLOCK = 4  # few, so that they do not change the background
_PULSE_WIDTH_SECONDS = 4e-3  # full width at half maximum; two cells, if they are longer
_PULSE_SIGMAS = 4.0  # beyond it a pulse is 0
_LINE_CHANNELS = 6


class SignalLossMeter:
    """Measures the signal loss of a chain of flaggers.

    Parameters
    ----------
    plan
        Layout and settings.
    flagger
        The chain of flaggers.
    """

    def __init__(self, plan: Plan, flagger: Flagger) -> None:
        self._mhz = plan.frequencies_mhz
        self._seconds = plan.stream.seconds(plan.samples_per_cell)
        self._dm = plan.settings.flag.sky_dm
        self._flagger = flagger

    def measure(self, cells: Cells, block: int) -> tuple[FlagCost, ...]:
        """Measure one block.

        Parameters
        ----------
        cells
            The flagged block, on the host.
        block
            Its number, from which the places of the signals follow.

        Returns
        -------
        tuple
            The loss of each signal and of noise by each flagger, and by all together.
        """
        random = np.random.default_rng([block, 20260])
        part = _choose_part(cells, random)
        lost = part.flags & np.uint16(Flag.LOST)
        good = self._run_flagger(part.power, part.moment4, part.accumulated, n_polarisations(part.products), lost) == 0
        relative = self._modulation_index(part, lost)
        times = min(len(cells.power), _MEASURED_TIMES[1])
        costs = self._noise_costs(times, median_accumulated(cells.accumulated), random)
        pulses = self._pulse_shapes(len(part.power), random)
        line = np.zeros_like(pulses)
        at = int(random.integers(0, max(1, len(self._mhz) - _LINE_CHANNELS)))
        line[:, at : at + _LINE_CHANNELS] = 1.0
        for signal, shape in (("pulse", pulses), ("line", line)):
            for sigma in SIGNAL_SIGMAS:
                flags = self._flags_with_signal(part, lost, 1 + (sigma * relative * shape).astype(np.float32))
                costs += _signal_losses(signal, sigma, shape, good, flags)
        return tuple(costs)

    def _pulse_shapes(self, times: int, random: np.random.Generator) -> NDArray[np.float32]:
        """Return Gaussian pulses of unit height, float32 ``[time, channel]``."""
        low, high = float(max(self._mhz.min(), 1e-3)), float(self._mhz.max())
        # The slowest pulse crosses the band in half of the times, if the lowest DM does.
        most = min(self._dm[1], 0.5 * times * self._seconds / max(dispersion_delay(1.0, low, high), 1e-12))
        shape = np.zeros((times, len(self._mhz)), np.float32)
        sigma = max(_PULSE_WIDTH_SECONDS / self._seconds, 2.0) / 2.355
        reach = int(np.ceil(_PULSE_SIGMAS * sigma))
        channels = np.arange(len(self._mhz))
        for dm in np.geomspace(self._dm[0], max(most, 1.01 * self._dm[0]), _PULSES_PER_BLOCK):
            delay = np.array([dispersion_delay(float(dm), f, high) for f in np.maximum(self._mhz, 1e-3)])
            arrival = random.uniform(0, 0.5 * times) + delay / self._seconds
            for step in range(-reach, reach + 1):
                t = np.round(arrival).astype(np.int64) + step
                inside = (t >= 0) & (t < times)
                height = np.exp(-0.5 * ((t - arrival) / sigma) ** 2).astype(np.float32)
                shape[t[inside], channels[inside]] += height[inside]
        return shape

    def _modulation_index(self, part: Cells, lost: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Return scatter over mean of a cell, float64 ``[channel]``; measured where the voltages are not known."""
        n_pols, spectra = n_polarisations(part.products), median_accumulated(part.accumulated)
        if spectra:
            return np.full(len(self._mhz), 1 / np.sqrt(spectra * n_pols))
        backend = self._flagger.backend
        power, flags = backend.to_device(part.power), backend.to_device(lost)
        moments = backend.empty((*flags.shape, 0), np.float32)
        found = Background.estimate(BlockView(power, moments, part.accumulated, n_pols, flags, 0), backend, NOMINAL)
        known = found.live & (found.centre > 0)
        return np.where(known, found.sigma / np.where(known, found.centre, 1.0), 0.0)

    def _flags_with_signal(
        self, part: Cells, lost: NDArray[np.uint16], gain: NDArray[np.float32]
    ) -> NDArray[np.uint16]:
        n_pols, gain = n_polarisations(part.products), gain[:, :, None]
        power = np.ascontiguousarray(part.power[:, :, :n_pols] * gain)
        moment4 = None if part.moment4 is None else part.moment4 * gain * gain
        return self._run_flagger(power, moment4, part.accumulated, n_pols, lost)

    def _noise_costs(self, times: int, spectra: int, random: np.random.Generator) -> list[FlagCost]:
        # Gamma noise; its kurtosis would need the voltages, so that only flaggers of power are measured.
        shape = spectra or 64
        power = random.standard_gamma(shape, (times, len(self._mhz), 1), np.float32) / np.float32(shape)
        none = np.zeros(power.shape[:2], np.uint16)
        flags = self._run_flagger(power, None, np.full(times, spectra, np.int32), 1, none)
        return [
            FlagCost(name, "noise", 0.0, float((flags & bits != 0).mean()), flags.size)
            for name, bits in _flagger_bits()
        ]

    def _run_flagger(
        self,
        power: NDArray[np.float32],
        moment4: NDArray[np.float32] | None,
        accumulated: NDArray[np.int32],
        n_pols: int,
        flags: NDArray[np.uint16],
    ) -> NDArray[np.uint16]:
        backend = self._flagger.backend
        flags_out, fourth = backend.to_device(flags.copy()), None if moment4 is None else backend.to_device(moment4)
        self._flagger.flag(backend.to_device(power), fourth, backend.to_device(accumulated), n_pols, flags_out)
        return np.asarray(backend.to_host(flags_out), np.uint16)


def _choose_part(cells: Cells, random: np.random.Generator) -> Cells:
    """Return consecutive times of a block, a quarter of it within bounds; their place follows from random numbers."""
    count = len(cells.power)
    times = min(count, max(_MEASURED_TIMES[0], min(_MEASURED_TIMES[1], count // 4)))
    first = int(random.integers(0, count - times + 1))
    here = slice(first, first + times)
    part = cells.map_arrays(lambda array: array[here])
    return replace(part, start=cells.start + first)


def _signal_losses(
    signal: str, sigma: float, shape: NDArray[np.float32], good: NDArray[np.bool_], flags: NDArray[np.uint16]
) -> list[FlagCost]:
    """Return the loss of S/N of a matched filter, the root of the sum of squares, by newly flagged cells."""
    at = np.flatnonzero((shape > 0) & good)
    square, flagged = shape.ravel()[at].astype(np.float64) ** 2, flags.ravel()[at]
    whole, cells = square.sum(), int(np.count_nonzero(square > 0.25))
    costs = []
    for name, bits in _flagger_bits():
        left = square[(flagged & bits) == 0].sum()
        lost = 1 - float(np.sqrt(left / whole)) if whole else 0.0
        costs.append(FlagCost(name, signal, sigma, lost, cells))
    return costs


def _flagger_bits() -> list[tuple[str, np.uint16]]:
    each = [(flag_name(flag), np.uint16(flag)) for flag in FLAGGERS]
    return [*each, ("all", np.uint16(sum(FLAGGERS)))]
