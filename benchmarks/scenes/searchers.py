"""Searchers: edgefilter and, if they are on the PATH, TransientX and PRESTO, each as processes with one thread.

All get the same files, the same range of DM, the same widest boxcar (TransientX at least 100 ms) and the threshold
S/N 7. Of what they print and plot nothing is used but their lists of candidates. Peers read one file at a time: of a
scene with a gap they search the files one after the other.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgefilter
from benchmarks.scenes import measure
from benchmarks.scenes.scene import START_MJD, Scene
from benchmarks.scenes.score import Candidate
from edgefilter.core.plan import dispersion_delay

SNR = 7.0
"""Threshold of all searchers."""

OURS = "edgefilter"
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What processes used: processor time (s), peak memory and output (bytes)."""

    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    bytes_out: int = 0


@dataclass(frozen=True)
class Search:
    """Candidates of a searcher and what it used."""

    candidates: list[Candidate]
    usage: Usage


Searcher = Callable[[Scene, Sequence[Path], Path], Search]
"""From a scene, its files and an empty folder to the result."""


class SearchFailedError(RuntimeError):
    """A searcher ended with an error."""


@dataclass
class Run:
    """Runs commands in a folder and adds up what they use."""

    folder: Path
    cpu_seconds: float = 0.0
    peak_bytes: int = 0

    def command(self, *words: object) -> str:
        """Run a command.

        Parameters
        ----------
        *words
            Program and arguments.

        Returns
        -------
        str
            What it printed.

        Raises
        ------
        SearchFailedError
            If it ended with an error.
        """
        out = self.folder / "usage.json"
        command = [sys.executable, "-I", "-S", measure.__file__, str(out), *map(str, words)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        used = json.loads(out.read_text())
        out.unlink()
        if used["status"] != 0:
            raise SearchFailedError(f"{words[0]} ended with {used['status']}:\n{done.stdout[-2000:]}")
        self.cpu_seconds += used["cpu_seconds"]
        self.peak_bytes = max(self.peak_bytes, used["peak_bytes"])
        return done.stdout

    def search(self, candidates: list[Candidate]) -> Search:
        """Return the result of a search whose output is in the folder.

        Parameters
        ----------
        candidates
            What it found.

        Returns
        -------
        Search
            The result.
        """
        size = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        return Search(candidates, Usage(self.cpu_seconds, self.peak_bytes, size))


def searchers() -> dict[str, Searcher]:
    """Return edgefilter and the peers that are on the PATH, by name."""
    found: dict[str, Searcher] = {OURS: search_edgefilter}
    if shutil.which("transientx_fil"):
        found["TransientX"] = search_transientx
        if shutil.which("replot_fil"):
            found["TransientX, replot"] = search_transientx_replot
    if shutil.which("prepsubband") and shutil.which("single_pulse_search.py"):
        found["PRESTO"] = search_presto
    return found


def search_edgefilter(scene: Scene, files: Sequence[Path], folder: Path) -> Search:
    """Search with ``edgefilter replay``; a run that compiled kernels is repeated.

    Parameters
    ----------
    scene, files
        The scene and its files.
    folder
        An empty folder.

    Returns
    -------
    Search
        The result.
    """
    store = folder / "store"
    widths = max(1, round(math.log2(scene.widest / scene.row_seconds)) + 1)
    command = [
        sys.executable, "-m", "edgefilter.cli.main", "replay", *files, "--store", store, "--dm",
        f"{scene.dm[0]:g}:{scene.dm[1]:g}", "--snr", SNR, "--set", f"pulses.widths={widths}", "--threads", 1,
        "--backend", "cpu", "--no-report",
    ]  # fmt: skip
    run = Run(folder)
    if "compiling" in run.command(*command):
        shutil.rmtree(store)
        run = Run(folder)
        run.command(*command)
    rows = edgefilter.open_store(str(store)).table("pulses").to_pylist()
    return run.search([Candidate(row["seconds"], row["dm"], row["width"], row["snr"]) for row in rows])


def search_transientx(scene: Scene, files: Sequence[Path], folder: Path) -> Search:
    """Search with ``transientx_fil``.

    Parameters
    ----------
    scene, files, folder
        See :func:`search_edgefilter`.

    Returns
    -------
    Search
        The result.
    """
    run, candidates = Run(folder), []
    for file in files:
        for lists in _transientx(run, scene, file):
            candidates += read_transientx(lists.read_text())
    return run.search(candidates)


def search_transientx_replot(scene: Scene, files: Sequence[Path], folder: Path) -> Search:
    """Search with ``transientx_fil``, and clean its candidates with ``replot_fil``.

    Parameters
    ----------
    scene, files, folder
        See :func:`search_edgefilter`.

    Returns
    -------
    Search
        The result.
    """
    run, candidates = Run(folder), []
    for file in files:
        for lists in _transientx(run, scene, file):
            options = ["-t", 1, "--clean", "--snrcutoff", SNR, "--widthcutoff", max(0.1, scene.widest), "--dmcutoff", 3]
            options += [] if scene.quiet else ["--zdot", "--kadane", 8, 4, 7]
            run.command("replot_fil", *options, "--candfile", lists, "-f", file)
            cleaned = folder / f"{lists.stem}_replot.cands"
            candidates += read_transientx(cleaned.read_text()) if cleaned.exists() else []
    return run.search(candidates)


def _transientx(run: Run, scene: Scene, file: Path) -> list[Path]:
    """Return the lists of candidates of a file."""
    step = _dm_step(scene)
    trials = math.ceil((scene.dm[1] - scene.dm[0]) / step) + 1
    filters = [] if scene.quiet else ["-z", "kadaneF", 8, 4, "zdot"]
    run.command(
        "transientx_fil", "-t", 1, "--fd", 1, "--overlap", 0.1, "--thre", SNR, "--maxw", max(0.1, scene.widest),
        "-l", 2.0, "--drop", "--dms", scene.dm[0], "--ddm", step, "--ndm", trials, "--rootname", file.stem,
        *filters, "-f", file,
    )  # fmt: skip
    return sorted(run.folder.glob(f"{file.stem}*.cands"))


def read_transientx(text: str) -> list[Candidate]:
    """Read a list of candidates of TransientX: beam, number, MJD, DM, width in ms, S/N, and more.

    Parameters
    ----------
    text
        Content of a file ``.cands``.

    Returns
    -------
    list of Candidate
        The candidates.
    """
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [
        Candidate((float(row[2]) - START_MJD) * _DAY, float(row[3]), float(row[4]) * 1e-3, float(row[5]))
        for row in rows
    ]


def search_presto(scene: Scene, files: Sequence[Path], folder: Path) -> Search:
    """Search with ``prepsubband`` and ``single_pulse_search.py``; ``rfifind`` first where there is interference.

    Its events are not grouped over DM, so :func:`group_events` does that.

    Parameters
    ----------
    scene, files, folder
        See :func:`search_edgefilter`.

    Returns
    -------
    Search
        The result.
    """
    run, events = Run(folder), []
    step = _dm_step(scene)
    trials = math.ceil((scene.dm[1] - scene.dm[0]) / step) + 1
    for file in files:
        masking: list[object] = []
        if not scene.quiet and shutil.which("rfifind"):
            run.command("rfifind", "-ncpus", 1, "-time", 0.5, "-o", file.stem, file)
            masking = ["-mask", f"{file.stem}_rfifind.mask", "-zerodm"]
        for first in range(0, trials, 500):  # the most that one call makes
            run.command(
                "prepsubband", "-ncpus", 1, "-nobary", *masking, "-lodm", scene.dm[0] + first * step, "-dmstep", step,
                "-numdms", min(500, trials - first), "-nsub", scene.band.channels, "-o", file.stem, file,
            )  # fmt: skip
        series = sorted(folder.glob(f"{file.stem}_DM*.dat"))
        run.command("single_pulse_search.py", "-p", "-t", SNR, "-m", scene.widest, *series)
        starts = [0.0, *(stop for _, stop in scene.gaps)]
        start = starts[list(files).index(file)]
        for path in folder.glob(f"{file.stem}_DM*.singlepulse"):
            events += read_presto(path.read_text(), scene.row_seconds, start)
    return run.search(group_events(scene, events))


def read_presto(text: str, row_seconds: float, start: float = 0.0) -> list[Candidate]:
    """Read a file ``.singlepulse`` of PRESTO: DM, sigma, time, sample, width in samples.

    Parameters
    ----------
    text
        Content of the file.
    row_seconds
        Time of a sample, s.
    start
        Start of the file within the scene, s.

    Returns
    -------
    list of Candidate
        The events.
    """
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [Candidate(float(r[2]) + start, float(r[0]), float(r[4]) * row_seconds, float(r[1])) for r in rows]


def group_events(scene: Scene, events: Sequence[Candidate]) -> list[Candidate]:
    """Return the events that no stronger one explains.

    A stronger event explains another if their tracks come within the sum of their widths at an end of the band, or
    cross within the band and differ by less than twenty such sums over it.

    Parameters
    ----------
    scene
        The scene.
    events
        Events of single trials.

    Returns
    -------
    list of Candidate
        The strongest event of each group, strongest first.
    """
    top, low = float(scene.band.frequencies.max()), scene.band.low
    ordered = sorted(events, key=lambda event: -event.snr)
    kept: list[Candidate] = []
    times = np.empty((0, 2))
    for event in ordered:
        ends = np.array([event.seconds, event.seconds + dispersion_delay(event.dm, low, top)])
        apart = ends - times
        reach = np.array([other.width for other in kept]) + event.width + 2 * scene.row_seconds
        near = np.abs(apart).min(axis=1) <= reach
        cross = (apart[:, 0] * apart[:, 1] < 0) & (np.abs(apart[:, 0] - apart[:, 1]) < 20 * reach)
        if not (near | cross).any():
            kept.append(event)
            times = np.vstack([times, ends])
    return kept


def _dm_step(scene: Scene) -> float:
    """Return the step at which half of it sweeps one row across the band, pc cm⁻³, of two digits."""
    step = 2 * scene.row_seconds / dispersion_delay(1.0, scene.band.low, scene.band.high)
    return float(f"{step:.2g}")
