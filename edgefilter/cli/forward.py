"""``edgefilter forward``: move the products of a spool to a store, without a node."""

import signal
import threading
from typing import Annotated

import typer

from edgefilter.cli.options import SetOption, read_settings
from edgefilter.cli.show import format_bytes, warn


def command(
    spool: Annotated[str, typer.Argument(metavar="SPOOL", help="Directory of the spool.")],
    to: Annotated[
        str, typer.Option("--to", metavar="STORE", help="Store to move to: directory, file:// or s3:// URL.")
    ],
    drain: Annotated[bool, typer.Option("--drain", help="End when the spool is empty.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="First release the stuck products, which the store has refused.")
    ] = False,
    assignments: SetOption = None,
) -> None:
    """Move products from a spool to a store, as a running node does.

    Exit status 1 if products are stuck: the store refuses them.
    """
    from edgefilter.node.forwarder.process import POLL_SECONDS, Forwarder
    from edgefilter.spool import Spool
    from edgefilter.store.connect import connect

    settings = read_settings(None, assignments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Spool.open(spool).close()  # fails if it does not exist; the forwarder's role would create it
    store = connect(to, create=True, timeout=settings.spool.request_seconds)
    with Spool.open(spool, role="forwarder") as open_spool:
        if any((open_spool.recovered.orphans, open_spool.recovered.lost)):
            typer.echo(f"spool {open_spool.location}: {open_spool.recovered}")
        if again:
            typer.echo(f"{open_spool.release()} stuck products released")
        with Forwarder(open_spool, store, settings.spool, settings.node.name) as forwarder:
            forwarder.draining = drain
            reported_error = ""
            while not stop.is_set() and not (drain and forwarder.finished):
                forwarder.step()
                if forwarder.status.last_error != reported_error:
                    reported_error = forwarder.status.last_error
                    warn(reported_error)
                forwarder.wait(POLL_SECONDS)
        forwarder.step()
    status = forwarder.status
    typer.echo(
        f"{status.uploaded} products, {format_bytes(status.uploaded_bytes)} forwarded; "
        f"{status.products} products wait, {status.stuck} of them stuck"
    )
    if status.stuck:
        raise typer.Exit(1)
