"""Thresholds of power and kurtosis that follow from false-flag rates, with the exact statistics of noise."""

from fractions import Fraction
from functools import cache
from math import comb, factorial, prod

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainccinv, gammaincinv, ndtr, ndtri


@cache
def kurtosis_limits(spectra: int, tail: float, average: int = 1) -> tuple[float, float]:
    """Return the bounds that the spectral kurtosis of Gaussian noise exceeds with probability ``tail`` on either side.

    The first four moments of the estimator are exact: powers of noise are exponential, and their fractions of the sum
    do not depend on the sum. As in Nita & Gary (2010, MNRAS 406, L60), the distribution is that of Pearson's system
    with these moments; here, Pearson's differential equation is integrated for any type.

    Parameters
    ----------
    spectra
        Spectra accumulated, at least 3.
    tail
        Probability of either tail; bounds are infinite where it is too small to be computed.
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
        # With fewer than 24 spectra, Pearson's curve ends above 0, the end of the estimator's range. A lognormal of the
        # same variance ends at 0 and follows the lower tail better.
        width = np.log1p(variance)
        lower = min(lower, float(np.exp(-width / 2 + ndtri(tail) * np.sqrt(width))))
    return lower, upper


def _cumulative_trapezoid(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the integral up to each x by trapezoids; importing :mod:`scipy.integrate` takes half a second."""
    return np.concatenate([[0.0], np.cumsum(np.diff(x) * (y[1:] + y[:-1]) / 2)])


def _kurtosis_moments(spectra: int) -> tuple[float, float, float]:
    """Return variance, skewness and kurtosis (3 for a Gaussian) of the estimator, whose mean is 1."""
    # The moment series of the sum of squared exponentials is that of one, (2j)!/j! x^j, to the power of M.
    one = [Fraction(factorial(2 * j), factorial(j)) for j in range(5)]
    many = [Fraction(1)]
    for n in range(1, 5):
        many.append(sum(((k * spectra - n + k) * one[k] * many[n - k] for k in range(1, n + 1)), Fraction(0)) / n)
    # Divide by the moments of the squared sum, which is independent of the ratio.
    ratio = [factorial(n) * many[n] / prod(range(spectra, spectra + 2 * n)) for n in range(5)]
    mean = ratio[1]
    central = [sum((comb(n, k) * ratio[k] * (-mean) ** (n - k) for k in range(n + 1)), Fraction(0)) for n in range(5)]
    gain = Fraction(spectra * (spectra + 1), spectra - 1)
    variance = float(central[2] * gain**2)
    return variance, float(central[3]) / float(central[2]) ** 1.5, float(central[4] / central[2] ** 2)


@cache
def power_limit(spectra: int, window: int, sigma: float) -> float:
    """Return the limit of the sum over a run of powers at the false-flag rate of a Gaussian ``sigma``.

    The sum has a gamma distribution.

    Parameters
    ----------
    spectra
        Powers in a cell, of all polarisations together.
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
    """Return a quantile of the power of a cell, which has a gamma distribution.

    Parameters
    ----------
    spectra
        Powers in the cell.
    fraction
        Fraction of cells below the quantile.

    Returns
    -------
    float
        The quantile, relative to the mean.
    """
    return float(gammaincinv(spectra, fraction)) / spectra


@cache
def kurtosis_sigma(spectra: int) -> float:
    """Return the standard deviation of the spectral kurtosis of noise (Nita & Gary 2010, MNRAS 406, L60).

    Parameters
    ----------
    spectra
        Powers in a cell.

    Returns
    -------
    float
        The standard deviation.
    """
    return float(np.sqrt(_kurtosis_moments(spectra)[0]))
