"""Options that several commands share, and what they mean."""

from collections.abc import Sequence
from typing import Annotated

import typer

from edgefilter.core.config import Backend
from edgefilter.core.errors import ConfigError


def _store(path: str | None) -> str | None:
    if path == "":  # would be the working directory, which nobody means by it: an unset shell variable does
        raise ConfigError("--store is empty: must be a directory")
    return path


StoreOption = Annotated[str, typer.Option("--store", callback=_store, help="Directory that the products go to.")]
OtherStoreOption = Annotated[
    str | None, typer.Option("--store", callback=_store, help="Directory of the products, instead of the file's.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as pulses.widths=7.")
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=0, help="Worker threads; 0 is one a core.")]
BackendOption = Annotated[
    Backend | None, typer.Option("--backend", help="What reduces; auto takes an NVIDIA card if it can.  [default: cpu]")
]
ReportOption = Annotated[bool, typer.Option("--report/--no-report", help="End by writing STORE-report.html.")]


def overrides(assignments: Sequence[str] | None, dm: str | None = None, snr: float | None = None) -> dict[str, str]:
    """Turn ``--set``, ``--dm`` and ``--snr`` into overrides of :func:`edgefilter.core.config.load`.

    Raises
    ------
    ConfigError
        If one is not of the form KEY=VALUE or LOW:HIGH.
    """
    values = {}
    for text in assignments or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: must be KEY=VALUE, such as pulses.snr=8")
        values[key.strip()] = value.strip()
    if dm is not None:
        low, colon, high = dm.partition(":")
        try:
            values["pulses.dm"] = f"[{float(low)}, {float(high)}]"
        except ValueError:
            raise ConfigError(f"--dm {dm}: must be LOW:HIGH in pc/cm3, such as 0:1000") from None
        if not colon:
            raise ConfigError(f"--dm {dm}: must be LOW:HIGH in pc/cm3, such as 0:1000")
    if snr is not None:
        values["pulses.snr"] = str(snr)
    return values
