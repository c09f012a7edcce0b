"""``edgefilter keys``: a key pair for a node or for a sender."""

from pathlib import Path
from typing import Annotated

import typer

from edgefilter.sources.live.curve_keys import make_key_pair


def command(
    name: Annotated[str, typer.Argument(help="Whose keys: the node's or the sender's name.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder of the two files.")] = Path(),
) -> None:
    """Make a CURVE key pair: NAME.key to give away, NAME.key_secret (mode 0600) to keep."""
    public, secret = make_key_pair(folder, name)
    typer.echo(f"public key, to give away: {public}")
    typer.echo(f"secret key, to keep:      {secret}")
