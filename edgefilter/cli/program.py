"""The commands of the ``edgefilter`` program."""

from typing import Annotated

import typer

from edgefilter.cli import check, demo, export, flags, forward, keys, node, plot, replay, report, run, send, store
from edgefilter.core.version import __version__

app = typer.Typer(
    name="edgefilter",
    help="Tells signal from noise where a radio telescope's stream is born, and accounts for all it discards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Collect the options that go before a command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


for module in (replay, report, plot, export, flags, run, send, check, demo, forward, keys):
    app.command(name=module.__name__.rsplit(".", 1)[-1])(module.command)
for node_command in (node.status, node.drain, node.reload, node.upgrade):
    app.command()(node_command)
app.add_typer(store.app, name="store")
