"""The ``edgefilter`` program: collects the commands and turns errors into one line and an exit status."""

import sys
from typing import Annotated

import typer

from edgefilter.cli import check, demo, flags, replay, run, send
from edgefilter.errors import EdgefilterError
from edgefilter.version import __version__

_INTERRUPTED = 130

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


for module in (replay, run, send, check, flags, demo):
    app.command(name=module.__name__.rsplit(".", 1)[-1])(module.command)


def main() -> None:
    """Run the program: exit status 0, 1 for an error of ours, 2 for wrong usage, 130 when interrupted."""
    try:
        app()
    except EdgefilterError as error:
        for line in str(error).splitlines():
            print(f"edgefilter: {line}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as ending:
        if ending.code == _INTERRUPTED:  # what typer makes of KeyboardInterrupt, without a word
            print("edgefilter: interrupted", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
