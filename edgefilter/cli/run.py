"""``edgefilter run``: the node daemon."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edgefilter.cli.options import SetOption, overrides
from edgefilter.cli.show import closing_lines, settings_lines
from edgefilter.config import load
from edgefilter.engine import ReducedSummary
from edgefilter.node.daemon import Daemon


def command(
    config: Annotated[Path, typer.Argument(help="TOML configuration.")],
    store: Annotated[
        str | None, typer.Option("--store", help="Directory of the products, instead of the file's.")
    ] = None,
    assignments: SetOption = None,
) -> None:
    """Receive a stream over ZeroMQ and reduce it until it ends, or until SIGTERM or SIGINT."""
    settings = load(config, overrides(assignments))
    console = Console()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def tell(done: ReducedSummary) -> None:
        say(
            f"block {done.block}: {done.received} of {done.expected} samples, "
            f"{done.flagged_fraction:.2%} of cells flagged, {len(done.pulses)} candidates"
        )

    with Daemon(settings, store or settings.store.path) as daemon:
        say(f"listening on {daemon.endpoint}")
        plan = daemon.wait_for_stream(stop)
        if plan is not None:
            for line in settings_lines(plan):
                say(line)
            daemon.reduce(stop, tell)
            for line in closing_lines(daemon.tally, str(daemon.store.location)):
                say(line)
        say(f"received: {daemon.counters}")
