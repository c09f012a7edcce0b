"""Simulated scenes: each bin is the mean of complex voltages, so that its kurtosis is physical."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin

from benchmarks.rfi.events import EVENT, Grid

TRUTH_INR = 0.1
"""Mean interference-to-noise ratio above which a bin counts as interference, -10 dB."""

_RESPONSE_STEP = 1 / 64
_RESPONSE_REACH = 6.0  # channels: beyond, leakage of the strongest tone is far below the noise


@dataclass(frozen=True)
class Scene:
    """Detected bins and their content; all arrays are ``[time, channel]``."""

    grid: Grid
    power: NDArray[np.float32]
    moment4: NDArray[np.float32]
    inr: NDArray[np.float32]
    kind: NDArray[np.int8]
    signal: NDArray[np.float32]

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Bins with interference."""
        return np.asarray(self.inr > TRUTH_INR)


def response() -> NDArray[np.float32]:
    """Return the amplitude of a tone in a channel of a 4-tap Hamming filterbank, in steps of 1/64 of a channel."""
    step, taps = 64, 4
    taper = firwin(step * taps, 1 / step, window="hamming", fs=2)
    offsets = np.arange(0, _RESPONSE_REACH, _RESPONSE_STEP)
    n = np.arange(step * taps)
    return np.abs(np.exp(2j * np.pi * np.outer(offsets, n) / step) @ taper).astype(np.float32)


def make_scene(
    grid: Grid,
    seed: int,
    events: NDArray[np.void] | None = None,
    signal: NDArray[np.float32] | None = None,
    bits: int = 0,
    bandpass: NDArray[np.float64] | None = None,
    threads: int = 2,
) -> Scene:
    """Simulate a scene.

    Parameters
    ----------
    grid
        Bins.
    seed
        Seed of the voltages; each channel has its own random stream.
    events
        Interference, :data:`EVENT`.
    signal
        float32 ``[time, channel]``: power of signals above the noise, constant over a bin.
    bits
        Bits of a component to which voltages are rounded and clipped, with an rms of a third of the range (8 bits: of
        an eighth); 0 for float.
    bandpass
        float64 ``[channel]``: mean power of the noise.
    threads
        Threads over channels.

    Returns
    -------
    Scene
        The scene.
    """
    events = np.zeros(0, EVENT) if events is None else events
    shape = grid.times, grid.channels
    sky = np.zeros(shape, np.float32) if signal is None else signal
    gain = np.ones(grid.channels) if bandpass is None else bandpass
    power, moment4, inr = np.empty(shape, np.float32), np.empty(shape, np.float32), np.zeros(shape, np.float32)
    kind = np.full(shape, -1, np.int8)
    strongest = np.zeros(shape, np.float32)
    low, high = np.minimum(events["low"], events["high"]), np.maximum(events["low"], events["high"])
    table = response()
    seeds = np.random.SeedSequence(seed).spawn(grid.channels)
    rms = {0: 0.0, 4: 7 / 3, 8: 127 / 8}[bits]

    def run(c: int) -> None:
        random = np.random.default_rng(seeds[c])
        near = np.flatnonzero((low <= c + _RESPONSE_REACH) & (high >= c - _RESPONSE_REACH))
        noise = random.standard_normal((grid.voltages, 2), np.float32)
        other = random.standard_normal((grid.voltages if len(near) else 1, 2), np.float32)
        given = _Voltages(noise, other, np.ascontiguousarray(sky[:, c]), grid.accumulated, random.uniform(0, 1))
        label = np.full(grid.times, -1, np.int8)
        column = _Column(*(np.zeros(grid.times, np.float32) for _ in range(4)), label)
        _simulate_channel(c, events[near], table, given, rms, 2 ** (bits - 1) - 1 if bits else 0, column)
        power[:, c], moment4[:, c], inr[:, c], strongest[:, c], kind[:, c] = column
        power[:, c] *= gain[c]
        moment4[:, c] *= gain[c] ** 2

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(grid.channels)))
    return Scene(grid, power, moment4, inr, kind, sky)


class _Voltages(NamedTuple):
    """Random voltages of one channel.

    Parameters
    ----------
    noise, other
        float32 ``[voltage, 2]``: of the noise, and of noise-like interference.
    sky
        float32 ``[time]``: power of signals above the noise.
    accumulated
        Voltages in a bin.
    phase
        Phase of tones, turns.
    """

    noise: Any
    other: Any
    sky: Any
    accumulated: int
    phase: float


class _Column(NamedTuple):
    """Bins of one channel, ``[time]``, as in :class:`Scene`; ``strongest`` is the INR of the strongest event."""

    power: Any
    moment4: Any
    inr: Any
    strongest: Any
    kind: Any


@numba.njit(nogil=True, cache=True)
def _simulate_channel(c: int, events: Any, table: Any, given: _Voltages, rms: float, top: int, out: _Column) -> None:
    noise, other, sky, accumulated, phase = given
    power, moment4, inr, strongest, kind = out
    times = len(sky)
    voltages = len(noise)
    extra = np.zeros((voltages if len(events) else 0, 2), np.float32)
    own = np.zeros(times, np.float32)
    for event in events:
        first, last = max(0, int(event["start"])), min(voltages, int(event["stop"]))
        own[first // accumulated : (last - 1) // accumulated + 1] = 0.0
        amplitude = np.sqrt(event["power"])
        for n in range(first, last):
            if event["shape"] == 1:
                edge = min(c - event["low"], event["high"] - c)
                # Real transmitters have shoulders, here of -35 dB over three channels.
                a = amplitude if edge >= 0 else (amplitude * 0.018 if edge > -3 else 0.0)
                a *= np.float32(0.70710678)
                re, im = a * other[n, 0], a * other[n, 1]
            else:
                part = (n - event["start"]) / max(1.0, event["stop"] - event["start"])
                f = event["low"] + part * (event["high"] - event["low"])
                at = int(abs(f - c) * 64)
                if at >= len(table):
                    continue
                a = amplitude * table[at]
                if event["shape"] == 2:
                    # In voltages: 3.5 µs wide at half maximum, 12 µs apart; about as long as a channel's filter.
                    width, apart, middle = 1.0, 4.6875, 3.0
                    x = n - event["start"] - middle
                    a *= np.exp(-0.5 * (x / width) ** 2) + np.exp(-0.5 * ((x - apart) / width) ** 2)
                turn = 2 * np.pi * (phase + n * (event["low"] - c) + (event["high"] - event["low"]) * part * n / 2)
                re, im = a * np.cos(turn), a * np.sin(turn)
            extra[n, 0] += re
            extra[n, 1] += im
            own[n // accumulated] += re * re + im * im
        for t in range(first // accumulated, (last - 1) // accumulated + 1):
            level = own[t] / accumulated
            inr[t] += level
            if level > strongest[t]:
                strongest[t] = level
                if level > 0.05:
                    kind[t] = event["kind"]
    for t in range(times):
        s2, s4 = 0.0, 0.0
        scale = np.float32(np.sqrt(0.5 * (1.0 + sky[t])))
        for n in range(t * accumulated, (t + 1) * accumulated):
            re, im = scale * noise[n, 0], scale * noise[n, 1]
            if len(extra):
                re += extra[n, 0]
                im += extra[n, 1]
            if top:
                unit = rms * np.float32(1.41421356)
                re = min(max(np.rint(re * unit), -top), top) / unit
                im = min(max(np.rint(im * unit), -top), top) / unit
            square = re * re + im * im
            s2 += square
            s4 += square * square
        power[t], moment4[t] = s2 / accumulated, s4 / accumulated
