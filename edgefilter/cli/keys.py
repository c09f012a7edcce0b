"""``edgefilter keys``: make the CURVE keys of a node or of a sender."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the node or of the sender.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the two files.")] = Path(),
) -> None:
    """Make a key pair for an encrypted link: NAME.key (public) and NAME.key_secret.

    Copy NAME.key to the other machine. NAME.key_secret (mode 0600) must not leave
    this one.
    """
    from edgefilter.sources.live.curve_keys import make_key_pair

    public, secret = make_key_pair(folder, name)
    typer.echo(f"public key, for the other machine: {public}")
    typer.echo(f"secret key, for this machine only: {secret}")
