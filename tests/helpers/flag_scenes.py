"""Cells of power and of voltages with interference and pulses, for tests of the flagging stage."""

from fractions import Fraction

import numpy as np

from edgefilter.core.cells import Cells
from edgefilter.core.config import BlockSettings, DetectSettings, FlagSettings, PulseSettings, Reduction
from edgefilter.core.plan import DISPERSION_S_MHZ2, Plan, resolve
from edgefilter.core.stream import Encoding, SampleKind, Stream

CELL_S = 0.5e-3


def power_plan(channels=256, **flag):
    """Return the plan of detected power from 1600 MHz down to 1200 MHz."""
    step = -400e6 / channels
    stream = Stream(
        "p", SampleKind.POWER, 0, Fraction(2000), channels, 1600e6 + step / 2, step, ("I",), 32, Encoding.FLOAT
    )
    wanted = Reduction(block=BlockSettings(rows=16), flag=FlagSettings(**flag), pulses=PulseSettings(dm=(0.0, 10.0)))
    return Plan(stream, resolve(wanted, stream))


def voltage_plan(raw=1, fine=256, spectra=64, **flag):
    """Return the plan of complex voltages of two polarisations."""
    stream = Stream(
        "v", SampleKind.VOLTAGE, 0, Fraction(32_000_000), raw, 1400e6, 32e6, ("X", "Y"), 8, Encoding.SIGNED, True
    )
    tree = {"channelise": {"channels": fine}, "flag": flag, "block": {"rows": 16}}
    wanted = Reduction.model_validate(tree).model_copy(
        update={"detect": DetectSettings(spectra=spectra), "pulses": PulseSettings(dm=(0.0, 10.0))}
    )
    return Plan(stream, resolve(wanted, stream))


def power_cells(power):
    power = np.ascontiguousarray(power, np.float32)[:, :, None]
    return Cells(0, power, np.zeros(power.shape[:2], np.uint16), ("I",), np.zeros(len(power), np.int32))


def noise(rng, times=1024, channels=256):
    return rng.normal(100, 10, (times, channels))


def gaussian_voltages(rng, times, channels, spectra, gain=1.0):
    """Return the cells of Gaussian voltages of two polarisations of unequal gain."""
    power = np.empty((times, channels, 2), np.float32)
    moment4 = np.empty_like(power)
    for t in range(times):
        squares = rng.exponential(1.0, (spectra, channels, 2)) * np.array([1.0, 1.3]) * np.reshape(gain, (-1, 1))
        power[t], moment4[t] = squares.mean(axis=0), (squares**2).mean(axis=0)
    accumulated = np.full(times, spectra, np.int32)
    return Cells(0, power, np.zeros((times, channels), np.uint16), ("XX", "YY"), accumulated, moment4)


def add_tone(cells, where, ratio):
    """Add the mean effect of a tone of ``ratio`` times the noise in both polarisations of some cells."""
    for pol in range(2):
        level = (1.0, 1.3)[pol]
        power, moment4 = cells.power[where][..., pol], cells.moment4[where][..., pol]
        cells.moment4[(*where, pol)] = moment4 + 4 * power * level * ratio + (level * ratio) ** 2
        cells.power[(*where, pol)] = power + level * ratio


def sweep(plan, dm, start):
    """Return the time in each channel, in cells, of a pulse that is at the top of the band at ``start``."""
    f = plan.frequencies_mhz
    return start + np.rint(DISPERSION_S_MHZ2 * dm * (f**-2 - f.max() ** -2) / CELL_S).astype(int)
