"""The scenes, by name. Each is a function of a seed and a length; its docstring says what is in it.

Powers of interference are drawn in standard deviations of a cell (a row of a channel). Seeds of the reports are not
used to choose a setting or a threshold; ``--tuning`` takes the others.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.scenes.band import Band
from benchmarks.scenes.effects import (
    Carrier,
    Chirp,
    Effect,
    GainStep,
    GainWander,
    Radar,
    RollOff,
    Satellite,
    ZeroDmBurst,
)
from benchmarks.scenes.pulses import Pulse
from benchmarks.scenes.scene import Scene
from edgefilter.core.plan import dispersion_delay

TUNING = (11, 12, 13)
"""Seeds for work on edgefilter."""

REPORTING = (7919, 7927, 7933)
"""Seeds of the reports."""

L_BAND = Band(1200.0, 1500.0, 512)
L_ROW = 0.512e-3
WIDTHS = (0.6e-3, 1e-3, 2e-3, 4e-3, 8e-3)
SNRS = (9.0, 12.0, 7.5, 10.0, 20.0, 15.0, 30.0)
_SPACING = 0.8

Random = np.random.Generator


def _log_uniform(random: Random, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def draw_pulses(
    random: Random,
    scene: Scene,
    dm: tuple[float, float] = (25.0, 600.0),
    widths: Sequence[float] = WIDTHS,
    snrs: Sequence[float] = SNRS,
    spacing: float = _SPACING,
) -> tuple[Pulse, ...]:
    """Draw pulses, one every ``spacing`` s, so that the sweep of the last ends before the scene does.

    Parameters
    ----------
    random
        Random numbers.
    scene
        Band and length.
    dm
        Range of DM, drawn uniformly, pc cm⁻³.
    widths, snrs
        Widths (s) and ideal S/N, taken in turn.
    spacing
        Time between two pulses, s; each is up to a quarter of it late.

    Returns
    -------
    tuple of Pulse
        The pulses.
    """
    last = scene.seconds - dispersion_delay(dm[1], scene.band.low, scene.band.high) - 0.3 - 3 * max(widths)
    times = np.arange(0.5 + 2 * max(widths), last, spacing)
    return tuple(
        Pulse(
            float(at + random.uniform(0, 0.25 * spacing)),
            float(random.uniform(*dm)),
            widths[number % len(widths)],
            snrs[(number + number // len(snrs)) % len(snrs)],
        )
        for number, at in enumerate(times)
    )


def _l_band(name: str, seed: int, seconds: float) -> tuple[Scene, Random]:
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    scene = Scene(name, int(random.integers(1 << 62)), L_BAND, L_ROW, seconds, widest=32 * L_ROW)
    return replace(scene, pulses=draw_pulses(random, scene)), random


def _gain(random: Random, rms: float) -> GainWander:
    periods = tuple(_log_uniform(random, 1.0, 30.0) for _ in range(8))
    return GainWander(rms, periods, tuple(float(phase) for phase in random.uniform(0, 1, 8)))


def _bursts(random: Random, scene: Scene, every: float = 0.9) -> list[Effect]:
    """Zero-DM bursts of 5 to 100 sigma of the band sum over their length, 1 to 50 ms long."""
    bursts: list[Effect] = []
    for start in np.arange(0.2, scene.seconds, every):
        length, snr = _log_uniform(random, 1e-3, 50e-3), _log_uniform(random, 5.0, 100.0)
        cells = max(1.0, length / scene.row_seconds) * scene.band.channels
        at = float(start + random.uniform(0, 0.7 * every))
        bursts.append(ZeroDmBurst(at, length, snr * scene.scatter / float(np.sqrt(cells))))
    return bursts


def _carriers(random: Random, scene: Scene, count: int = 12) -> list[Effect]:
    """Carriers of 1 to 40 sigma, on for 10 to 95 % of periods of 20 ms to 20 s; two never pause."""
    carriers: list[Effect] = []
    for number in range(count):
        period = _log_uniform(random, 0.02, 20.0)
        on = period if number < 2 else period * float(random.uniform(0.1, 0.95))
        mhz = float(random.uniform(scene.band.low + 2.0, scene.band.high - 2.0))
        width = _log_uniform(random, 0.3, 3.0) * scene.band.channel_mhz
        power = scene.scatter * _log_uniform(random, 1.0, 40.0)
        carriers.append(Carrier(mhz, width, power, period, on, float(random.uniform())))
    return carriers


def _radar(random: Random) -> list[Effect]:
    return [
        Radar(
            mhz,
            1.5,
            _log_uniform(random, 5.0, 50.0),
            1.0 / float(random.uniform(300, 800)),
            float(random.uniform(20e-6, 100e-6)),
            float(random.uniform(2.0, 5.0)),
            phase=float(random.uniform()),
        )
        for mhz in (1217.0, 1253.0, 1291.0, 1338.0)
    ]


def _chirps(random: Random, scene: Scene, every: float = 0.8) -> list[Effect]:
    chirps: list[Effect] = []
    for start in np.arange(0.3, scene.seconds, every):
        span, length = float(random.uniform(10.0, 60.0)), _log_uniform(random, 0.05, 1.0)
        low = float(random.uniform(scene.band.low, scene.band.high - span))
        ends = (low, low + span) if random.uniform() < 0.5 else (low + span, low)
        chirps.append(Chirp(float(start), length, *ends, scene.scatter * _log_uniform(random, 1.0, 20.0)))
    return chirps


def _satellites(random: Random) -> list[Effect]:
    return [
        Satellite(low, high, power, period, ramp, 1.2, float(random.uniform()))
        for low, high, power, period, ramp in (
            (1217.0, 1238.0, 0.25, 4.7, 0.3),
            (1266.0, 1290.0, 0.1, 3.1, 0.1),
            (1390.0, 1400.0, 0.5, 6.3, 0.8),
        )
    ]


def _level_steps(random: Random, scene: Scene, every: float = 2.1) -> list[Effect]:
    """Steps of 0.3 to 1 sigma in one half of the band, up and down."""
    middle = 0.5 * (scene.band.low + scene.band.high)
    halves = ((scene.band.low, middle), (middle, scene.band.high))
    steps: list[Effect] = []
    for number, start in enumerate(np.arange(0.9, scene.seconds, every)):
        change = scene.scatter * float(random.uniform(0.3, 1.0)) * (-1) ** number
        stop = float(start + random.uniform(0.3, 1.8))
        steps.append(GainStep(float(start), stop, *halves[int(random.integers(2))], change))
    return steps


def quiet(seed: int, seconds: float) -> Scene:
    """Noise and pulses."""
    return replace(_l_band("quiet", seed, seconds)[0], quiet=True)


def gain_1(seed: int, seconds: float) -> Scene:
    """The gain wanders by 1 % rms within 1 to 30 s."""
    scene, random = _l_band("gain-1", seed, seconds)
    return replace(scene, effects=(_gain(random, 0.01),))


def gain_5(seed: int, seconds: float) -> Scene:
    """The gain wanders by 5 % rms within 1 to 30 s."""
    scene, random = _l_band("gain-5", seed, seconds)
    return replace(scene, effects=(_gain(random, 0.05),))


def roll_off(seed: int, seconds: float) -> Scene:
    """The band falls to a fifth at its edges; 15 % of the channels are dead, two thirds of them side by side."""
    scene, random = _l_band("roll-off", seed, seconds)
    return replace(scene, effects=(RollOff(0.2),), dead=_dead(random), flat=False, quiet=True)


def _dead(random: Random) -> tuple[int, ...]:
    scattered = random.choice(L_BAND.channels, L_BAND.channels // 20, replace=False)
    block = 150 + np.arange(L_BAND.channels // 10)
    return tuple(int(channel) for channel in np.union1d(scattered, block))


def zero_dm(seed: int, seconds: float) -> Scene:
    """Zero-DM bursts of 5 to 100 sigma of the band sum, 1 to 50 ms long."""
    scene, random = _l_band("zero-dm", seed, seconds)
    return replace(scene, effects=tuple(_bursts(random, scene)))


def carriers(seed: int, seconds: float) -> Scene:
    """Twelve carriers, on for parts of periods that are shorter and longer than a block."""
    scene, random = _l_band("carriers", seed, seconds)
    return replace(scene, effects=tuple(_carriers(random, scene)))


def radar(seed: int, seconds: float) -> Scene:
    """Four radars with turning antennas."""
    scene, random = _l_band("radar", seed, seconds)
    return replace(scene, effects=tuple(_radar(random)))


def chirps(seed: int, seconds: float) -> Scene:
    """Tones that sweep 10 to 60 MHz within 50 ms to 1 s, up or down."""
    scene, random = _l_band("chirps", seed, seconds)
    return replace(scene, effects=tuple(_chirps(random, scene)))


def satellite(seed: int, seconds: float) -> Scene:
    """Three satellite bands that come and go."""
    scene, random = _l_band("satellite", seed, seconds)
    return replace(scene, effects=tuple(_satellites(random)))


def low_band(seed: int, seconds: float) -> Scene:
    """110 to 190 MHz, DM 5 to 25, gain wander of 0.5 %; twice as long as the others."""
    random = np.random.default_rng([seed, zlib.crc32(b"low-band")])
    scene = Scene("low-band", int(random.integers(1 << 62)), Band(110.0, 190.0, 1024), 2e-3, 2 * seconds)
    pulses = draw_pulses(random, scene, (5.0, 25.0), (8e-3, 16e-3, 32e-3), spacing=1.4)
    effects = (_gain(random, 0.005),)
    return replace(scene, pulses=pulses, effects=effects, dm=(0.0, 40.0), widest=32 * scene.row_seconds)


def high_band(seed: int, seconds: float) -> Scene:
    """4 to 8 GHz, DM 200 to 2500, where the sweep is short."""
    random = np.random.default_rng([seed, zlib.crc32(b"high-band")])
    scene = Scene("high-band", int(random.integers(1 << 62)), Band(4000.0, 8000.0, 512), 0.256e-3, seconds)
    pulses = draw_pulses(random, scene, (200.0, 2500.0), (0.4e-3, 1e-3, 2e-3, 4e-3))
    return replace(scene, pulses=pulses, dm=(0.0, 3000.0), widest=32 * scene.row_seconds, quiet=True)


def _few_bits(bits: int, seed: int, seconds: float) -> Scene:
    scene, random = _l_band(f"bits-{bits}", seed, seconds)
    scene = replace(scene, effects=tuple(_level_steps(random, scene)), bits=bits)
    loss = scene.digitiser.efficiency()
    return replace(scene, pulses=tuple(replace(pulse, snr=pulse.snr / loss) for pulse in scene.pulses))


def bits_1(seed: int, seconds: float) -> Scene:
    """One bit, with steps of the level in half of the band."""
    return _few_bits(1, seed, seconds)


def bits_2(seed: int, seconds: float) -> Scene:
    """Two bits, with steps of the level in half of the band."""
    return _few_bits(2, seed, seconds)


def bits_4(seed: int, seconds: float) -> Scene:
    """Four bits, with steps of the level in half of the band."""
    return _few_bits(4, seed, seconds)


def pulsar(seed: int, seconds: float) -> Scene:
    """A pulsar of 0.71 s, DM 27 and S/N 50 to 80, beside bursts of S/N 9 to 12."""
    scene, random = _l_band("pulsar", seed, seconds)
    bursts = draw_pulses(random, scene, snrs=(9.0, 10.0, 12.0))
    turns = np.arange(0.2, seconds - 0.3, 0.71)
    train = [Pulse(float(at), 27.0, 4e-3, float(random.uniform(50, 80)), name="pulsar") for at in turns]
    return replace(scene, pulses=(*bursts, *train), quiet=True)


def bright(seed: int, seconds: float) -> Scene:
    """Pulses of S/N 50 to 500."""
    scene, random = _l_band("bright", seed, seconds)
    return replace(scene, pulses=draw_pulses(random, scene, snrs=(50.0, 150.0, 500.0), spacing=1.1), quiet=True)


def gaps(seed: int, seconds: float) -> Scene:
    """Two files with a gap of 0.3 s between them."""
    scene, _ = _l_band("gaps", seed, seconds)
    start = _row(0.45 * seconds)
    return replace(scene, gaps=((start, _row(start + 0.3)),))


def zeros(seed: int, seconds: float) -> Scene:
    """Zeros that the recorder wrote for lost packets, 5 to 300 ms long."""
    scene, random = _l_band("zeros", seed, seconds)
    starts = np.arange(0.8, seconds, 1.9) + random.uniform(0, 0.5)
    lost = [(_row(float(at)), _row(float(at) + _log_uniform(random, 5e-3, 0.3))) for at in starts]
    return replace(scene, zeros=tuple(lost))


def _row(seconds: float) -> float:
    return round(seconds / L_ROW) * L_ROW


def scattered(seed: int, seconds: float) -> Scene:
    """Pulses with exponential tails of 2 to 12 ms at the centre of the band."""
    scene, random = _l_band("scattered", seed, seconds)
    tails = [replace(pulse, scattering=_log_uniform(random, 2e-3, 12e-3)) for pulse in scene.pulses]
    return replace(scene, pulses=tuple(tails), widest=64 * L_ROW, quiet=True)


def one_sample(seed: int, seconds: float) -> Scene:
    """Pulses much shorter than a sample."""
    scene, random = _l_band("one-sample", seed, seconds)
    return replace(scene, pulses=draw_pulses(random, scene, widths=(0.05e-3, 0.2e-3)), quiet=True)


def wide(seed: int, seconds: float) -> Scene:
    """Pulses of 30 to 100 ms; boxcars up to 131 ms are searched."""
    scene, random = _l_band("wide", seed, seconds)
    pulses = draw_pulses(random, scene, (100.0, 600.0), (30e-3, 60e-3, 100e-3))
    return replace(scene, pulses=pulses, widest=256 * L_ROW, quiet=True)


def quarter(seed: int, seconds: float) -> Scene:
    """Bursts that fill one of the four quarters of the band."""
    return _in_a_quarter("quarter", seed, seconds, 4)


def quarter_anywhere(seed: int, seconds: float) -> Scene:
    """Bursts that fill a quarter of the band, at any place in it."""
    return _in_a_quarter("quarter-anywhere", seed, seconds, L_BAND.channels)


def _in_a_quarter(name: str, seed: int, seconds: float, places: int) -> Scene:
    scene, random = _l_band(name, seed, seconds)
    width, step = 0.25 * (L_BAND.high - L_BAND.low), (L_BAND.high - L_BAND.low) / places
    bursts = []
    for pulse in draw_pulses(random, scene, dm=(100.0, 600.0)):
        low = L_BAND.low + step * int(random.integers(round(0.75 * places) + 1))
        bursts.append(replace(pulse, low=low, high=low + width))
    return replace(scene, pulses=tuple(bursts), quiet=True)


def everything(seed: int, seconds: float) -> Scene:
    """All at once: wander of 2 %, roll-off, dead channels, bursts, carriers, radar, chirps, satellites, level steps."""
    scene, random = _l_band("everything", seed, seconds)
    effects: list[Effect] = [RollOff(0.3), _gain(random, 0.02), *_bursts(random, scene, 1.5)]
    effects += _carriers(random, scene, 8) + _radar(random)[:2] + _chirps(random, scene, 1.9)
    effects += _satellites(random)[:2] + _level_steps(random, scene, 3.7)
    return replace(scene, effects=tuple(effects), dead=_dead(random), flat=False)


SCENES: dict[str, Callable[[int, float], Scene]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        quiet, gain_1, gain_5, roll_off, zero_dm, carriers, radar, chirps, satellite, low_band, high_band, bits_1,
        bits_2, bits_4, pulsar, bright, gaps, zeros, scattered, one_sample, wide, quarter, quarter_anywhere, everything,
    )
}  # fmt: skip
"""The scenes by name."""
