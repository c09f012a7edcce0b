"""Speed and recall of the single-pulse search, beside simpler methods.

``python -m benchmarks search`` searches 60 s of 8-bit data, 1024 channels from 1200 to 1500 MHz every 256 µs, for DM 0
to 1000. The data hold 41 pulses of S/N 7 to 30. Recall is compared with an upper bound: the sum at the exact dispersion
measure of each pulse and the best of all boxcars at its position, which a blind search can exceed only by chance.

The timing covers everything from 8-bit power without interference to candidates: conversion to float32 rows,
normalisation, dedispersion, boxcars, clustering. Rates of one thread are seconds of data per second of processor time,
which other programs on the machine disturb least; the gain of two threads is in elapsed time.

``python -m benchmarks.search`` counts candidates in an hour of noise.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from benchmarks.harness import OURS, Bench
from benchmarks.machine import describe
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.config import Reduction
from edgefilter.core.plan import Plan, dispersion_delay, resolve
from edgefilter.core.reduced_block import PulseCandidate
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.stages.search.cluster import EventSifter
from edgefilter.stages.search.events import Events
from edgefilter.stages.search.normalise import NormalisedBlock, Normaliser
from edgefilter.stages.search.single_pulse import SinglePulseSearch
from edgefilter_kernels.jit import kernel

CHANNELS, LOW_MHZ, HIGH_MHZ = 1024, 1200.0, 1500.0
ROW_SECONDS = Fraction(256, 10**6)
SECONDS, PULSES, DM = 60.0, 41, (0.0, 1000.0)
SNR_THRESHOLDS = (6.5, 7.0)
SPEED_GROUP, RECALL_GROUP, UNIT = "single-pulse search", "single-pulse search: what is found", "x real time"
_NOISE_MEAN, _NOISE_SIGMA = 96.0, 16.0  # of the 8-bit noise
_FWHM_TO_SIGMA = 1 / math.sqrt(8 * math.log(2))


@dataclass(frozen=True, slots=True)
class InjectedPulse:
    """A pulse: arrival at the centre of the top channel (rows), DM, full width at half maximum (rows), matched S/N."""

    row: float
    dm: float
    width: float
    snr: float


@dataclass(slots=True)
class SearchResult:
    """Candidates of a search, its processor and elapsed time (s), and processor time by stage."""

    pulses: list[PulseCandidate]
    cpu: float
    wall: float
    stages: dict[str, float] = field(default_factory=dict)


def make_plan(bands: int = 1, snr: float = SNR_THRESHOLDS[0]) -> Plan:
    """Return the layout of the search: of the whole band, as in other programs, or of its parts too."""
    step = (HIGH_MHZ - LOW_MHZ) / CHANNELS * 1e6
    stream = Stream(
        "search",
        SampleKind.POWER,
        0,
        1 / ROW_SECONDS,
        CHANNELS,
        HIGH_MHZ * 1e6 - step / 2,
        -step,
        ("I",),
        8,
        Encoding.UNSIGNED,
    )
    pulses = {"dm": DM, "bands": bands, "snr": snr}
    return Plan(stream, resolve(Reduction.model_validate({"pulses": pulses}), stream))


def draw_pulses(
    count: int, seconds: float, seed: int, snr: tuple[float, float] = (7, 30), width_ms: tuple[float, float] = (0.5, 8)
) -> list[InjectedPulse]:
    """Draw pulses at regular intervals: S/N and width log-uniform, DM uniform."""
    random = np.random.default_rng(seed)
    row = float(ROW_SECONDS)
    last = seconds - dispersion_delay(DM[1], LOW_MHZ, HIGH_MHZ) - 0.3
    when = np.linspace(0.3, last, count) / row + random.uniform(0, 1, count)
    strength = snr[0] * (snr[1] / snr[0]) ** random.uniform(0, 1, count)
    width = width_ms[0] * (width_ms[1] / width_ms[0]) ** random.uniform(0, 1, count) * 1e-3 / row
    dm = random.uniform(10, DM[1] - 10, count)
    return [InjectedPulse(*map(float, one)) for one in zip(when, dm, width, strength, strict=True)]


def make_power(plan: Plan, seconds: float, pulses: Sequence[InjectedPulse], seed: int) -> NDArray[np.uint8]:
    """Return Gaussian noise with Gaussian pulses, smeared within channels and rows; uint8 ``[row, channel]``."""
    random = np.random.default_rng(seed)
    rows = round(seconds / float(ROW_SECONDS))
    signal = np.zeros((rows, plan.channels), np.float16)
    for pulse in pulses:
        start, profile = profile_of(plan, pulse)
        for c in range(plan.channels):
            signal[start[c] : start[c] + profile.shape[1], c] += profile[c][: rows - start[c]].astype(np.float16)
    power = np.empty((rows, plan.channels), np.uint8)
    for at in range(0, rows, 4096):
        part = slice(at, at + 4096)
        noise = random.standard_normal(signal[part].shape, np.float32) + signal[part]
        power[part] = np.clip(np.rint(noise * _NOISE_SIGMA + _NOISE_MEAN), 0, 255)
    return power


def profile_of(plan: Plan, pulse: InjectedPulse) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return first row ``[channel]`` and power ``[channel, row]``, in sigma, of a pulse in each channel."""
    frequencies, half, row = plan.frequencies_mhz, abs(plan.channel_mhz) / 2, plan.row_seconds
    top = float(frequencies.max())
    smear = dispersion_delay(pulse.dm, LOW_MHZ, LOW_MHZ + 2 * half) / row
    reach = 2.5 * pulse.width + smear / 2 + 1
    arrival = pulse.row + np.array([dispersion_delay(pulse.dm, f, top) for f in frequencies.tolist()]) / row
    start = np.floor(arrival - reach).astype(np.int64)
    edges = start[:, None] + np.arange(math.ceil(2 * reach) + 3)
    profile = np.zeros((plan.channels, edges.shape[1] - 1))
    for shift in np.linspace(-half, half, 9)[1::2].tolist():
        inside = [dispersion_delay(pulse.dm, f + shift, f) / row for f in frequencies.tolist()]
        offset = edges - (arrival + inside)[:, None]
        profile += np.diff(erf(offset / (math.sqrt(2) * pulse.width * _FWHM_TO_SIGMA)), axis=1)
    return start, profile * (pulse.snr / math.sqrt((profile**2).sum()))


def search(plan: Plan, power: NDArray[np.uint8], threads: int) -> SearchResult:
    """Search 8-bit power, block after block, as the reducer does."""
    rows = plan.rows_per_block
    stages: dict[str, float] = {}
    with ThreadBackend(threads) as backend:
        normaliser, stage, sifter = Normaliser(plan, backend), SinglePulseSearch(plan, backend), EventSifter(plan)
        before, after = -(-stage.history // rows), -(-stage.lookahead // rows)
        began, cpu = time.perf_counter(), time.process_time()
        normalised: list[NormalisedBlock | None] = [None] * before
        with _timed(stages, "convert, normalise"):
            wide = Rows(0, np.zeros((1, rows, plan.channels), np.float32), np.zeros((rows, plan.channels), np.uint16))
            for start in range(0, len(power), rows):
                backend.parallel_for(
                    rows, lambda first, last, part=power[start : start + rows]: _to_rows(part, first, last, wide)
                )
                normalised.append(normaliser.reduce(wide))
        count = len(normalised) - before
        normalised += [None] * after
        with _timed(stages, "dedisperse, boxcars"):
            events: list[Events | None] = [
                stage.reduce(normalised[k : k + before + 1 + after], k) for k in range(count)
            ]
        with _timed(stages, "cluster"):
            padded = [None, *events, None]
            found = [sifter.reduce(padded[k], padded[k + 1] or Events.join([]), padded[k + 2], k) for k in range(count)]
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return SearchResult([pulse for one in found for pulse in one.pulses], cpu, wall, stages)


def _to_rows(part: NDArray[np.uint8], first: int, last: int, out: Rows) -> None:
    # Rows after the last one have weight 0.
    some = part[first:last]
    out.stokes[0, first : first + len(some)] = some
    out.weight[first : first + len(some)] = 1
    out.weight[first + len(some) : last] = 0


@contextmanager
def _timed(stages: dict[str, float], name: str) -> Iterator[None]:
    began = time.process_time()
    yield
    stages[name] = time.process_time() - began


def matched_snr(plan: Plan, power: NDArray[np.uint8], pulse: InjectedPulse) -> float:
    """Return the S/N of a pulse by brute force: exact delays, the best boxcar near the true position."""
    row, top = plan.row_seconds, float(plan.frequencies_mhz.max())
    reach = math.ceil(4 * pulse.width) + 8
    total = np.zeros(2 * reach)
    for c, f in enumerate(plan.frequencies_mhz.tolist()):
        at = round(pulse.row - 0.5 + dispersion_delay(pulse.dm, f, top) / row) - reach
        total += power[at : at + 2 * reach, c].astype(np.float64) - _NOISE_MEAN
    # Rounding to integers adds 1/12 to the variance.
    sums = np.concatenate([[0], np.cumsum(total)]) / math.sqrt(plan.channels * (_NOISE_SIGMA**2 + 1 / 12))
    best = 0.0
    for width in range(1, reach):
        best = max(best, float((sums[width:] - sums[:-width]).max()) / math.sqrt(width))
    return best


def matching_candidates(plan: Plan, pulse: InjectedPulse, found: Sequence[PulseCandidate]) -> list[PulseCandidate]:
    """Return the candidates of a pulse: their track passes its position within twice its width and a few rows."""
    per_dm = dispersion_delay(1.0, LOW_MHZ, HIGH_MHZ) / plan.row_seconds
    smear = per_dm * pulse.dm / plan.channels
    near = 2 * math.hypot(pulse.width, smear) + 4
    return [
        one
        for one in found
        if abs(one.dm - pulse.dm) * per_dm <= 2 * near and abs(one.row - pulse.row) <= near + one.width_rows
    ]


def score(
    plan: Plan, power: NDArray[np.uint8], pulses: Sequence[InjectedPulse], found: Sequence[PulseCandidate]
) -> dict[str, tuple[float, float | None]]:
    """Return recall, false candidates and S/N of a search, and those of the upper bound."""
    matches = [matching_candidates(plan, pulse, found) for pulse in pulses]
    best = np.array([max((one.snr for one in some), default=0.0) for some in matches])
    exact = np.array([matched_snr(plan, power, pulse) for pulse in pulses])
    injected = np.array([pulse.snr for pulse in pulses])
    matched = {id(one) for some in matches for one in some}
    extra = np.array([one.snr for one in found if id(one) not in matched])
    hit = best > 0
    return {
        **{
            f"found of {len(pulses)} at {level:g}": (float((best >= level).sum()), float((exact >= level).sum()))
            for level in SNR_THRESHOLDS
        },
        **{f"false at {level:g}": (float((extra >= level).sum()), None) for level in SNR_THRESHOLDS},
        "S/N over injected": (float((best / injected)[hit].mean()), float((exact / injected)[hit].mean())),
    }


def snr_retention(seed: int = 5, count: int = 40) -> float:
    """Return the mean ratio to the brute-force S/N for strong pulses of all widths and DMs: noise hardly matters."""
    plan = make_plan()
    pulses = draw_pulses(count, SECONDS, seed, snr=(30, 30), width_ms=(0.2, 8))
    power = make_power(plan, SECONDS, pulses, seed)
    found = search(plan, power, 1).pulses
    best = [max((one.snr for one in matching_candidates(plan, pulse, found)), default=0.0) for pulse in pulses]
    return float(np.mean([mine / matched_snr(plan, power, pulse) for mine, pulse in zip(best, pulses, strict=True)]))


def brute_force(plan: Plan, power: NDArray[np.uint8], trials: int) -> float:
    """Return the seconds of data that NumPy dedisperses in a processor second, extrapolated from four trials."""
    rows = 16384
    value = np.ascontiguousarray(power[: 2 * rows].T).astype(np.float32)
    top = float(plan.frequencies_mhz.max())
    delay = np.array([dispersion_delay(1.0, f, top) for f in plan.frequencies_mhz.tolist()]) / plan.row_seconds
    began = time.process_time()
    for dm in (100.0, 300.0, 600.0, 900.0):
        total = np.zeros(rows, np.float32)
        for line, first in zip(value, np.rint(delay * dm).astype(int).tolist(), strict=True):
            total += line[first : first + rows]
    return rows * plan.row_seconds / ((time.process_time() - began) / 4 * trials)


def false_candidates(minutes: float) -> list[dict[str, Any]]:
    """Count candidates in noise, one minute at a time, for the whole band and for its parts too."""
    plans = [make_plan(bands) for bands in (1, 4)]
    found: list[list[float]] = [[], []]
    for minute in range(math.ceil(minutes)):
        power = make_power(plans[0], 60.0, [], 1000 + minute)
        for plan, some in zip(plans, found, strict=True):
            some.extend(pulse.snr for pulse in search(plan, power, 0).pulses)
    return [
        {
            "minutes": math.ceil(minutes),
            **{f"candidates at {level:g}": sum(snr >= level for snr in some) for level in SNR_THRESHOLDS},
            "highest": round(max(some, default=0.0), 2),
        }
        for some in found
    ]


def run(bench: Bench) -> None:
    """Search the whole band, and its parts too, on one and two threads; measure NumPy and the limit."""
    plan = make_plan()
    pulses = draw_pulses(PULSES, SECONDS, 1)
    power = make_power(plan, SECONDS, pulses, 1)
    for bands in (1, 4):
        plan = make_plan(bands)
        with ThreadBackend(1) as backend:
            trials = SinglePulseSearch(plan, backend).trials
        case = f"{trials} trials, {bands} band{'s' * (bands > 1)}"
        one, two = (_fastest(bench, plan, power, threads) for threads in (1, 2))
        bench.record(SPEED_GROUP, case, OURS, SECONDS / one.cpu, UNIT)
        bench.record(SPEED_GROUP, case, "two threads over one", one.wall / two.wall, "", threads=2)
        for name, cpu in one.stages.items():
            bench.record(SPEED_GROUP, case, f"{name} alone", SECONDS / cpu, UNIT)
        if bands == 1:
            bench.record(SPEED_GROUP, case, "NumPy, dedispersion alone", brute_force(plan, power, trials), UNIT)
            bench.record(SPEED_GROUP, case, "limit: 16-bit additions alone", additions(bench, plan, power), UNIT)
        for name, (ours, best) in score(plan, power, pulses, one.pulses).items():
            bench.record(RECALL_GROUP, f"{case}: {name}", OURS, ours, "")
            if best is not None:
                bench.record(RECALL_GROUP, f"{case}: {name}", "bound", best, "")
    bench.record(RECALL_GROUP, "S/N over that of brute force, mean over width and DM", OURS, snr_retention(), "")


def _fastest(bench: Bench, plan: Plan, power: NDArray[np.uint8], threads: int) -> SearchResult:
    """Return the fastest of several runs: by processor time for one thread, otherwise by elapsed time."""
    found: list[SearchResult] = []
    bench.best(lambda: found.append(search(plan, power, threads)))
    return min(found, key=lambda one: one.cpu if threads == 1 else one.wall)


def additions(bench: Bench, plan: Plan, power: NDArray[np.uint8]) -> float:
    """Return the multiple of real time that additions alone allow, at the rate of eight 16-bit terms per store."""
    with ThreadBackend(1) as backend:
        stage = SinglePulseSearch(plan, backend)
    rows, length, repeats = 8, 2048, 2000
    terms, total = np.ones((rows, length), np.int16), np.zeros(length, np.int16)
    rate = rows * length * repeats / bench.best(lambda: _add(terms, total, repeats))
    return SECONDS / (stage.additions * len(power) / rate)


@kernel
def _add(terms: NDArray[np.int16], total: NDArray[np.int16], repeats: int) -> None:
    a, b, c, d, e, f, g, h = terms[0], terms[1], terms[2], terms[3], terms[4], terms[5], terms[6], terms[7]
    for _ in range(repeats):
        for t in range(total.size):
            total[t] += np.int16(((a[t] + b[t]) + (c[t] + d[t])) + ((e[t] + f[t]) + (g[t] + h[t])))


def main() -> None:
    parser = argparse.ArgumentParser(description="Count false candidates of the single-pulse search in noise.")
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes of noise")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search_noise.json"))
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        f"{bands} band{'s' * (bands > 1)}": count
        for bands, count in zip((1, 4), false_candidates(arguments.minutes), strict=True)
    }
    result["machine"] = describe()
    print(json.dumps(result, indent=1))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
