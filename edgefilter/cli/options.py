"""Options that several commands share, and the settings that they make."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgefilter.core.errors import ConfigError

if TYPE_CHECKING:
    from edgefilter.core.config import NodeConfig


def _check_store(location: str | None) -> str | None:
    if location == "":  # an unset shell variable; it would mean the working directory
        raise ConfigError("--store is empty: expected a directory or a URL")
    return location


StoreOption = Annotated[
    str, typer.Option("--store", callback=_check_store, help="Store for the products: directory or s3:// URL.")
]
OtherStoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        callback=_check_store,
        help="Store for the products: directory or s3:// URL.",
        show_default="store.path of CONFIG",
    ),
]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="Store to read: directory, file:// or s3:// URL.")]
FilesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="Recorded files of one stream; their headers give their order in time."),
]
ConfigFileArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML configuration.")]
LogJsonOption = Annotated[
    bool, typer.Option("--log-json", help="Log JSON lines to standard error, and print nothing else.")
]
HealthPortOption = Annotated[
    int | None,
    typer.Option(
        "--health-port",
        min=0,
        max=65535,
        metavar="PORT",
        help="HTTP port on 127.0.0.1 for /healthz, /readyz, /status, /metrics of this process; 0 is any free port.",
        show_default="no port",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as pulses.widths=7; repeatable."),
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=0, help="Worker threads; 0 is one per core.")]
BackendOption = Annotated[
    Literal["auto", "cpu", "gpu"] | None,
    typer.Option(
        "--backend",
        help="Processor (cpu) or NVIDIA GPU (gpu); auto uses a GPU if there is one.",
        show_default="node.backend of the configuration, or cpu",
    ),
]
ReportOption = Annotated[bool, typer.Option("--report/--no-report", help="Write STORE-report.html at the end.")]


def read_settings(
    config: Path | None,
    assignments: Sequence[str] | None,
    dm: str | None = None,
    snr: float | None = None,
    stages: bool = True,
) -> "NodeConfig":
    """Read a configuration, the defaults if None, and apply ``--set``, ``--dm`` and ``--snr``."""
    # Imported here: pydantic and numpy take long to import, and --help does not need them.
    from edgefilter.core.config import NodeConfig, load
    from edgefilter.core.validation import validate

    overrides = _parse_overrides(assignments, dm, snr)
    return load(config, overrides, stages) if config is not None else validate(NodeConfig, {}, overrides)


def _parse_overrides(assignments: Sequence[str] | None, dm: str | None, snr: float | None) -> dict[str, str]:
    values = {}
    for text in assignments or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: must be KEY=VALUE, such as pulses.snr=8")
        values[key.strip()] = value.strip()
    if dm is not None:
        try:
            low, high = map(float, dm.split(":"))
        except ValueError:
            raise ConfigError(f"--dm {dm}: must be LOW:HIGH in pc/cm3, such as 0:1000") from None
        values["pulses.dm"] = f"[{low}, {high}]"
    if snr is not None:
        values["pulses.snr"] = str(snr)
    return values
