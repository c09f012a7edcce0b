"""Thresholds: from false-flag rates to bounds, exactly for the statistics that noise has."""

from fractions import Fraction
from functools import cache
from math import comb, factorial, prod

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainccinv, gammaincinv, ndtr, ndtri


@cache
def kurtosis_limits(spectra: int, tail: float, average: int = 1) -> tuple[float, float]:
    """Find bounds that the spectral kurtosis of Gaussian noise leaves, on either side, with probability ``tail``.

    The estimator's first four moments are exact: powers of noise are exponential and their share in the sum does not
    depend on the sum. As Nita & Gary (2010, MNRAS 406, L60) do, the distribution is taken to be the one of Pearson's
    system with these moments, here integrated from Pearson's differential equation, whatever its type.

    Parameters
    ----------
    spectra
        Spectra accumulated, at least 3.
    tail
        Probability of either tail; infinite bounds where it is too small to be computed.
    average
        Estimates that are averaged.

    Returns
    -------
    tuple
        Lower and upper bound.
    """
    variance, skewness, kurt = _kurtosis_moments(spectra)
    variance, skewness, kurt = variance / average, skewness / average**0.5, 3 + (kurt - 3) / average
    if tail < 1e-250:
        return -np.inf, np.inf
    beta1 = skewness**2
    whole = 10 * kurt - 12 * beta1 - 18
    b0, b1, b2 = 4 * kurt - 3 * beta1, skewness * (kurt + 3), 2 * kurt - 3 * beta1 - 6
    x = np.sinh(np.linspace(-6, 12, 60001))
    below = b0 + b1 * x + b2 * x**2
    ends = np.flatnonzero(below <= 1e-9 * b0)
    origin = int(np.argmin(np.abs(x)))
    first = int(ends[ends < origin].max(initial=-1)) + 1
    last = int(ends[ends > origin].min(initial=len(x)))
    x, below = x[first:last], below[first:last]
    slope = -(whole * x + b1) / below
    log_density = _cumulative_trapezoid(slope, x)
    density = np.exp(log_density - log_density.max())
    left = _cumulative_trapezoid(density, x)
    right = -_cumulative_trapezoid(density[::-1], x[::-1])[::-1]
    low = np.interp(tail * left[-1], left, x)
    high = -np.interp(tail * left[-1], right[::-1], -x[::-1])
    lower, upper = float(1 + low * np.sqrt(variance)), float(1 + high * np.sqrt(variance))
    if first > 0 and average == 1:
        # Below 24 spectra Pearson's curve ends above 0, where the estimator's range ends; a lognormal of the same
        # variance ends there and follows its lower tail better.
        width = np.log1p(variance)
        lower = min(lower, float(np.exp(-width / 2 + ndtri(tail) * np.sqrt(width))))
    return lower, upper


def _cumulative_trapezoid(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Trapezoids up to every x; :mod:`scipy.integrate` has it, and takes half a second of a start to import."""
    return np.concatenate([[0.0], np.cumsum(np.diff(x) * (y[1:] + y[:-1]) / 2)])


def _kurtosis_moments(spectra: int) -> tuple[float, float, float]:
    """Variance, skewness and kurtosis (3 for a Gaussian) of the estimator, whose mean is 1."""
    # Sum of squared exponentials: its moment series is that of one, (2j)!/j! x^j, to the power of M.
    one = [Fraction(factorial(2 * j), factorial(j)) for j in range(5)]
    many = [Fraction(1)]
    for n in range(1, 5):
        many.append(sum(((k * spectra - n + k) * one[k] * many[n - k] for k in range(1, n + 1)), Fraction(0)) / n)
    # Relative to the squared sum, which is independent of it: divide by that one's moments.
    share = [factorial(n) * many[n] / prod(range(spectra, spectra + 2 * n)) for n in range(5)]
    mean = share[1]
    central = [sum((comb(n, k) * share[k] * (-mean) ** (n - k) for k in range(n + 1)), Fraction(0)) for n in range(5)]
    gain = Fraction(spectra * (spectra + 1), spectra - 1)
    variance = float(central[2] * gain**2)
    return variance, float(central[3]) / float(central[2]) ** 1.5, float(central[4] / central[2] ** 2)


@cache
def power_limit(spectra: int, window: int, sigma: float) -> float:
    """Find what the sum over a run of powers exceeds at the false-flag rate of a Gaussian ``sigma``.

    Such a sum is gamma-distributed.

    Parameters
    ----------
    spectra
        Powers in a cell, of all hands together.
    window
        Cells in the run.
    sigma
        Threshold.

    Returns
    -------
    float
        Sum of the cells' distances from their mean, in standard deviations of a cell.
    """
    shape = spectra * window
    excess = float(gammainccinv(shape, ndtr(-sigma))) / shape - 1.0
    return excess * window * float(np.sqrt(spectra))


@cache
def gamma_quantile(spectra: int, fraction: float) -> float:
    """Return the quantile of a cell of ``spectra`` powers, relative to its mean."""
    return float(gammaincinv(spectra, fraction)) / spectra


@cache
def kurtosis_sigma(spectra: int) -> float:
    """Return the standard deviation of the spectral kurtosis of ``spectra`` powers of noise."""
    return float(np.sqrt(_kurtosis_moments(spectra)[0]))
