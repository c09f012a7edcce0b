"""``edgefilter demo``: a node and a synthetic telescope; compare the detections with the injected pulses."""

import operator
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import edgefilter
from edgefilter.cli.options import ReportOption
from edgefilter.cli.report import write_report_beside
from edgefilter.cli.show import format_bytes
from edgefilter.core.errors import EdgefilterError, InputError

if TYPE_CHECKING:
    from edgefilter.sources.simulated.sky import SkyPulse
    from edgefilter.store.reader import StoreReader

_LOST_FRAME_INTERVAL = 97  # one frame in so many is not sent
_LISTENING = "listening on "


def command(
    store: Annotated[
        str | None, typer.Option("--store", help="Directory for the products.", show_default="a new one")
    ] = None,
    seconds: Annotated[float, typer.Option(min=4, help="Duration of the synthetic sky, s.")] = 16.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the synthetic sky.")] = 1,
    report: ReportOption = True,
) -> None:
    """Try everything: run a node, send it a synthetic sky, list the pulses that it finds."""
    # Imported here: numba and scipy take seconds to import, and --help does not need them.
    from edgefilter.node.run_directory import memory_directory
    from edgefilter.sources.live.zmq_sender import send
    from edgefilter.sources.simulated.sky import demo_sky
    from edgefilter.store.reader import open_store

    store_location = store or f"{tempfile.mkdtemp(prefix='edgefilter-demo-')}/store"
    run_directory = tempfile.mkdtemp(prefix="edgefilter-demo-", dir=memory_directory())
    sky = demo_sky(seconds, seed)
    typer.echo(
        f"telescope: {seconds:g} s of {sky.stream.bandwidth_hz / 1e6:g} MHz around "
        f"{sky.stream.first_channel_hz / 1e6:g} MHz, {format_bytes(sky.samples * sky.stream.sample_bytes)}, "
        f"{len(sky.truth)} pulses, interference, 1 frame in {_LOST_FRAME_INTERVAL} lost"
    )
    node = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "edgefilter.cli.main", "run", str(_find_config()), "--store", store_location,
         "--set", "input.endpoint=tcp://127.0.0.1:*", "--set", f"node.run_directory={run_directory}"],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        endpoint = _relay_output(node, until=_LISTENING)
        if endpoint is None:
            raise EdgefilterError("the node ended before it opened its input")
        send(sky, endpoint, None, drop=lambda frame: frame % _LOST_FRAME_INTERVAL == _LOST_FRAME_INTERVAL - 1)
        _relay_output(node)
    except BaseException:
        node.terminate()
        raise
    finally:
        node.wait(timeout=60)
        sky.close()
        shutil.rmtree(run_directory)
    if node.returncode:
        raise EdgefilterError(f"the node ended with exit status {node.returncode}")
    reader = open_store(store_location)
    Console().print(_comparison(reader, sky.truth))
    typer.echo(f"products: {store_location}; open them in Python with edgefilter.open_store({store_location!r})")
    if report:
        typer.echo(write_report_beside(store_location))


def _find_config() -> Path:
    """Find configs/demo.toml: in the checkout, or in the installed package's data folder."""
    folders = [Path(edgefilter.__file__).parents[1], Path(sysconfig.get_path("data")) / "share" / "edgefilter"]
    for folder in folders:
        path = folder / "configs" / "demo.toml"
        if path.is_file():
            return path
    raise InputError(f"configs/demo.toml: expected in {folders[0]} or in {folders[1]}")


def _relay_output(node: "subprocess.Popen[str]", until: str | None = None) -> str | None:
    """Print the node's lines up to the first that begins with ``until``, and return the rest of that line."""
    assert node.stdout is not None
    for line in node.stdout:
        typer.echo(f"node: {line.rstrip()}")
        if until and line.startswith(until):
            return line.removeprefix(until).strip()
    return None


def _comparison(reader: "StoreReader", truth: "Sequence[SkyPulse]") -> Table:
    found: list[dict[str, Any]] = reader.table("pulses").to_pylist()
    table = Table(title="injected pulses, and (bold) their detections; DM in pc/cm3", title_justify="left")
    for name in ("t (s)", "DM", "width (ms)", "S/N"):
        table.add_column(name, justify="right")
    for name in ("t (s)", "DM", "±", "width (ms)", "S/N"):
        table.add_column(name, justify="right", style="bold")
    matched = [False] * len(found)
    for pulse in truth:
        is_match = [
            abs(row["seconds"] - pulse.seconds) < 0.005 + 2 * pulse.width
            and abs(row["dm"] - pulse.dm) < 5 + 3 * row["dm_error"]
            for row in found
        ]
        matched = list(map(operator.or_, matched, is_match))
        rows = [row for row, close in zip(found, is_match, strict=True) if close]
        best = max(rows, key=lambda row: row["snr"], default=None)
        table.add_row(
            f"{pulse.seconds:.4f}", f"{pulse.dm:.1f}", f"{pulse.width * 1e3:.3g}", f"{pulse.snr:.1f}",
            *(
                (f"{best['seconds']:.4f}", f"{best['dm']:.1f}", f"{best['dm_error']:.1f}",
                 f"{best['width'] * 1e3:.3g}", f"{best['snr']:.1f}")
                if best
                else ("missed", "", "", "", "")
            ),
        )  # fmt: skip
    table.caption = f"{matched.count(False)} further candidates"
    table.caption_justify = "left"
    return table
