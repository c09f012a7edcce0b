"""Which flags of a card are in doubt: the processor, which rounds otherwise, may have set them otherwise.

A card's cells are flagged twice more, once with all that is compared with a threshold a little larger, once a little
smaller. What does not change its flags is the same on the processor. What does is counted: decisions within a guard
band about their thresholds, and all that their flags bring with them. By how much things are larger and smaller:

- Distances from the background, by 1e-5: sums of up to 64 of them in another order differ by 3e-6 of their limit. If
  there are M voltages in a cell, by 3.6e-5 (1 + √(M hands)) more: power differs by 3e-6 after another transform, and
  its background by up to three times that, where it is extrapolated because interference is on for most of the time;
  both are √(M hands) times as much in standard deviations, of which the lowest threshold, the edge of a long run, is
  a third.
- Kurtosis, by 1e-5 and 5.4e-5 (1 + √M) more: fourth moments and squares of power differ by 6e-6, in two hands.
- What tells a whole channel from others, by 1e-4: moments are of groups that are summed in single precision, to 1e-5.

What is a count (of parts of the band, of channels on a track) has no band of its own, but that of what is counted.
"""

from dataclasses import dataclass

SUM_TOLERANCE = 1e-5
"""Part of its threshold by which a sum of distances may differ that are themselves the same."""

TRANSFORM_TOLERANCE = 3e-6
"""Part of its power by which a cell may differ after another transform; twice that for its fourth moment."""

LOWEST_THRESHOLD_SIGMA = 1 / 3
"""Standard deviations of the lowest threshold: where a run ends that is as long and as faint as can be."""

CHANNEL_TOLERANCE = 1e-4
"""Part of its threshold by which what is measured of a whole channel may differ."""


@dataclass(frozen=True, slots=True)
class ThresholdScale:
    """Which way decisions lean: factors on what is compared with thresholds.

    Parameters
    ----------
    power, kurtosis
        On the distances of cells from the background, and from the kurtosis of noise.
    channel
        On what tells a channel from its neighbours.
    """

    power: float = 1.0
    kurtosis: float = 1.0
    channel: float = 1.0


NOMINAL = ThresholdScale()


def threshold_scales(spectra: int, n_pols: int, voltage: bool) -> tuple[ThresholdScale, ThresholdScale]:
    """Return how decisions lean at either end of the guard band.

    Parameters
    ----------
    spectra
        Voltages in most cells, 0 if not known.
    n_pols
        Products that add up to the intensity.
    voltage
        Whether cells come from voltages; otherwise they are the same numbers on the processor.
    """
    power = SUM_TOLERANCE + voltage * 4 * TRANSFORM_TOLERANCE * (1 + (spectra * n_pols) ** 0.5) / LOWEST_THRESHOLD_SIGMA
    kurtosis = SUM_TOLERANCE + voltage * 6 * TRANSFORM_TOLERANCE * (1 + spectra**0.5) / LOWEST_THRESHOLD_SIGMA
    low, high = (
        ThresholdScale(1 + side * power, 1 + side * kurtosis, 1 + side * CHANNEL_TOLERANCE) for side in (-1, 1)
    )
    return low, high
