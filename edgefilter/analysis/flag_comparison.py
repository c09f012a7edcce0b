"""One block of a recording, flagged with and without some flaggers."""

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
    """A block's flags under some settings.

    Parameters
    ----------
    name
        ``all`` or ``without …``.
    plan
        Layout and settings.
    intensity
        float32 ``[cell, channel]``.
    flags
        uint16 ``[cell, channel]``.
    flagged
        Fraction of the cells that each flagger took, whoever else did.
    cost
        Fraction of the S/N of signals put in that is lost.
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
    """Flag a block as the settings say, and, if any are named, once more without some flaggers.

    Raises
    ------
    InputError
        If there is no such block.
    """
    cases: list[tuple[str, dict[str, Any]]] = [("all", {})]
    if without:
        disabled: dict[str, Any] = {}
        for name in without:
            disabled |= _DISABLED[name]
        cases.append((f"without {', '.join(without)}", disabled))
    return [_flag_case(source, settings, name, change, block, threads) for name, change in cases]


def _flag_case(
    source: Source, settings: Reduction, name: str, change: dict[str, Any], block: int, threads: int
) -> FlagCase:
    case_settings = settings.model_copy(update={"flag": settings.flag.model_copy(update=change)})
    plan = Plan(source.stream, resolve(case_settings, source.stream, source.samples))
    blocks = -(-source.samples // plan.samples_per_block)
    if block >= blocks:
        raise InputError(f"--block {block}: the stream has {blocks} blocks, from 0")
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
    """Draw the block and its masks side by side.

    Raises
    ------
    InputError
        If the picture cannot be written.
    """
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    plan, intensity = cases[0].plan, cases[0].intensity
    figure = Figure(figsize=(4.5 * (1 + len(cases)), 6), layout="constrained")
    axes = figure.subplots(1, 1 + len(cases), sharex=True, sharey=True)
    seconds = len(intensity) * plan.stream.seconds(plan.samples_per_cell)
    mhz = plan.frequencies_mhz
    extent = (float(mhz[0]), float(mhz[-1]), seconds, 0.0)
    middle = np.median(intensity, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(intensity - middle), axis=0), 1e-12)
    axes[0].imshow((intensity - middle) / spread, aspect="auto", extent=extent, vmin=-2, vmax=6, cmap="viridis")
    axes[0].set(title="power over noise", xlabel="MHz", ylabel="s")
    names = ["good", *(flag_name(flag) for flag in (Flag.LOST, *FLAGGERS))]
    colours = ["#ffffff", "#bbbbbb", "#555555", "#e69f00", "#0072b2", "#d55e00", "#009e73", "#cc79a7"]
    for axis, case in zip(axes[1:], cases, strict=True):
        booked = np.zeros(case.flags.shape, np.int8)
        for number, flag in reversed(list(enumerate((Flag.LOST, *FLAGGERS), start=1))):
            booked[case.flags & flag != 0] = number
        norm = BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names))
        axis.imshow(
            booked, aspect="auto", extent=extent, cmap=ListedColormap(colours), norm=norm, interpolation="nearest"
        )
        axis.set(title=f"{case.name}: {100 * case.flagged['all']:.2f} %", xlabel="MHz")
    handles = [Patch(facecolor=colour, edgecolor="k", label=name) for name, colour in zip(names, colours, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(names))
    try:
        figure.savefig(path, dpi=80)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
