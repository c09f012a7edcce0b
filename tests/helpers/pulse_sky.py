"""A small synthetic sky in rows: Gaussian noise and dispersed pulses of known matched S/N."""

from fractions import Fraction

import numpy as np

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.config import Reduction
from edgefilter.core.plan import Plan, dispersion_delay
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.stages.search.normalise import Normaliser
from edgefilter.stages.search.single_pulse import SinglePulseSearch


def make_plan(channels=128, low=1200.0, high=1500.0, rate=1000, rows=1024, cells=1, rising=False, **pulses):
    step = (high - low) / channels * 1e6
    first, step = (low * 1e6 + step / 2, step) if rising else (high * 1e6 - step / 2, -step)
    stream = Stream(
        "sky", SampleKind.POWER, 0, Fraction(rate * cells), channels, first, step, ("I",), 32, Encoding.FLOAT
    )
    settings = {"block": {"rows": rows}, "integrate": {"cells": cells}, "pulses": {"dm": (0, 300), **pulses}}
    return Plan(stream, Reduction.model_validate(settings))


def noise(plan, rows, seed):
    power = np.random.default_rng(seed).normal(size=(rows, plan.channels)).astype(np.float32)
    bandpass = np.linspace(50, 150, plan.channels, dtype=np.float32)
    weight = np.full(power.shape, plan.cells_per_row, np.uint16)
    return Rows(0, np.ascontiguousarray((power * 0.05 + 1) * bandpass)[None], weight)


def add_pulse(plan, sky, row, dm, width, snr, channels=slice(None)):
    """Add a pulse: in the top channel it lasts ``width`` rows around ``row``; ``snr`` is matched over its channels."""
    frequencies = plan.frequencies_mhz
    top, half = frequencies.max(), abs(plan.channel_mhz) / 2
    power = np.zeros(sky.stokes.shape[1:])
    for c in np.arange(len(frequencies))[channels]:
        # The delay varies across the channel: the mean over several frequencies is the smeared profile.
        for f in np.linspace(frequencies[c] - half, frequencies[c] + half, 9)[1::2]:
            start = row - width / 2 + dispersion_delay(dm, f, top) / plan.row_seconds
            edges = np.clip(np.arange(int(start), int(start) + width + 3), start, start + width)
            last = min(int(start) + width + 2, len(power))
            if start >= 0 and int(start) < last:
                power[int(start) : last, c] += np.diff(edges)[: last - int(start)] / 4
    power *= snr / np.sqrt((power**2).sum())
    sky.stokes[0] += (power * 0.05 * np.linspace(50, 150, plan.channels)).astype(np.float32)


def normalise_all(plan, sky, backend):
    """Normalise every block."""
    return normalised_blocks(Normaliser(plan, backend), plan, sky)


def normalised_blocks(normaliser, plan, sky):
    """Normalise every block, on the CPU or the GPU."""
    rows = plan.rows_per_block
    return [
        normaliser.reduce(Rows.join([sky], k * rows - normaliser.history, (k + 1) * rows, sky))
        for k in range(-(-sky.stop // rows))
    ]


def neighbouring_blocks(plan, search, blocks, k):
    """Blocks that the search of block k needs."""
    rows = plan.rows_per_block
    span = range(k - -(-search.history // rows), k + -(-search.lookahead // rows) + 1)
    return [blocks[i] if 0 <= i < len(blocks) else None for i in span]


def search_all(plan, sky, threads=1):
    """Search every block; a list of events."""
    with ThreadBackend(threads) as backend:
        search, blocks = SinglePulseSearch(plan, backend), normalise_all(plan, sky, backend)
        return [search.reduce(neighbouring_blocks(plan, search, blocks, k), k) for k in range(len(blocks))]
