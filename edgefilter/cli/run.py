"""``edgefilter run``: run a node."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgefilter.cli.options import ConfigFileArgument, LogJsonOption, OtherStoreOption, SetOption, read_settings
from edgefilter.cli.show import compiling_line, counters_line, settings_lines, summary_lines
from edgefilter.core.errors import EdgefilterError

if TYPE_CHECKING:
    from edgefilter.core.config import NodeConfig
    from edgefilter.node.supervisor.supervisor import Supervisor


def command(
    config: ConfigFileArgument,
    store: OtherStoreOption = None,
    assignments: SetOption = None,
    log_json: LogJsonOption = False,
) -> None:
    """Run a node: receive streams over ZeroMQ and reduce them until they end.

    SIGTERM or SIGINT: reduce what has arrived, empty the spool, end.
    Either signal a second time: end at once; the next start continues there.
    SIGHUP: read the configuration again.
    """
    # Imported here: a node's modules take seconds to import, and --help does not need them.
    import asyncio

    from edgefilter.node.logs import JSON_VARIABLE, configure
    from edgefilter.node.run_directory import locked_run_directory
    from edgefilter.node.supervisor.supervisor import Supervisor

    def read_config(path: str | None) -> "NodeConfig":
        settings = read_settings(Path(path or config), assignments)
        if store is not None:
            settings = settings.model_copy(update={"store": settings.store.model_copy(update={"path": store})})
        return settings

    settings = read_config(None)
    configure(log_json)
    printer = _EventPrinter(silent=log_json)
    with locked_run_directory(settings):
        environment = {JSON_VARIABLE: "1"} if log_json else {}
        supervisor = Supervisor(settings, read_config, printer.print_event, environment)
        asyncio.run(supervisor.run())
    printer.print_summary(supervisor)
    refused = [f"stream {stream.name}: {stream.refused}" for stream in supervisor.state.streams if stream.refused]
    if refused:
        raise EdgefilterError("\n".join(refused))


class _EventPrinter:
    """Prints the events of a node, one line each; nothing if ``silent``, because the log has them."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent

    def print_event(self, event: str, **details: Any) -> None:
        """Print an event of the supervisor: the method with the name of the event makes its line."""
        if not self._silent:
            typer.echo(getattr(self, f"_{event}")(**details))

    def _listening(self, endpoint: str, stream: str) -> str:  # noqa: ARG002 - the endpoint identifies the stream
        return f"listening on {endpoint}"

    def _stream(self, header: str, config: "NodeConfig") -> str:
        from edgefilter.core.plan import Plan, resolve
        from edgefilter.core.stream import Stream

        stream = Stream.from_json(header)
        return "\n".join(settings_lines(Plan(stream, resolve(config, stream))))

    def _compiling(self, kernel: str) -> str:
        return compiling_line(kernel)

    def _block(self, stream: str, block: int, counts: dict[str, int]) -> str:  # noqa: ARG002 - one line per block
        flagged = sum(count for name, count in counts.items() if name.startswith("flagged."))
        return (
            f"block {block}: {counts['received']} of {counts['expected']} samples, "
            f"{flagged / max(1, counts['cells']):.2%} of cells flagged, {counts['candidates']} candidates"
        )

    def _remaining(self, products: int, why: str) -> str:
        return f"{products} products remain in the spool until the next start" + (f": {why}" if why else "")

    def print_summary(self, supervisor: "Supervisor") -> None:
        """Print the totals of each stream."""
        if self._silent:
            return
        for stream in supervisor.state.streams:
            counts = stream.reducer.state.get("tally") if stream.reducer is not None else None
            if counts:
                typer.echo("\n".join(summary_lines(counts, supervisor.state.config.store.path)))
            typer.echo(counters_line(stream.counters))
