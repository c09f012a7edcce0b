"""``edgefilter run``: a node."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from edgefilter.cli.options import OtherStoreOption, SetOption, overrides
from edgefilter.cli.show import compiling_line, counters_line, settings_lines, summary_lines
from edgefilter.core.config import NodeConfig, load
from edgefilter.core.errors import EdgefilterError

if TYPE_CHECKING:
    from edgefilter.node.supervisor.supervisor import Supervisor


def command(
    config: Annotated[Path, typer.Argument(help="TOML configuration.")],
    store: OtherStoreOption = None,
    assignments: SetOption = None,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log JSON, a line a fact, and print nothing else.")
    ] = False,
) -> None:
    """Run a node: receive streams over ZeroMQ and reduce them until they end.

    SIGTERM and SIGINT have it finish what has arrived; a second one ends it at once, and the next start goes on. SIGHUP
    reads the configuration again.
    """
    # Imported here, because what a node needs takes a while that --help need not wait.
    from edgefilter.node.logs import JSON_VARIABLE, configure
    from edgefilter.node.run_directory import locked_run_directory, run_directory
    from edgefilter.node.supervisor.supervisor import Supervisor

    def read_config(path: str | None) -> NodeConfig:
        loaded = load(path or config, overrides(assignments))
        if store is not None:
            loaded = loaded.model_copy(update={"store": loaded.store.model_copy(update={"path": store})})
        return loaded

    settings = read_config(None)
    configure(log_json)
    event_printer = _EventPrinter(log_json)
    with locked_run_directory(run_directory(settings), settings.node.name):
        environment = {JSON_VARIABLE: "1"} if log_json else {}
        supervisor = Supervisor(settings, read_config, event_printer.print_event, environment)
        asyncio.run(supervisor.run())
    event_printer.close(supervisor)
    refused = [f"stream {stream.name}: {stream.refused}" for stream in supervisor.state.streams if stream.refused]
    if refused:
        raise EdgefilterError("\n".join(refused))


class _EventPrinter:
    """Prints what happens, unless the log says it already."""

    def __init__(self, silent: bool) -> None:
        self._console = Console(quiet=silent)

    def print_event(self, event: str, **details: Any) -> None:
        getattr(self, f"_{event}")(**details)

    def _print_line(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _listening(self, endpoint: str, stream: str) -> None:  # noqa: ARG002 - the endpoint tells it
        self._print_line(f"listening on {endpoint}")

    def _stream(self, header: str, config: NodeConfig) -> None:
        from edgefilter.core.plan import Plan, resolve
        from edgefilter.core.stream import Stream

        stream = Stream.from_json(header)
        for line in settings_lines(Plan(stream, resolve(config, stream))):
            self._print_line(line)

    def _compiling(self, kernel: str) -> None:
        self._print_line(compiling_line(kernel))

    def _block(self, stream: str, block: int, counts: dict[str, int]) -> None:  # noqa: ARG002
        flagged = sum(count for name, count in counts.items() if name.startswith("flagged."))
        self._print_line(
            f"block {block}: {counts['received']} of {counts['expected']} samples, "
            f"{flagged / max(1, counts['cells']):.2%} of cells flagged, {counts['candidates']} candidates"
        )

    def _remaining(self, products: int, why: str) -> None:
        self._print_line(f"{products} products remain in the spool until the next start" + (f": {why}" if why else ""))

    def close(self, supervisor: "Supervisor") -> None:
        for stream in supervisor.state.streams:
            counts = stream.reducer.state.get("tally") if stream.reducer is not None else None
            if counts:
                for line in summary_lines(counts, supervisor.state.config.store.path):
                    self._print_line(line)
            self._print_line(counters_line(stream.counters))
