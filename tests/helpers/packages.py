"""Packages of others, made in a folder that only a test has on its path."""

from collections.abc import Mapping
from pathlib import Path


def make_package(folder: Path, name: str, entry_points: Mapping[str, Mapping[str, str]], version: str = "1.0") -> Path:
    """Make the metadata of an installed package.

    Parameters
    ----------
    folder
        A folder of ``sys.path``.
    name
        Name of the package.
    entry_points
        ``module:object`` by group and name of the entry point.
    version
        Its version.

    Returns
    -------
    Path
        The folder.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{entry} = {target}" for entry, target in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
