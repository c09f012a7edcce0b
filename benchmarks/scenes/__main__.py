"""Search simulated skies from file to candidates, with edgefilter and the peers that are on the PATH.

Each scene is written to a temporary file, searched by processes of one thread, scored and deleted. CPU times are
without start-up, which is measured with a file of half a second. The reporting seeds were not used to choose settings.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.machine import describe, write_result
from benchmarks.scenes.catalogue import REPORTING, SCENES, TUNING
from benchmarks.scenes.report import Result, bars, table
from benchmarks.scenes.scene import Scene
from benchmarks.scenes.score import score
from benchmarks.scenes.searchers import (
    Search,
    Searcher,
    SearchFailedError,
    Usage,
    search_edgefilter,
    searchers,
)

STARTUP_SECONDS = 0.5
PIECE_SECONDS = 120.0  # of the hour of noise


def run_search(scene: Scene, searcher: Searcher, folder: Path) -> Search:
    """Write the files of a scene, search them and delete everything.

    Parameters
    ----------
    scene
        The scene.
    searcher
        Searches its files.
    folder
        Where the files are written for a while.

    Returns
    -------
    Search
        The result.
    """
    with tempfile.TemporaryDirectory(dir=folder) as files, tempfile.TemporaryDirectory(dir=folder) as out:
        return searcher(scene, scene.write(Path(files)), Path(out))


def startup_seconds(searcher: Searcher, folder: Path) -> float:
    """Return the CPU time of a searcher on half a second of noise, the shortest of three runs.

    Parameters
    ----------
    searcher, folder
        See :func:`run_search`.

    Returns
    -------
    float
        s.
    """
    scene = replace(SCENES["quiet"](TUNING[0], STARTUP_SECONDS), pulses=())
    return min(run_search(scene, searcher, folder).usage.cpu_seconds for _ in range(3))


def run_scenes(names: list[str], seeds: tuple[int, ...], seconds: float, console: Console) -> dict[str, Any]:
    """Search scenes and score the results; a searcher that ends with an error has found nothing.

    Parameters
    ----------
    names
        Scenes of the catalogue.
    seeds
        Each scene is made with each of them.
    seconds
        Length of a scene, s.
    console
        Shows a line for each result, then the table and the bars.

    Returns
    -------
    dict
        What is stored.
    """
    results: dict[tuple[str, str], Result] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = searchers()
        startup = {who: startup_seconds(searcher, folder) for who, searcher in found.items()}
        for scene_name in names:
            for seed in seeds:
                scene = SCENES[scene_name](seed, seconds)
                for who, searcher in found.items():
                    result = results.setdefault((scene_name, who), Result(scene_name, who, scene.quiet))
                    try:
                        search = run_search(scene, searcher, folder)
                    except SearchFailedError as error:
                        failures.append(f"{scene_name}, seed {seed}: {error}")
                        search = Search([], Usage())
                    result.add(scene.seconds, score(scene, search.candidates), search.usage, startup[who])
                    counts = f"{result.found} of {result.pulses} found, {result.false} false"
                    console.print(f"{scene_name}, {who}, seed {seed}: {counts}")
    for failure in failures:
        console.print(failure, soft_wrap=True)
    for who, cpu in startup.items():
        console.print(f"{who}: start-up, subtracted from CPU times: {cpu:.2f} s")
    console.print(table(list(results.values())))
    missed = bars(list(results.values()))
    for scene_name, sentences in missed.items():
        console.print(f"{scene_name}: {'; '.join(sentences) or 'all bars hold'}", soft_wrap=True)
    return {
        "seeds": seeds,
        "startup_cpu_seconds": {who: round(value, 2) for who, value in startup.items()},
        "results": [result.as_dict() for result in results.values()],
        "bars_missed": missed,
        "failures": failures,
    }


def run_noise(minutes: float, seed: int, console: Console) -> dict[str, Any]:
    """Count edgefilter's candidates in noise, searched in pieces.

    Parameters
    ----------
    minutes
        Length of the noise.
    seed
        Of the first piece; the others follow.
    console
        Shows a line for each piece.

    Returns
    -------
    dict
        What is stored.
    """
    pieces = max(1, round(60.0 * minutes / PIECE_SECONDS))
    candidates, cpu = [], 0.0
    with tempfile.TemporaryDirectory() as name:
        for piece in range(pieces):
            quiet = SCENES["quiet"](seed, PIECE_SECONDS)
            scene = replace(quiet, seed=quiet.seed + piece, pulses=())
            search = run_search(scene, search_edgefilter, Path(name))
            cpu += search.usage.cpu_seconds
            candidates += [asdict(one) | {"piece": piece} for one in search.candidates]
            console.print(f"piece {piece + 1} of {pieces}: {len(candidates)} candidates")
    sky = pieces * PIECE_SECONDS
    return {"sky_seconds": sky, "seed": seed, "cpu_seconds": round(cpu, 1), "candidates": candidates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="SCENE", help=f"scenes; default: all of {', '.join(SCENES)}")
    parser.add_argument("--tuning", action="store_true", help="use the tuning seeds instead of the reporting seeds")
    parser.add_argument("--seeds", type=int, default=1, choices=(1, 2, 3), help="seeds of each scene (default: 1)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a scene, s (default: 30)")
    parser.add_argument("--json", type=Path, help="file of the results")
    parser.add_argument("--pure-noise-hour", action="store_true", help="count candidates in noise instead")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of that noise (default: 60)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(SCENES))
    if unknown:
        parser.error(f"unknown scenes: {', '.join(unknown)}; must be among {', '.join(SCENES)}")
    console = Console(width=140, highlight=False)
    seeds = TUNING if arguments.tuning else REPORTING
    if arguments.pure_noise_hour:
        path = arguments.json or Path("benchmarks/results/scenes_noise.json")
        write_result(path, run_noise(arguments.minutes, seeds[0], console))
        return
    result = run_scenes(arguments.names or list(SCENES), seeds[: arguments.seeds], arguments.seconds, console)
    path = arguments.json or Path("benchmarks/results/scenes.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result | {"machine": describe()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
