"""Packages of others, made in a folder that only a test has on its path."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


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


class Installer:
    """Installs packages of one module each into a folder that is first on ``sys.path``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        monkeypatch.syspath_prepend(folder)

    def install(self, name: str, group: str, objects: Mapping[str, str], source: str = "") -> None:
        """Install version 1.5 of a package.

        Parameters
        ----------
        name
            Name of the package, and with ``_`` for ``-`` of its module.
        group
            Group of its entry points.
        objects
            Objects of its module by name of the entry point.
        source
            Text of its module.
        """
        module = name.replace("-", "_")
        (self.folder / f"{module}.py").write_text(source)
        entries = {entry: f"{module}:{target}" for entry, target in objects.items()}
        make_package(self.folder, name, {group: entries}, "1.5")
        self._monkeypatch.delitem(sys.modules, module, raising=False)  # of an earlier test
