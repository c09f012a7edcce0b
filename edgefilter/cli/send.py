"""``edgefilter send``: send a stream to a node, as a telescope does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefilter.cli.show import format_bytes, warn
from edgefilter.core.errors import ConfigError

if TYPE_CHECKING:
    from edgefilter.sources.base import Source


def command(
    what: Annotated[
        list[str], typer.Argument(metavar="FILE", help='Recorded files of one stream, or the word "synthetic".')
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="ENDPOINT", help="ZeroMQ endpoint of the node, such as tcp://HOST:7214.")
    ],
    speed: Annotated[
        str, typer.Option(metavar="FACTOR", help='Speed relative to real time, or "max": as fast as the node takes it.')
    ] = "1",
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of the synthetic sky, s.")] = 16.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the synthetic sky.")] = 1,
    bind: Annotated[bool, typer.Option(help="Bind the endpoint, for a node with input.connect.")] = False,
    key: Annotated[
        Path | None, typer.Option("--key", help="Secret key of this sender, NAME.key_secret, for an encrypted link.")
    ] = None,
    node_key: Annotated[
        Path | None, typer.Option("--node-key", help="Public key of the node, NAME.key, for an encrypted link.")
    ] = None,
) -> None:
    """Send recorded files or a synthetic sky to a node."""
    # Imported here: numba and scipy take seconds to import, and --help does not need them.
    from edgefilter.node.malloc import keep_freed_memory
    from edgefilter.sources.files.recognise import open_files
    from edgefilter.sources.live.curve_keys import SenderKeys, load_key_pair, load_public_key
    from edgefilter.sources.live.zmq_sender import SendOptions, send
    from edgefilter.sources.simulated.sky import demo_sky

    keep_freed_memory()
    pace = _parse_speed(speed)
    if (key is None) != (node_key is None):
        raise ConfigError("--key and --node-key must be given together")
    keys = None if key is None or node_key is None else SenderKeys(load_key_pair(key), load_public_key(node_key))
    source: Source = demo_sky(seconds, seed) if what == ["synthetic"] else open_files(what)
    try:
        for warning in source.warnings:
            warn(warning)
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
        raise ConfigError(f"--speed {speed}: must be a positive number (1 is real time) or max")
    return pace
