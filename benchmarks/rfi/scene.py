"""A scene: every bin the mean of simulated complex voltages, so that its kurtosis is physical."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin

from benchmarks.rfi.events import EVENT, KINDS, NOISE, PAIR, TONE, Grid

TRUTH_INR = 0.1
"""Mean interference-to-noise ratio of a bin from which on it counts as interference, -10 dB."""

_RESPONSE_STEP = 1 / 64
_RESPONSE_REACH = 6.0  # channels: beyond, leakage of the strongest tone is far below the noise


@dataclass(frozen=True)
class Scene:
    """Detected bins and what is in them; all arrays ``[time, channel]``."""

    grid: Grid
    power: NDArray[np.float32]
    moment4: NDArray[np.float32]
    inr: NDArray[np.float32]
    kind: NDArray[np.int8]
    signal: NDArray[np.float32]

    @property
    def truth(self) -> NDArray[np.bool_]:
        return np.asarray(self.inr > TRUTH_INR)


def response() -> NDArray[np.float32]:
    """Amplitude of a tone in a channel of a 4-tap Hamming filterbank, each 1/64 of a channel away."""
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
        Of the voltages; each channel has a stream of its own.
    events
        Interference, :data:`EVENT`.
    signal
        float32 ``[time, channel]``: power of the sky in excess of the noise, constant over a bin.
    bits
        Voltages are rounded and clipped to so many bits a component, with an rms of a third of the range (8 bit: of an
        eighth); 0 leaves them as they are.
    bandpass
        float64 ``[channel]``: mean power of the noise.
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
        column = [np.zeros(grid.times, np.float32) for _ in range(4)]
        label = np.full(grid.times, -1, np.int8)
        _channel(
            c, events[near], table, grid.accumulated, noise, other, np.ascontiguousarray(sky[:, c]), rms,
            2 ** (bits - 1) - 1 if bits else 0, random.uniform(0, 1), column[0], column[1], column[2], column[3], label,
        )  # fmt: skip
        power[:, c], moment4[:, c], inr[:, c], strongest[:, c] = column
        power[:, c] *= gain[c]
        moment4[:, c] *= gain[c] ** 2
        kind[:, c] = label

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(grid.channels)))
    return Scene(grid, power, moment4, inr, kind, sky)


@numba.njit(nogil=True, cache=True)
def _channel(  # noqa: PLR0913 - every array that the loop over a channel reads and writes
    c: int, events: Any, table: Any, accumulated: int, noise: Any, other: Any, sky: Any, rms: float, top: int,
    phase: float, power: Any, moment4: Any, inr: Any, strongest: Any, kind: Any,
) -> None:  # fmt: skip
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
                # Shoulders of -35 dB over three channels, as real transmitters have.
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
                    # 3.5 µs wide at half maximum and 12 µs apart, in voltages; a channel's filter is about as long.
                    width, apart, middle = 1.0, 4.6875, 3.0
                    x = n - event["start"] - middle
                    a *= np.exp(-0.5 * (x / width) ** 2) + np.exp(-0.5 * ((x - apart) / width) ** 2)
                    # A pulse is wider than a channel: neighbours see it too.
                    a *= np.float32(1.0)
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


__all__ = ["KINDS", "NOISE", "PAIR", "TONE", "TRUTH_INR", "Scene", "make_scene", "response"]
