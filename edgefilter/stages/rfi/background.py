"""Background of each channel: mean and standard deviation of its intensity without interference."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from edgefilter.compute.threads import ThreadBackend
from edgefilter.stages.rfi.block import BlockView
from edgefilter.stages.rfi.gpu_tolerance import ThresholdScale
from edgefilter.stages.rfi.thresholds import gamma_quantile
from edgefilter_kernels.rfi.intensity import LANES
from edgefilter_kernels.rfi.quantile import channel_quantiles

MIN_TIMES = 16
"""Fewest used times of a channel with a known background."""
QUANTILE = 0.3
"""Quantile of a channel's cells from which its background follows."""

_MIN_QUANTILE_TIMES = 1024  # times that are enough for a quantile: its error is 4 % of sigma
_QUANTILES = np.array([QUANTILE, 0.05])  # for the mean, and for the scatter: interference lies above both
_QUANTILE_SPACING_SIGMA = float(ndtri(QUANTILE) - ndtri(0.05))
_MAX_SCATTER_RATIO = 1.2  # scatter over that of the radiometer equation above which it is more than noise
_CHANCE_SCATTER = 8.0  # excess of that ratio by chance over n times of noise, times √n: four standard deviations
_VOLTAGE_COUNTS = 8 * 2 ** np.arange(15)  # numbers of voltages in a cell; beyond, the distribution is normal
_DUTY_CYCLES = np.linspace(0.0, 0.68, 18)  # fractions of times with interference; beyond 0.7, both quantiles have it
_MAX_TIED_FRACTION = 0.2  # fraction of times with the same value above which the steps are too coarse for quantiles


@dataclass(frozen=True, slots=True)
class Background:
    """Intensity of each channel without interference.

    Parameters
    ----------
    centre, sigma
        float64 ``[channel]``: mean and standard deviation of a cell; sigma is 0 where they are not known.
    times
        Largest number of used cells in a channel: few, where a recording ends or a cut-out is replayed.
    """

    centre: NDArray[np.float64]
    sigma: NDArray[np.float64]
    times: int

    @property
    def live(self) -> NDArray[np.bool_]:
        """Channels with a known background, bool ``[channel]``."""
        return self.sigma > 0

    @classmethod
    def estimate(cls, view: BlockView, backend: ThreadBackend, threshold_scale: ThresholdScale) -> "Background":
        """Estimate the background from low quantiles, which interference hardly changes; see ``docs/flagging.md``.

        Parameters
        ----------
        view
            The block.
        backend
            Threads over channels, or a GPU.
        threshold_scale
            Factors on values that are compared with thresholds.

        Returns
        -------
        Background
            The background.
        """
        channels = view.flags.shape[1]
        step = int(np.clip(len(view.power) // _MIN_QUANTILE_TIMES, 1, 4))
        found = backend.zeros((2, channels), np.float64), backend.zeros((2, channels), np.int64)
        kernel, fractions = backend.kernel(channel_quantiles), backend.to_device(_QUANTILES)

        def run(start: int, stop: int) -> None:
            kernel(view.cells, step, fractions, *found, start, stop)

        backend.parallel_for(channels, run, align=LANES, ranges_per_thread=8)
        quantiles, count = map(backend.to_host, found)
        spectra = view.spectra * view.n_pols
        measured = (quantiles[0] - quantiles[1]) / _QUANTILE_SPACING_SIGMA
        if spectra:
            centre, sigma = _contaminated_stats(quantiles, count[0], spectra, threshold_scale)
            expected = centre / np.sqrt(spectra)
            usual = centre > 0
            ratio = np.median(measured[usual] / expected[usual]) if usual.any() else 0.0
            if threshold_scale.power * ratio > _MAX_SCATTER_RATIO:
                centre = quantiles[0] / gamma_quantile(spectra, float(_QUANTILES[0]))
                sigma = measured
        else:
            centre, sigma = _gamma_stats(quantiles[0], measured)
            coarse = count[1] > _MAX_TIED_FRACTION * np.maximum(count[0], 1)
            if coarse.any():
                some = backend.to_host(view.power[::step]), backend.to_host(view.flags[::step])
                centre[coarse], sigma[coarse] = _sample_stats(some[0][:, coarse, : view.n_pols], some[1][:, coarse])
        live = (count[0] >= MIN_TIMES) & (measured > 0)
        return cls(centre, np.where(live, sigma, 0.0), step * int(count[0].max(initial=0)))


def _gamma_stats(
    level: NDArray[np.float64], scatter: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and sigma of cells from their 30 % quantile and the scatter below it.

    Power is skewed: below its mean it scatters less than above. The difference follows from scatter over level, if the
    level has no offset. With an offset, cells seem to hold more voltages; at worst the result is that of the normal
    distribution.
    """
    high, low = np.array(
        [[gamma_quantile(number, quantile) for number in _VOLTAGE_COUNTS.tolist()] for quantile in _QUANTILES.tolist()]
    )
    ratio = (high - low) / high / _QUANTILE_SPACING_SIGMA
    here = np.divide(scatter, level, out=np.zeros_like(level), where=level > 0)
    centre = level / np.interp(here, ratio[::-1], high[::-1])
    sigma = centre * np.interp(here, ratio[::-1], 1 / np.sqrt(_VOLTAGE_COUNTS[::-1]))
    skewed = here > ratio[-1]
    return np.where(skewed, centre, level - ndtri(_QUANTILES[0]) * scatter), np.where(skewed, sigma, scatter)


def _contaminated_stats(
    quantiles: NDArray[np.float64], count: NDArray[np.int64], spectra: int, threshold_scale: ThresholdScale
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of the noise of channels with interference in a part of the times.

    Where a fraction f of the times has interference, the p quantile of all times is the p / (1 - f) quantile of the
    noise; f follows from two quantiles. If the scatter exceeds that of noise by less than 0.2, or than chance allows, f
    is taken to be 0.
    """
    high, low = (np.array([gamma_quantile(spectra, float(p / (1 - f))) for f in _DUTY_CYCLES]) for p in _QUANTILES)
    found = 1 - quantiles[1] / np.where(quantiles[0] > 0, quantiles[0], 1.0)
    wider = np.maximum(_MAX_SCATTER_RATIO, 1 + _CHANCE_SCATTER / np.sqrt(np.maximum(count, 1)))
    often = threshold_scale.power * found > wider * (1 - low[0] / high[0])
    centre = np.where(often, quantiles[1] / np.interp(found, 1 - low / high, low), quantiles[0] / high[0])
    return centre, centre / np.sqrt(spectra)


def _sample_stats(
    power: NDArray[np.float32], flags: NDArray[np.uint16]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of the used cells, for data of one or two bits."""
    used = flags == 0
    value = power.sum(axis=2, dtype=np.float64)
    count = np.maximum(used.sum(axis=0), 1)
    mean = (value * used).sum(axis=0) / count
    return mean, np.sqrt(((value - mean) ** 2 * used).sum(axis=0) / count)
