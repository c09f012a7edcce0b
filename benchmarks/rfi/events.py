"""Seven kinds of interference, drawn as lists of events in time and frequency.

Frequencies are in channels (float, the centre of channel c is c), times in voltages of a channel, ``1 / channel width``
apart. INR is the mean interference-to-noise power ratio of a bin that the event fills, in dB.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = ("carrier", "intermittent", "impulse", "chirp", "hopping", "dme", "ofdm")

TONE, NOISE, PAIR = 0, 1, 2
EVENT = np.dtype(
    [
        ("kind", "i4"),  # index into KINDS
        ("shape", "i4"),  # TONE: sinusoid; NOISE: Gaussian over [low, high]; PAIR: two Gaussian pulses of a carrier
        ("start", "i8"),  # first voltage
        ("stop", "i8"),  # one past the last
        ("low", "f8"),  # channels: frequency of a tone at its start, or lower edge
        ("high", "f8"),  # frequency of a tone at its end, or upper edge
        ("power", "f8"),  # mean |v|² relative to the noise while it is on (PAIR: at the peak of a pulse)
    ]
)


@dataclass(frozen=True, slots=True)
class Grid:
    """Bins of a scene: ``times × channels``, each the mean of ``accumulated`` voltages."""

    times: int
    channels: int
    accumulated: int = 96
    low_mhz: float = 1200.0
    high_mhz: float = 1600.0

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """Centres of the channels, Hz, ascending."""
        width = (self.high_mhz - self.low_mhz) / self.channels
        return (self.low_mhz + width * (np.arange(self.channels) + 0.5)) * 1e6

    @property
    def sample_time(self) -> float:
        """Duration of a bin, s."""
        return self.accumulated * self.channels / (self.high_mhz - self.low_mhz) / 1e6

    @property
    def voltages(self) -> int:
        """Voltages of a channel."""
        return self.times * self.accumulated


Draw = Callable[[Grid, np.random.Generator, float], list[tuple[float, ...]]]


def draw_events(
    grid: Grid, seed: int, fraction: float, inr_db: tuple[float, float] = (-10.0, 25.0)
) -> NDArray[np.void]:
    """Draw events of all kinds.

    Parameters
    ----------
    grid
        Bins of the scene.
    seed
        Seed of the random numbers.
    fraction
        Approximate fraction of the bins that all events together cover.
    inr_db
        Range of the INR, dB.

    Returns
    -------
    ndarray
        :data:`EVENT` ``[event]``.
    """
    random = np.random.default_rng(seed)
    events: list[tuple[float, ...]] = []
    for kind, (make_events, fraction_of_kind) in enumerate(_EVENT_MAKERS):
        wanted = fraction * fraction_of_kind * grid.times * grid.channels
        covered = 0.0
        while covered < wanted:
            power = 10 ** (random.uniform(*inr_db) / 10)
            new, bins = make_events(grid, random, power)
            events += [(kind, *event) for event in new]
            covered += bins
    return np.array(events, EVENT)


def _log(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _carrier(grid, random, power):
    f = random.uniform(0, grid.channels - 1)
    return [(TONE, 0, grid.voltages, f, f, power)], grid.times


def _intermittent(grid, random, power):
    f = random.uniform(0, grid.channels - 1)
    on, off = _log(random, 5, 300), _log(random, 20, 600)
    events, at, bins = [], random.uniform(-on, off), 0.0
    while at < grid.times:
        length = on * random.uniform(0.7, 1.3)
        begin, end = max(at, 0.0), min(at + length, grid.times)
        if end > begin:
            events.append((TONE, begin * grid.accumulated, end * grid.accumulated, f, f, power))
            bins += end - begin
        at += length + off * random.uniform(0.5, 1.5)
    return events, bins


def _impulse(grid, random, power):
    length = _log(random, 0.05, 2.0) * grid.accumulated
    start = random.uniform(0, grid.voltages - length)
    width = random.uniform(0.5, 1.0) * grid.channels
    low = random.uniform(-0.5, grid.channels - width - 0.5)
    # An impulse shorter than a bin is stronger, since INR is the mean over the bin.
    strength = power * max(1.0, grid.accumulated / length)
    return [(NOISE, start, start + length, low, low + width, strength)], width * max(1.0, length / grid.accumulated)


def _chirp(grid, random, power):
    bins, span = _log(random, 20, 1000), random.uniform(5, 150)
    start, low = random.uniform(0, grid.times - bins), random.uniform(0, grid.channels - span)
    ends = (low, low + span) if random.random() < 0.5 else (low + span, low)
    per_channel = min(1.0, bins / span)
    event = (TONE, start * grid.accumulated, (start + bins) * grid.accumulated, *ends, power / per_channel)
    return [event], max(bins, span)


def _hopping(grid, random, power):
    base, width = random.uniform(0, grid.channels - 65), 64
    dwell, count = _log(random, 2, 20), 40
    start = random.uniform(0, max(1.0, grid.times - dwell * count))
    events = []
    for hop in range(count):
        f = base + random.integers(width) + random.uniform(-0.3, 0.3)
        begin = (start + hop * dwell) * grid.accumulated
        events.append((TONE, begin, min(begin + 0.9 * dwell * grid.accumulated, grid.voltages), f, f, power))
    return events, 0.9 * dwell * count


def _dme(grid, random, power):
    width_s = grid.sample_time / grid.accumulated
    f = random.uniform(2, grid.channels - 3)
    seconds, rate = _log(random, 0.01, 0.2), random.uniform(500, 2700)
    begin = random.uniform(0, max(1e-9, grid.times * grid.sample_time - seconds))
    count = random.poisson(rate * seconds)
    energy = 2 * 3.5e-6 * 0.75 / width_s / grid.accumulated  # of a pair, in bins of its peak power
    events = []
    for at in np.sort(random.uniform(begin, begin + seconds, count)) / width_s:
        events.append((PAIR, at, at + 30e-6 / width_s, f, f, power / energy))
    return events, min(rate * grid.sample_time, 1.0) * seconds / grid.sample_time * 3.0


def _ofdm(grid, random, power):
    width, bins = random.uniform(10, 50), _log(random, 20, 400)
    start, low = random.uniform(0, grid.times - bins), random.uniform(0, grid.channels - width)
    on = (start * grid.accumulated, (start + bins) * grid.accumulated)
    return [(NOISE, *on, low, low + width, power)], width * bins


_EVENT_MAKERS = (
    (_carrier, 0.2),
    (_intermittent, 0.2),
    (_impulse, 0.1),
    (_chirp, 0.1),
    (_hopping, 0.08),
    (_dme, 0.08),
    (_ofdm, 0.24),
)
