"""``edgefilter forward``: empty a spool by hand."""

import signal
import sys
import threading
from typing import Annotated

import typer

from edgefilter.cli.options import SetOption, overrides
from edgefilter.core.config import NodeConfig
from edgefilter.core.validation import validate


def command(
    spool: Annotated[str, typer.Argument(help="Directory of the spool.")],
    to: Annotated[str, typer.Option("--to", help="Directory, file:// or s3:// URL that the products go to.")],
    drain: Annotated[bool, typer.Option("--drain", help="End when nothing is left.")] = False,
    again: Annotated[bool, typer.Option("--again", help="First let what the store refused be tried again.")] = False,
    assignments: SetOption = None,
) -> None:
    """Forward products from a spool to a store: what a node does by itself."""
    from edgefilter.node.forwarder.process import POLL_SECONDS, Forwarder
    from edgefilter.spool import Spool
    from edgefilter.store.connect import connect

    settings = validate(NodeConfig, {}, overrides(assignments), where="settings")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Spool.open(spool).close()  # must be there: nobody means a new one
    store = connect(to, create=True, timeout=settings.spool.request_seconds)
    with Spool.open(spool, role="forwarder") as open_spool:
        if any((open_spool.recovered.orphans, open_spool.recovered.lost)):
            print(f"spool {open_spool.location}: {open_spool.recovered}")
        if again:
            print(f"{open_spool.release()} products are tried again")
        with Forwarder(open_spool, store, settings.spool, settings.node.name) as forwarder:
            forwarder.draining = drain
            reported_error = ""
            while not stop.is_set() and not (drain and forwarder.finished):
                forwarder.step()
                if forwarder.status.last_error != reported_error:
                    reported_error = forwarder.status.last_error
                    print(f"edgefilter: warning: {reported_error}", file=sys.stderr)
                forwarder.wait(POLL_SECONDS)
        forwarder.step()
    status = forwarder.status
    print(
        f"{status.uploaded} products, {status.uploaded_bytes} B forwarded; "
        f"{status.products} products wait, {status.stuck} of them stuck"
    )
    if status.stuck:
        raise typer.Exit(1)
