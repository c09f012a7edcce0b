"""``edgefilter send``: the telescope's side of the wire."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefilter.cli.show import format_bytes
from edgefilter.core.errors import ConfigError

if TYPE_CHECKING:
    from edgefilter.sources.base import Source


def command(
    what: Annotated[list[str], typer.Argument(help="Recorded files, or the word synthetic.")],
    to: Annotated[str, typer.Option("--to", help="ZeroMQ endpoint of the node.")],
    speed: Annotated[str, typer.Option(help="Times real time, or max.")] = "1",
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of the synthetic sky, s.")] = 16.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the synthetic sky.")] = 1,
    bind: Annotated[bool, typer.Option(help="Bind the endpoint, for a node that connects to it.")] = False,
    key: Annotated[Path | None, typer.Option("--key", help="Own NAME.key_secret, for a node with CURVE.")] = None,
    node_key: Annotated[Path | None, typer.Option("--node-key", help="The node's NAME.key.")] = None,
) -> None:
    """Send recorded files or a synthetic sky to a node."""
    # Imported here, because numba and scipy take seconds that --help need not wait.
    from edgefilter.node.malloc import keep_freed_memory
    from edgefilter.sources.files.recognise import open_files
    from edgefilter.sources.live.curve_keys import SenderKeys, load_key_pair, load_public_key
    from edgefilter.sources.live.zmq_sender import SendOptions, send
    from edgefilter.sources.simulated.sky import demo_sky

    keep_freed_memory()
    pace = _parse_speed(speed)
    if (key is None) != (node_key is None):
        raise ConfigError("--key and --node-key go together")
    keys = None if key is None or node_key is None else SenderKeys(load_key_pair(key), load_public_key(node_key))
    source: Source = demo_sky(seconds, seed) if what == ["synthetic"] else open_files(what)
    try:
        for warning in source.warnings:
            typer.echo(f"edgefilter: warning: {warning}", err=True)
        report = send(source, to, pace, options=SendOptions(bind=bind, keys=keys))
    finally:
        source.close()
    typer.echo(
        f"sent {report.frames} frames, {format_bytes(report.bytes)}, {report.samples} samples of {source.stream.id}"
    )


def _parse_speed(speed: str) -> float | None:
    if speed == "max":
        return None
    try:
        pace = float(speed)
    except ValueError:
        pace = 0.0
    if not 0 < pace < float("inf"):
        raise ConfigError(f"--speed {speed}: must be a positive number of times real time, or max")
    return pace
