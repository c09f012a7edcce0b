"""Tolerance of flags to rounding: the flags of a GPU that may differ on the CPU, which rounds differently.

Cells that a GPU has flagged are flagged twice more, with all values that are compared with thresholds scaled up and
scaled down. A flag that does not change is the same on the CPU. Flags that change are counted: decisions within a
tolerance of their thresholds, and all their consequences. The scales are:

- Distances from the background: 1 ± 1e-5, since sums of up to 64 of them in another order differ by 3e-6 of their
  limit. With M voltages in a cell, 3.6e-5 (1 + √(M polarisations)) more: power differs by 3e-6 after another transform,
  and its background by up to three times that, where it is extrapolated because interference is on for most of the
  time. In standard deviations both are √(M polarisations) times as much, and the lowest threshold, at the edge of a
  long run, is a third of a standard deviation.
- Kurtosis: 1 ± 1e-5, and 5.4e-5 (1 + √M) more, since fourth moments and squares of power differ by 6e-6, in two
  polarisations.
- Statistics of whole channels: 1 ± 1e-4, since moments are of groups that are summed in single precision, to 1e-5.

Counts (of parts of the band, of channels on a track) need no tolerance beyond that of the values that are counted.
"""

from dataclasses import dataclass

SUM_TOLERANCE = 1e-5
"""Relative difference of a sum of equal distances, in units of its threshold."""

TRANSFORM_TOLERANCE = 3e-6
"""Relative difference of the power of a cell after another transform; that of its fourth moment is twice as large."""

LOWEST_THRESHOLD_SIGMA = 1 / 3
"""Lowest threshold, in standard deviations: the end of the longest and faintest run."""

CHANNEL_TOLERANCE = 1e-4
"""Relative difference of the statistics of a whole channel, in units of their thresholds."""


@dataclass(frozen=True, slots=True)
class ThresholdScale:
    """Factors on values that are compared with thresholds.

    Parameters
    ----------
    power, kurtosis
        On the distances of cells from the background, and from the kurtosis of noise.
    channel
        On the differences of a channel from its neighbours.
    """

    power: float = 1.0
    kurtosis: float = 1.0
    channel: float = 1.0


NOMINAL = ThresholdScale()


def threshold_scales(spectra: int, n_pols: int, voltage: bool) -> tuple[ThresholdScale, ThresholdScale]:
    """Return the factors at either end of the tolerance.

    Parameters
    ----------
    spectra
        Voltages in most cells, 0 if not known.
    n_pols
        Products that add up to the intensity.
    voltage
        Whether cells come from voltages; otherwise cells are the same numbers on the CPU.

    Returns
    -------
    tuple
        The lower and the higher factors.
    """
    power = SUM_TOLERANCE + voltage * 4 * TRANSFORM_TOLERANCE * (1 + (spectra * n_pols) ** 0.5) / LOWEST_THRESHOLD_SIGMA
    kurtosis = SUM_TOLERANCE + voltage * 6 * TRANSFORM_TOLERANCE * (1 + spectra**0.5) / LOWEST_THRESHOLD_SIGMA
    low, high = (
        ThresholdScale(1 + side * power, 1 + side * kurtosis, 1 + side * CHANNEL_TOLERANCE) for side in (-1, 1)
    )
    return low, high
