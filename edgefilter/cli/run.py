"""``edgefilter run``: the node daemon."""

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from edgefilter.cli.options import OtherStoreOption, SetOption, overrides
from edgefilter.cli.show import closing_lines, compiling_line, counters_line, settings_lines
from edgefilter.config import load

if TYPE_CHECKING:
    from edgefilter.engine import ReducedSummary


def command(
    config: Annotated[Path, typer.Argument(help="TOML configuration.")],
    store: OtherStoreOption = None,
    assignments: SetOption = None,
) -> None:
    """Receive a stream over ZeroMQ and reduce it until it ends, or until SIGTERM or SIGINT."""
    # Imported here, because numba and scipy take seconds that --help need not wait.
    from edgefilter.node.daemon import Daemon
    from edgefilter_kernels.jit import compilations

    settings = load(config, overrides(assignments))
    console = Console()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def tell(done: "ReducedSummary") -> None:
        say(
            f"block {done.block}: {done.received} of {done.expected} samples, "
            f"{done.flagged_fraction:.2%} of cells flagged, {len(done.pulses)} candidates"
        )

    with (
        compilations(lambda kernel: say(compiling_line(kernel))),
        Daemon(settings, store or settings.store.path) as daemon,
    ):
        say(f"listening on {daemon.endpoint}")
        plan = daemon.wait_for_stream(stop)
        if plan is not None:
            for line in settings_lines(plan):
                say(line)
            daemon.reduce(stop, tell)
            for line in closing_lines(daemon.tally, str(daemon.store.location)):
                say(line)
        say(counters_line(daemon.counters))
