"""The commands of the ``edgefilter`` program, in the order in which ``edgefilter --help`` lists them."""

from typing import Annotated

import typer

from edgefilter.cli import (
    check,
    demo,
    export,
    flags,
    forward,
    keys,
    node,
    plot,
    plugins,
    receive,
    reduce,
    replay,
    report,
    run,
    send,
    store,
)
from edgefilter.core.version import __version__

app = typer.Typer(
    name="edgefilter",
    help="Reduce the sample stream of a radio telescope: flag interference, find pulses, account for every sample.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_GROUPS = {
    "Recordings": (replay, flags),
    "Results": (report, plot, export),
    "Nodes": (demo, check, run, receive, reduce, forward, send, keys, plugins),
}


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Handle the options that precede a command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


for group, modules in _GROUPS.items():
    for module in modules:
        name, shaped = module.__name__.rpartition(".")[2], getattr(module, "Command", None)
        app.command(name, cls=shaped, rich_help_panel=group)(module.command)
for node_command in (node.status, node.drain, node.reload, node.upgrade):
    app.command(rich_help_panel="Nodes")(node_command)
app.add_typer(store.app, name="store", rich_help_panel="Results")
