"""One block as flaggers see it, and what the intensity of its channels is without interference."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from edgefilter.compute.threads import ThreadBackend
from edgefilter.stages.rfi.gpu_tolerance import ThresholdScale
from edgefilter.stages.rfi.thresholds import gamma_quantile
from edgefilter_kernels.rfi.intensity import LANES
from edgefilter_kernels.rfi.quantile import channel_quantiles

MIN_TIMES = 16
"""Fewer say nothing about a channel."""
QUANTILE = 0.3
"""Part of a channel's cells that lie below what tells its background."""

_MIN_QUANTILE_TIMES = 1024  # times that are enough for a quantile: 4 % of sigma
_QUANTILES = np.array([QUANTILE, 0.05])  # of the background; with it, of its scatter: interference lies above both
_QUANTILE_SPACING_SIGMA = float(ndtri(QUANTILE) - ndtri(0.05))
_MAX_SCATTER_RATIO = 1.2  # scatter over that of the radiometer equation from which on it is more than noise
_CHANCE_SCATTER = 8.0  # what n times of noise may add to that ratio, times √n: four standard deviations
_VOLTAGE_COUNTS = 8 * 2 ** np.arange(15)  # that a cell may be of; for more, the distribution is normal
_DUTY_CYCLES = np.linspace(0.0, 0.68, 18)  # of the times that have interference: 0.7 leaves no quantile to see it by
_MAX_TIED_FRACTION = 0.2  # of the times that may share a value: more, and steps are too coarse for quantiles


@dataclass(frozen=True, slots=True)
class BlockView:
    r"""One block of cells; arrays are where the kernels take them, but for ``accumulated``.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``: the first ``n_pols`` products are mean \|v\|² and add up.
    moment4
        float32 ``[time, channel, hand]``: mean \|v\|⁴; of no hand if it is not known.
    accumulated
        int32 ``[time]``: voltages in a cell, 0 if not known.
    n_pols
        Products that add up to the intensity.
    flags
        uint16 ``[time, channel]``; a cell is used where it is 0.
    spectra
        Voltages of a hand in most cells, 0 if not known.
    """

    power: NDArray[np.float32]
    moment4: NDArray[np.float32]
    accumulated: NDArray[np.int32]
    n_pols: int
    flags: NDArray[np.uint16]
    spectra: int


@dataclass(frozen=True, slots=True)
class Background:
    """What the intensity of each channel is without interference.

    Parameters
    ----------
    centre, sigma
        float64 ``[channel]``: mean and standard deviation of a cell; sigma 0 where nothing is known.
    times
        Cells in use of the channel that has most: few, where a recording ends or a cut-out is replayed.
    """

    centre: NDArray[np.float64]
    sigma: NDArray[np.float64]
    times: int

    @property
    def live(self) -> NDArray[np.bool_]:
        """Channels of which something is known."""
        return self.sigma > 0

    @classmethod
    def estimate(cls, view: BlockView, backend: ThreadBackend, threshold_scale: ThresholdScale) -> "Background":
        """Find it from low quantiles, which interference hardly moves; ``docs/flagging.md`` has the reasons."""
        channels = view.flags.shape[1]
        step = int(np.clip(len(view.power) // _MIN_QUANTILE_TIMES, 1, 4))
        found = backend.zeros((2, channels), np.float64), backend.zeros((2, channels), np.int64)
        kernel, fractions = backend.kernel(channel_quantiles), backend.to_device(_QUANTILES)

        def run(start: int, stop: int) -> None:
            kernel(view.power, view.n_pols, view.flags, step, fractions, *found, start, stop)

        backend.parallel_for(channels, run, align=LANES, ranges_per_thread=8)
        quantiles, count = map(backend.to_host, found)
        spectra = view.spectra * view.n_pols
        measured = (quantiles[0] - quantiles[1]) / _QUANTILE_SPACING_SIGMA
        if spectra:
            centre, sigma = _contaminated_stats(quantiles, count[0], spectra, threshold_scale)
            expected = centre / np.sqrt(spectra)
            usual = centre > 0
            if (
                usual.any()
                and threshold_scale.power * np.median(measured[usual] / expected[usual]) > _MAX_SCATTER_RATIO
            ):
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
    """Return mean and sigma of cells of which the 30 % quantile and the scatter below it are known.

    Power is skewed: below its mean it scatters less than above. By how much follows from scatter over level, if the
    level has no offset; with one, cells seem to be of more voltages, and at worst the answer is that of the normal
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
    """Mean and standard deviation of the noise, of which a part of the times shows nothing: it lies above.

    Where a fraction f of the times has interference, the p quantile of all is the p / (1 - f) quantile of the noise;
    two of them tell f. Up to 0.2 of scatter over noise, or what few times may have, f is taken to be 0.
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
    """Mean and standard deviation over the used cells: all that data of one or two bits have."""
    used = flags == 0
    value = power.sum(axis=2, dtype=np.float64)
    count = np.maximum(used.sum(axis=0), 1)
    mean = (value * used).sum(axis=0) / count
    return mean, np.sqrt(((value - mean) ** 2 * used).sum(axis=0) / count)
