"""``edgefilter forward``: move the products of a spool to a store, as a process of a node or without a node."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefilter.cli.options import HealthPortOption, LogJsonOption, SetOption, read_settings
from edgefilter.cli.show import format_bytes
from edgefilter.core.errors import ConfigError
from edgefilter.core.locks import acquire_lock

if TYPE_CHECKING:
    from edgefilter.core.config import NodeConfig


def command(
    what: Annotated[
        Path, typer.Argument(metavar="CONFIG|SPOOL", help="TOML configuration of a node, or directory of a spool.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="STORE",
            help="Store to move to: directory, file:// or s3:// URL; only with SPOOL.",
            show_default="store.path of CONFIG",
        ),
    ] = None,
    drain: Annotated[bool, typer.Option("--drain", help="End when the spool is empty.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="First release the stuck products, which the store has refused.")
    ] = False,
    health_port: HealthPortOption = None,
    assignments: SetOption = None,
    log_json: LogJsonOption = False,
) -> None:
    """Move products from a spool to a store.

    With CONFIG it waits until the node has a spool; SIGTERM or SIGINT: empty the
    spool within node.drain_seconds, end. With SPOOL they end it at once.
    A second signal ends it at once. SIGHUP always does.
    Exit status 1 if products are stuck: the store refuses them.
    """
    # Imported here: pyarrow takes long to import, and --help does not need it.
    import logging

    from edgefilter.node.forwarder.process import serve
    from edgefilter.node.logs import configure
    from edgefilter.node.process_settings import forwarder_settings
    from edgefilter.node.run_directory import make_run_directory
    from edgefilter.node.service import ServiceLink

    settings, spool = _settings(what, to, assignments)
    configure(log_json, logging.INFO if to is None else logging.WARNING)
    seconds = settings.node.drain_seconds if to is None else 0.0
    with ExitStack() as stack:
        if to is None:  # the spool has a lock of its own, but there may be no spool yet
            lock = make_run_directory(settings) / "forwarder.lock"
            acquire_lock(stack, lock, 0.0, ConfigError(f"another forwarder runs in {lock.parent}"))
        link = stack.enter_context(ServiceLink("forwarder", settings, health_port=health_port, drain_seconds=seconds))
        status = serve(link, forwarder_settings(settings, spool, wait_seconds=0.0), drain=drain, release=again)
        if log_json:
            link.send("ended", uploaded=status.uploaded, products=status.products, stuck=status.stuck)
    if not log_json:
        typer.echo(
            f"{status.uploaded} products, {format_bytes(status.uploaded_bytes)} forwarded; "
            f"{status.products} products wait, {status.stuck} of them stuck"
        )
    if status.stuck and (drain or to is not None):
        raise typer.Exit(1)


def _settings(what: Path, to: str | None, assignments: list[str] | None) -> tuple["NodeConfig", str]:
    """Return the configuration, and the directory of the spool."""
    if to is None:
        if what.is_dir():
            raise ConfigError(f"{what} is the directory of a spool: --to must say to which store its products go")
        settings = read_settings(what, assignments, stages=False)
        return settings, settings.spool_directory
    if not what.is_dir():
        raise ConfigError(f"{what} is not the directory of a spool: --to goes with the directory of a spool alone")
    from edgefilter.spool import Spool

    Spool.open(what).close()  # fails if there is no spool in the directory
    settings = read_settings(None, assignments)
    return settings.model_copy(update={"store": settings.store.model_copy(update={"path": to})}), str(what)
