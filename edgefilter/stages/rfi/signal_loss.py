"""Measure the signal loss of flagging: the fraction of injected signals, and of noise, that is flagged.

Pulses and a spectral line multiply the cells of a copy of a block, as a signal from the sky does, and the copy is
flagged again. Cells that are flagged in the copy and not in the block are lost to the signal. The result follows from
the block and its number alone, so that products do too.
"""

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.cells import FLAGGERS, Cells, Flag, FlagCost, flag_name, median_accumulated, n_polarisations
from edgefilter.core.plan import Plan, dispersion_delay
from edgefilter.stages.rfi.flagger import Flagger

SIGNAL_SIGMAS = (0.5, 3.0, 30.0)
"""Strengths of the injected signals, in standard deviations of a cell."""

MEASURE_INTERVAL_BLOCKS = 16
"""Blocks from one measurement to the next."""

_PULSES_PER_BLOCK = 4  # few, so that they do not change the background
_PULSE_WIDTH_SECONDS = 4e-3  # full width at half maximum; two cells, if they are longer
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
        lost = cells.flags & np.uint16(Flag.LOST)
        good = cells.flags == 0
        costs = self._noise_costs(cells, random)
        pulses = self._pulse_shapes(len(cells.power), random)
        line = np.zeros_like(pulses)
        at = int(random.integers(0, max(1, len(self._mhz) - _LINE_CHANNELS)))
        line[:, at : at + _LINE_CHANNELS] = 1.0
        for signal, shape in (("pulse", pulses), ("line", line)):
            for sigma in SIGNAL_SIGMAS:
                flags = self._flags_with_signal(cells, lost, shape, sigma)
                costs += _signal_losses(signal, sigma, shape, good, flags)
        return tuple(costs)

    def _pulse_shapes(self, times: int, random: np.random.Generator) -> NDArray[np.float32]:
        """Return Gaussian pulses of unit height, float32 ``[time, channel]``."""
        low, high = float(max(self._mhz.min(), 1e-3)), float(self._mhz.max())
        # The slowest pulse crosses the band in half a block, if the lowest DM does.
        most = min(self._dm[1], 0.5 * times * self._seconds / max(dispersion_delay(1.0, low, high), 1e-12))
        shape = np.zeros((times, len(self._mhz)), np.float32)
        sigma = max(_PULSE_WIDTH_SECONDS / self._seconds, 2.0) / 2.355
        t = np.arange(times)[:, None]
        for dm in np.geomspace(self._dm[0], max(most, 1.01 * self._dm[0]), _PULSES_PER_BLOCK):
            delay = np.array([dispersion_delay(float(dm), f, high) for f in np.maximum(self._mhz, 1e-3)])
            start = random.uniform(0, 0.5 * times)
            shape += np.exp(-0.5 * ((t - start - delay / self._seconds) / sigma) ** 2).astype(np.float32)
        return shape

    def _flags_with_signal(
        self, cells: Cells, lost: NDArray[np.uint16], shape: NDArray[np.float32], sigma: float
    ) -> NDArray[np.uint16]:
        n_pols = n_polarisations(cells.products)
        spectra = median_accumulated(cells.accumulated)
        # Where the number of voltages is not known, scatter over mean is measured.
        relative = 1 / np.sqrt(spectra * n_pols) if spectra else _modulation_index(cells.power[:, :, :n_pols], lost)
        gain = (1 + sigma * relative * shape).astype(np.float32)[:, :, None]
        power = np.ascontiguousarray(cells.power[:, :, :n_pols] * gain)
        moment4 = None if cells.moment4 is None else cells.moment4 * gain * gain
        return self._run_flagger(power, moment4, cells.accumulated, n_pols, lost.copy())

    def _noise_costs(self, cells: Cells, random: np.random.Generator) -> list[FlagCost]:
        spectra = median_accumulated(cells.accumulated)
        times = min(len(cells.power), 1024)
        # Gamma noise; its kurtosis would need the voltages, so that only flaggers of power are measured.
        shape = spectra or 64
        power = random.gamma(shape, 1 / shape, (times, len(self._mhz), 1)).astype(np.float32)
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
        flags_out, fourth = backend.to_device(flags), None if moment4 is None else backend.to_device(moment4)
        self._flagger.flag(backend.to_device(power), fourth, backend.to_device(accumulated), n_pols, flags_out)
        return np.asarray(backend.to_host(flags_out), np.uint16)


def _signal_losses(
    signal: str, sigma: float, shape: NDArray[np.float32], good: NDArray[np.bool_], flags: NDArray[np.uint16]
) -> list[FlagCost]:
    """Return the loss of S/N of a matched filter, the root of the sum of squares, by newly flagged cells."""
    square = np.where(good, shape.astype(np.float64) ** 2, 0.0)
    whole = square.sum()
    costs = []
    for name, bits in _flagger_bits():
        left = square[(flags & bits) == 0].sum()
        lost = 1 - float(np.sqrt(left / whole)) if whole else 0.0
        costs.append(FlagCost(name, signal, sigma, lost, int(np.count_nonzero(square > 0.25))))
    return costs


def _flagger_bits() -> list[tuple[str, np.uint16]]:
    each = [(flag_name(flag), np.uint16(flag)) for flag in FLAGGERS]
    return [*each, ("all", np.uint16(sum(FLAGGERS)))]


def _modulation_index(power: NDArray[np.float32], lost: NDArray[np.uint16]) -> NDArray[np.float64]:
    used = lost == 0
    value = np.where(used, power.sum(axis=2, dtype=np.float64), np.nan)
    known, modulation = used.any(axis=0), np.zeros(value.shape[1])
    if known.any():
        low, middle = np.nanquantile(value[:, known], (0.16, 0.5), axis=0)
        modulation[known] = np.where(middle > 0, (middle - low) / np.where(middle > 0, middle, 1), 0.0)
    return modulation
