"""One block of a recording, flagged with and without some of the flaggers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import FLAGGERS, Flag, flag_name
from edgefilter.core.config import Reduction
from edgefilter.core.errors import InputError
from edgefilter.core.plan import Plan, resolve
from edgefilter.sources.base import Source
from edgefilter.stages.filterbank.channelise import input_stage
from edgefilter.stages.rfi.signal_loss import SignalLossMeter
from edgefilter.stages.rfi.stage import FlagStage

_DISABLED: dict[str, dict[str, Any]] = {
    "mask": {"mask": ()},
    **{name: {f"{name}_sigma": 0.0} for name in ("zero_dm", "kurtosis", "power", "carrier", "channel")},
}


@dataclass(frozen=True)
class FlagCase:
    """The flags of a block under some settings.

    Parameters
    ----------
    name
        ``all``, or ``without FLAGGER, …``.
    plan
        Layout and settings.
    intensity
        float32 ``[cell, channel]``: power, in the units of the stream.
    flags
        uint16 ``[cell, channel]``: bits of :class:`edgefilter.core.cells.Flag`.
    flagged
        Share of the cells that each flagger flagged, 0 to 1; a cell counts for each flagger that flagged it.
    cost
        Share of the S/N of injected signals that is lost, 0 to 1, by signal.
    """

    name: str
    plan: Plan
    intensity: NDArray[np.float32]
    flags: NDArray[np.uint16]
    flagged: dict[str, float]
    cost: dict[str, float]


def compare_flaggers(
    source: Source, settings: Reduction, without: tuple[str, ...], block: int, threads: int
) -> list[FlagCase]:
    """Flag a block, and flag it again without some of the flaggers.

    Parameters
    ----------
    source
        The recording.
    settings
        Settings of the reduction.
    without
        Flaggers to disable in the second case; if there are none, there is no second case.
    block
        Number of the block.
    threads
        Worker threads, 0 for one per core.

    Returns
    -------
    list
        One or two cases.

    Raises
    ------
    InputError
        If there is no such block.
    """
    cases: list[tuple[str, dict[str, Any]]] = [("all", {})]
    if without:
        disabled = {key: value for name in without for key, value in _DISABLED[name].items()}
        cases.append((f"without {', '.join(without)}", disabled))
    return [_flag_case(source, settings, name, change, block, threads) for name, change in cases]


def _flag_case(
    source: Source, settings: Reduction, name: str, change: dict[str, Any], block: int, threads: int
) -> FlagCase:
    case_settings = settings.model_copy(update={"flag": settings.flag.model_copy(update=change)})
    plan = Plan(source.stream, resolve(case_settings, source.stream, source.samples))
    blocks = -(-source.samples // plan.samples_per_block)
    if block >= blocks:
        raise InputError(f"--block {block}: the stream has {blocks} blocks, numbered from 0")
    with ThreadBackend(threads) as backend:
        stage, front_end = FlagStage(plan, backend), input_stage(plan, backend)
        start = block * plan.samples_per_block
        cells = front_end.reduce(source.read(start - front_end.history, start + plan.samples_per_block))
        stage.reduce(cells)
        costs = SignalLossMeter(plan, stage.flagger).measure(cells, block)
    present = cells.flags != Flag.LOST
    flagged = {flag_name(flag): float((cells.flags & flag != 0)[present].mean()) for flag in FLAGGERS}
    flagged["all"] = float((cells.flags != 0)[present].mean())
    cost = {f"{cost.signal} {cost.sigma:g} σ": cost.lost for cost in costs if cost.flagger == "all"}
    return FlagCase(name, plan, cells.power[:, :, 0], cells.flags, flagged, cost)


def plot_comparison(cases: list[FlagCase], path: Path) -> None:
    """Draw the power of the block, and beside it the flags of each case.

    Parameters
    ----------
    cases
        The cases.
    path
        The file; its ending names the format.

    Raises
    ------
    StoreError
        If the file cannot be written.
    """
    # Imported here, because matplotlib takes a second.
    import matplotlib as mpl
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    from edgefilter.analysis.plots.style import STYLE, flagger_colour, new_figure, save_figure

    plan, intensity = cases[0].plan, cases[0].intensity
    seconds = len(intensity) * plan.stream.seconds(plan.samples_per_cell)
    mhz = plan.frequencies_mhz
    extent = (float(mhz[0]), float(mhz[-1]), seconds, 0.0)
    median = np.median(intensity, axis=0)
    sigma = np.maximum(1.4826 * np.median(np.abs(intensity - median), axis=0), 1e-12)
    flags = (Flag.LOST, *FLAGGERS)
    colours = {"good": "#FFFFFF"} | {flag_name(flag): flagger_colour(flag_name(flag)) for flag in flags}
    with mpl.rc_context(STYLE):
        figure = new_figure(4.5 * (1 + len(cases)), 6)
        axes = figure.subplots(1, 1 + len(cases), sharex=True, sharey=True)
        axes[0].imshow((intensity - median) / sigma, aspect="auto", extent=extent, vmin=-2, vmax=6, cmap="cividis")
        axes[0].set(title="power (standard deviations)", xlabel="frequency (MHz)", ylabel="time (s)")
        for panel, case in zip(axes[1:], cases, strict=True):
            first = np.zeros(case.flags.shape, np.int8)
            for number, flag in reversed(list(enumerate(flags, start=1))):
                first[case.flags & flag != 0] = number
            panel.imshow(
                first,
                aspect="auto",
                extent=extent,
                cmap=ListedColormap(list(colours.values())),
                vmin=0,
                vmax=len(flags),
            )
            panel.set(title=f"{case.name}: {100 * case.flagged['all']:.2f} % flagged", xlabel="frequency (MHz)")
        handles = [Patch(facecolor=colour, edgecolor="k", label=name) for name, colour in colours.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    save_figure(figure, path)
