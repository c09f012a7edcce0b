"""Commands to a running node: ``status``, ``drain``, ``reload`` and ``upgrade``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edgefilter.cli.options import SetOption, read_settings
from edgefilter.cli.show import format_bytes
from edgefilter.core.errors import ConfigError, EdgefilterError

ConfigArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="CONFIG", help="TOML configuration of the node.", show_default='the node with the name "node"'
    ),
]

_INSTEAD = {
    "status": "each shows its own /status at the port of its --health-port",
    "drain": "instead, send SIGTERM to the receiver, then to the reducers, then to the forwarder",
    "reload": "instead, send SIGHUP to each: it ends, and its process manager starts it with the present configuration",
    "upgrade": "instead, send SIGHUP to each: it ends, and its process manager starts it with the installed version",
}
"""What to do with processes that run without a supervisor."""


def status(
    config: ConfigArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    assignments: SetOption = None,
) -> None:
    """Show the state of a running node; exit status 1 if it is not ready."""
    found = _call(config, assignments, "status")
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        _print_status(found)
    if not found["ready"]:
        raise EdgefilterError("; ".join(found["problems"]))


def drain(config: ConfigArgument = None, assignments: SetOption = None) -> None:
    """End a running node after it has reduced what has arrived and emptied its spool."""
    _call(config, assignments, "drain")


def reload(config: ConfigArgument = None, assignments: SetOption = None) -> None:
    """Make a running node read its configuration again; print the block from which it applies."""
    _call(config, assignments, "reload")


def upgrade(
    config: ConfigArgument = None,
    python: Annotated[
        str | None,
        typer.Option(help="Python interpreter of the new processes.", show_default="that of the running processes"),
    ] = None,
    new_config: Annotated[
        Path | None,
        typer.Option("--config", help="TOML configuration of the new reducers.", show_default="the present one"),
    ] = None,
    shadow: Annotated[
        int, typer.Option(min=0, help="Blocks that old and new reducer both reduce, to compare their products.")
    ] = 2,
    receiver: Annotated[bool, typer.Option("--receiver", help="Replace the receiver, not the reducers.")] = False,
    timeout: Annotated[
        float, typer.Option(min=1, help="Time for the new reducers to compile, catch up and compare, s.")
    ] = 600.0,
    assignments: SetOption = None,
) -> None:
    """Replace the reducers of a running node without losing a sample.

    If the new reducers fail, the old ones continue, and the exit status is 1.
    """
    path = str(new_config.absolute()) if new_config is not None else None
    arguments = {"python": python, "config": path, "shadow": shadow, "receiver": receiver, "timeout": timeout}
    _call(config, assignments, "upgrade", **arguments)


def _call(config: Path | None, assignments: list[str] | None, command: str, /, **arguments: Any) -> Any:
    from edgefilter.node.run_directory import lone_processes, run_directory
    from edgefilter.node.supervisor.control_socket import call

    directory = run_directory(read_settings(config, assignments, stages=False))
    try:
        return call(directory / "control.sock", command, typer.echo, **arguments)
    except ConfigError as error:
        processes = lone_processes(directory)
        if not processes:
            raise
        raise ConfigError(
            f"{error}, but these processes without a supervisor: {', '.join(processes)}; {_INSTEAD[command]}"
        ) from None


def _print_status(found: dict[str, Any]) -> None:
    state = "ready" if found["ready"] else "not ready"
    title = f"node {found['node']}, edgefilter {found['version']}, {state}, up {found['uptime_seconds']:g} s"
    table = Table(title=title, title_justify="left")
    for name in ("stream", "phase", "input", "lag (s)", "ring (s)", "blocks", "lost", "candidates"):
        table.add_column(name, justify="left" if name in ("stream", "phase") else "right")
    for stream in found["streams"]:
        account = stream["account"]
        lost = {name[5:]: count for name, count in account.items() if name.startswith("lost.") and count}
        depth = f"{stream['ring_seconds']:.3g} of {stream['ring_capacity_seconds']:.3g}" if stream["stream"] else ""
        table.add_row(
            stream["stream"] or stream["name"],
            stream["phase"],
            f"{format_bytes(stream['rates'].get('bytes', 0.0))}/s",
            f"{stream['lag_seconds']:.3g}" if stream["lag_seconds"] is not None else "",
            depth,
            str(account.get("blocks", 0)),
            ", ".join(f"{count} {reason}" for reason, count in lost.items()) or "0",
            str(account.get("candidates", 0)),
        )
    Console().print(table)
    spool = found["spool"]
    restarts = ", ".join(f"{role} {count}" for role, count in found["restarts"].items())
    processes = ", ".join(f"{process['name']} ({process['pid']})" for process in found["processes"])
    typer.echo(
        f"spool: {spool.get('products', 0)} products, {format_bytes(spool.get('bytes', 0))}; "
        f"{spool.get('stuck', 0)} stuck\n"
        f"restarts: {restarts}; upgrades: {found['upgrades']['done']} done, {found['upgrades']['failed']} failed\n"
        f"processes (pid): {processes}"
    )
