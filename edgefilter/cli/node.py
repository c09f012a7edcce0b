"""Commands to a running node: ``status``, ``drain``, ``reload`` and ``upgrade``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edgefilter.cli.options import SetOption, overrides
from edgefilter.cli.show import format_bytes
from edgefilter.core.config import NodeConfig, load
from edgefilter.core.errors import EdgefilterError
from edgefilter.core.validation import validate

ConfigArgument = Annotated[
    Path | None, typer.Argument(help="The node's configuration; without it, a node of the name 'node'.")
]


def _call(
    config: Path | None, assignments: list[str] | None, command: str, arguments: dict[str, Any] | None = None
) -> Any:
    from edgefilter.node.run_directory import run_directory
    from edgefilter.node.supervisor.control_socket import call

    changes = overrides(assignments)
    settings = load(config, changes) if config is not None else validate(NodeConfig, {}, changes)
    return call(run_directory(settings) / "control.sock", command, typer.echo, **(arguments or {}))


def status(
    config: ConfigArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    assignments: SetOption = None,
) -> None:
    """Show how a running node is; exit status 1 if it is not ready."""
    found = _call(config, assignments, "status")
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        _show(found, Console())
    if not found["ready"]:
        raise EdgefilterError("; ".join(found["problems"]))


def drain(config: ConfigArgument = None, assignments: SetOption = None) -> None:
    """Have a running node finish what has arrived, empty its spool, and end."""
    _call(config, assignments, "drain")


def reload(config: ConfigArgument = None, assignments: SetOption = None) -> None:
    """Have a running node read its configuration again; it takes effect at a block that is told."""
    _call(config, assignments, "reload")


def upgrade(
    config: ConfigArgument = None,
    python: Annotated[str | None, typer.Option(help="Interpreter of the new processes.")] = None,
    new_config: Annotated[Path | None, typer.Option("--config", help="Configuration of the new reducers.")] = None,
    shadow: Annotated[int, typer.Option(min=0, help="Blocks to compare before the new ones take over.")] = 2,
    receiver: Annotated[bool, typer.Option("--receiver", help="Replace the receiver, not the reducers.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to compile, catch up and compare.")] = 600.0,
    assignments: SetOption = None,
) -> None:
    """Replace the reducers of a running node, without losing a sample; if that fails the old ones go on."""
    named = str(new_config.absolute()) if new_config is not None else None
    wanted = {"python": python, "config": named, "shadow": shadow, "receiver": receiver, "timeout": timeout}
    _call(config, assignments, "upgrade", wanted)


def _show(found: dict[str, Any], console: Console) -> None:
    state = "ready" if found["ready"] else "not ready"
    title = f"node {found['node']}, edgefilter {found['version']}, {state}, up {found['uptime_seconds']:g} s"
    table = Table(title=title, title_justify="left")
    for name in ("stream", "phase", "arrives", "lag s", "ring s", "blocks", "lost", "candidates"):
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
    console.print(table)
    spool = found["spool"]
    restarts = ", ".join(f"{role} {count}" for role, count in found["restarts"].items())
    for line in (
        f"spool: {spool.get('products', 0)} products, {format_bytes(spool.get('bytes', 0))}; "
        f"stuck {spool.get('stuck', 0)}",
        f"restarts: {restarts}; upgrades: {found['upgrades']['done']} done, {found['upgrades']['failed']} failed",
        "processes: " + ", ".join(f"{process['name']} ({process['pid']})" for process in found["processes"]),
    ):
        console.print(line, highlight=False, soft_wrap=True)
