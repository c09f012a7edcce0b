"""Completeness: recall of injected pulses, precision of their parameters, and false candidates in noise.

``python -m benchmarks.completeness`` injects pulses into synthetic skies, replays them with default settings (except
for a DM range of 0:2000) and compares the candidates in the store with the injected pulses.

A pulse is found if a candidate has

- a DM whose error sweeps, from edge to edge of the whole band, less than the pulse's width plus two rows, and
- an arrival at the top channel's centre within two widths plus three rows,

where the width is the full width at half maximum and, in quadrature, the smear within the lowest channel. Candidates
that match no pulse are counted as extra candidates.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import chi2

import edgefilter
from benchmarks.machine import describe
from edgefilter.batch.local import Replay
from edgefilter.core.config import PulseSettings, Reduction
from edgefilter.core.plan import Plan, dispersion_delay
from edgefilter.sources.simulated.sky import PowerSky, SkyPulse, TruePulse, VoltageSky

DM_SEARCH_RANGE = (0.0, 2000.0)
DM_INJECTED = (20.0, 1950.0)
SNR_INJECTED = (10.0, 50.0)
WIDTH_ROWS = (1.0, 32.0)
SNR_THRESHOLDS = (7.0, 8.0)

Sky = PowerSky | VoltageSky
Candidate = dict[str, Any]


@dataclass(frozen=True, slots=True)
class InjectionResult:
    """An injected pulse, the candidate that matches it best, and the errors of its DM (pc cm⁻³) and time (s)."""

    truth: TruePulse
    width_rows: float
    candidate: Candidate | None = None
    dm_offset: float = math.nan
    time_offset: float = math.nan

    @property
    def found(self) -> bool:
        return self.candidate is not None


@dataclass(frozen=True, slots=True)
class SkyResult:
    """Result of a sky: injections, candidates that match none, length of the sky (s) and elapsed time (s)."""

    injections: list[InjectionResult]
    unmatched: list[Candidate]
    seconds: float
    wall: float


def draw_pulses(count: int, seed: int, first: float, spacing: float, row_seconds: float) -> list[SkyPulse]:
    """Draw pulses, one every ``spacing`` s: S/N and width log-uniform, DM uniform."""
    random = np.random.default_rng(seed)
    snr = np.exp(random.uniform(*np.log(SNR_INJECTED), count))
    dm = random.uniform(*DM_INJECTED, count)
    width = np.exp(random.uniform(*np.log(WIDTH_ROWS), count)) * row_seconds
    when = first + spacing * np.arange(count) + random.uniform(0, 0.1 * spacing, count)
    return [SkyPulse(*map(float, row)) for row in zip(when, dm, width, snr, strict=True)]


def power_sky(count: int, seed: int, spacing: float = 3.0) -> PowerSky:
    """Return a sky of 256 channels of 1 ms, 1272 to 1528 MHz: DM 2000 sweeps 1.6 s."""
    return PowerSky(4.0 + spacing * count, seed, pulses=draw_pulses(count, seed, 3.0, spacing, 1e-3))


def voltage_sky(count: int, seed: int, spacing: float = 0.6) -> VoltageSky:
    """Return a sky of 16 MHz of voltages around 1400 MHz: DM 2000 sweeps 0.1 s."""
    return VoltageSky(1.5 + spacing * count, seed, pulses=draw_pulses(count, seed, 1.2, spacing, 0.512e-3))


def replay(sky: Sky) -> SkyResult:
    """Replay a sky into a temporary store, and match its candidates."""
    settings = Reduction(pulses=PulseSettings(dm=DM_SEARCH_RANGE))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = Replay(sky, settings, folder)
        for _ in run.run():
            pass
        candidates = edgefilter.open_store(folder).table("pulses").to_pylist()
    wall = time.monotonic() - began
    injections, unmatched = match_candidates(sky.truth, candidates, run.plan)
    return SkyResult(injections, unmatched, sky.stream.seconds(sky.samples), wall)


def match_candidates(
    truth: Sequence[TruePulse], candidates: Sequence[Candidate], plan: Plan
) -> tuple[list[InjectionResult], list[Candidate]]:
    """Match candidates with true pulses; return the result of each pulse, and the candidates that match none."""
    pulses = [_match_pulse(pulse, candidates, plan) for pulse in truth]
    matched = {id(candidate) for _, matches in pulses for candidate in matches}
    return [injection for injection, _ in pulses], [one for one in candidates if id(one) not in matched]


def _match_pulse(
    pulse: TruePulse, candidates: Sequence[Candidate], plan: Plan
) -> tuple[InjectionResult, list[Candidate]]:
    low, high = plan.band_mhz
    row, top = plan.row_seconds, float(plan.frequencies_mhz.max())
    width = math.hypot(pulse.width, dispersion_delay(pulse.dm, low, low + abs(plan.channel_mhz)))
    dm_limit = (width + 2 * row) / dispersion_delay(1.0, low, high)
    arrival = pulse.seconds_at(top)
    matches = [
        one
        for one in candidates
        if abs(one["dm"] - pulse.dm) <= dm_limit and abs(one["seconds"] - arrival) <= 2 * width + 3 * row
    ]
    if not matches:
        return InjectionResult(pulse, pulse.width / row), []
    best = max(matches, key=lambda one: float(one["snr"]))
    return InjectionResult(pulse, pulse.width / row, best, best["dm"] - pulse.dm, best["seconds"] - arrival), matches


def wilson(found: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a binomial proportion (Wilson 1927)."""
    z = 1.959964
    middle = (found + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * math.sqrt(found * (count - found) / count + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def pulse_statistics(sky_results: Sequence[SkyResult]) -> dict[str, Any]:
    """Return recall and errors over several skies."""
    injections = [injection for sky_result in sky_results for injection in sky_result.injections]
    hits = [(injection, injection.candidate) for injection in injections if injection.candidate is not None]
    low, high = wilson(len(hits), len(injections))
    return {
        "pulses": len(injections),
        "found": len(hits),
        "recall": round(len(hits) / len(injections), 4),
        "recall_95_percent": [round(low, 4), round(high, 4)],
        "median_dm_off": _median([abs(hit.dm_offset) for hit, _ in hits]),
        "median_dm_off_over_dm_error": _median([abs(hit.dm_offset) / one["dm_error"] for hit, one in hits]),
        "median_seconds_off": _median([abs(hit.time_offset) for hit, _ in hits]),
        "mean_snr_over_injected": round(float(np.mean([one["snr"] / hit.truth.snr for hit, one in hits])), 3),
        "lowest_snr_over_injected": round(min(one["snr"] / hit.truth.snr for hit, one in hits), 3),
        **{
            f"extra_candidates_snr_{level:g}": sum(
                one["snr"] >= level for sky_result in sky_results for one in sky_result.unmatched
            )
            for level in SNR_THRESHOLDS
        },
        "sky_seconds": round(sum(sky_result.seconds for sky_result in sky_results), 1),
        "wall_seconds": round(sum(sky_result.wall for sky_result in sky_results), 1),
        "missed": [asdict(one.truth) | {"width_rows": one.width_rows} for one in injections if not one.found],
    }


def noise_statistics(sky_result: SkyResult) -> dict[str, Any]:
    """Count candidates in noise; the upper limit of the rate is one-sided, Poisson, at 95 % confidence."""
    statistics: dict[str, Any] = {
        "sky_seconds": round(sky_result.seconds, 1),
        "wall_seconds": round(sky_result.wall, 1),
    }
    for level in SNR_THRESHOLDS:
        count = sum(one["snr"] >= level for one in sky_result.unmatched)
        limit = float(chi2.ppf(0.95, 2 * count + 2)) / 2
        statistics[f"candidates_snr_{level:g}"] = count
        statistics[f"per_hour_snr_{level:g}"] = round(count * 3600 / sky_result.seconds, 2)
        statistics[f"per_hour_below_snr_{level:g}"] = round(limit * 3600 / sky_result.seconds, 2)
    statistics["highest_snr"] = round(max((float(one["snr"]) for one in sky_result.unmatched), default=0.0), 2)
    return statistics


def _median(values: list[float]) -> float:
    return float(f"{np.median(values):.3g}")


def show(result: dict[str, Any]) -> None:
    """Print a table with one column for each sky."""
    names = [name for name, value in result.items() if isinstance(value, dict) and "sky_seconds" in value]
    table = Table(title="completeness")
    table.add_column("figure", no_wrap=True)
    for name in names:
        table.add_column(name, overflow="fold")
    for key in dict.fromkeys(key for name in names for key in result[name] if key != "missed"):
        table.add_row(key, *(str(result[name].get(key, "")) for name in names))
    console = Console()
    console.print(table)
    for name in names:
        for pulse in result[name].get("missed", ()):
            console.print(f"{name} missed: {pulse}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall, accuracy and false candidates on synthetic skies.")
    parser.add_argument(
        "--seconds-noise", type=float, default=600.0, help="seconds of noise as power; a twentieth as voltages"
    )
    parser.add_argument(
        "--pulses", type=int, default=120, help="pulses in the power sky; a quarter as many in voltage skies"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/completeness.json"))
    arguments = parser.parse_args()
    skies = max(1, arguments.pulses // 20)
    result = {
        "settings": {
            "dm_searched": DM_SEARCH_RANGE,
            "dm": DM_INJECTED,
            "snr": SNR_INJECTED,
            "width_rows_fwhm": WIDTH_ROWS,
            "found_if": "|dDM| sweeps < width + 2 rows across the band and |dt| <= 2 widths + 3 rows",
        },
        "power": pulse_statistics([replay(power_sky(arguments.pulses, 1))]),
        "voltage": pulse_statistics([replay(voltage_sky(5, 100 + number)) for number in range(skies)]),
        "power noise": noise_statistics(replay(PowerSky(arguments.seconds_noise, 2))),
        "voltage noise": noise_statistics(replay(VoltageSky(arguments.seconds_noise / 20, 3))),
        "machine": describe(),
    }
    show(result)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
