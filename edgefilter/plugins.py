"""Plug-ins: stages, file formats, live inputs, stores and exports, found as entry points of installed packages.

==================== ============================================================ =============================
entry point group    object                                                       chosen by
==================== ============================================================ =============================
edgefilter.stages    :class:`~edgefilter.stages.base.StagePlugin`                 ``[stages.NAME]`` in the settings
edgefilter.sources   :class:`~edgefilter.sources.base.FileFormat`                 the content of a file
edgefilter.inputs    a subclass of :class:`~edgefilter.sources.live.base.LiveInput`  the scheme of an endpoint
edgefilter.stores    a function that connects to a store                          the scheme of a URL
edgefilter.exports   :class:`~edgefilter.analysis.export.base.Export`             ``edgefilter export NAME``
==================== ============================================================ =============================

edgefilter's own ones are registered in the same way, in ``pyproject.toml``. A plug-in is imported when it is used, not
before: a broken one does no harm to those who do not use it. This module imports nothing of edgefilter but its errors.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from edgefilter.core.errors import EdgefilterError, PluginError

OWN_PACKAGE = "edgefilter"

Class = TypeVar("Class")


class Group(StrEnum):
    """Kinds of plug-ins, and the names of their entry point groups."""

    STAGES = "edgefilter.stages"
    SOURCES = "edgefilter.sources"
    INPUTS = "edgefilter.inputs"
    STORES = "edgefilter.stores"
    EXPORTS = "edgefilter.exports"

    @property
    def what(self) -> str:
        """One plug-in of this kind, in words."""
        return {
            Group.STAGES: "stage",
            Group.SOURCES: "file format",
            Group.INPUTS: "live input",
            Group.STORES: "store",
            Group.EXPORTS: "export",
        }[self]


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of an installed package.

    Parameters
    ----------
    group, name
        Group and name of the entry point.
    package, version
        Distribution that brings it.
    target
        ``module:object``.
    conflict
        Another package that brings the same name, or empty. edgefilter's own is used then, otherwise none of the two.
    """

    group: Group
    name: str
    package: str
    version: str
    target: str
    conflict: str = ""

    @property
    def own(self) -> bool:
        """Whether edgefilter itself brings it."""
        return self.package == OWN_PACKAGE

    @property
    def provenance(self) -> str:
        """Package and version, as products state it."""
        return f"{self.package} {self.version}"

    @property
    def title(self) -> str:
        """The plug-in and its package, in words."""
        return f"{self.group.what} {self.name!r} of {self.provenance}"

    @contextmanager
    def errors_in_one_line(self, what: str = "failed") -> Iterator[None]:
        """Turn what the code of another package raises unexpectedly into one line; a bug of ours keeps its traceback.

        Parameters
        ----------
        what
            What it could not do.

        Yields
        ------
        None
            Call the code within the ``with`` block.

        Raises
        ------
        PluginError
            If it raises anything but an :class:`~edgefilter.core.errors.EdgefilterError`.
        """
        try:
            yield
        except EdgefilterError:
            raise
        except (Exception, SystemExit) as error:
            if self.own:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            where, trace = "", error.__traceback__
            while trace is not None:
                where, trace = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}", trace.tb_next
            raise PluginError(f"{self.title} {what}: {reason} ({where})") from error

    def load(self) -> Any:
        """Import the object.

        Returns
        -------
        object
            What the entry point names.

        Raises
        ------
        PluginError
            If it cannot be imported, or two packages bring this name.
        """
        if self.conflict and not self.own:
            raise PluginError(f"{self.title}: {self.conflict} brings the same name: uninstall one of the two")
        module, _, name = self.target.partition(":")
        # What a foreign module prints when it is imported must not mix with a command's output.
        output = nullcontext() if self.own else redirect_stdout(sys.stderr)
        try:
            with output:
                found: Any = import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:  # whatever the import of a foreign module raises
            if self.own:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(f"{self.title} cannot be loaded from {self.target}: {reason}") from error
        return found

    def load_as(self, kind: type) -> Any:
        """Import the object, and check its type.

        Parameters
        ----------
        kind
            Class that the object must be an instance of.

        Returns
        -------
        object
            What the entry point names.

        Raises
        ------
        PluginError
            As :meth:`load`, or if it is of another type.
        """
        found = self.load()
        if not isinstance(found, kind):
            raise PluginError(f"{self.title}: {self.target} is of type {type(found).__name__}, must be {kind.__name__}")
        return found

    def load_class(self, base: type[Class]) -> type[Class]:
        """Import the object, and check that it is a class of a kind.

        Parameters
        ----------
        base
            Class that it must be a subclass of.

        Returns
        -------
        type
            What the entry point names.

        Raises
        ------
        PluginError
            As :meth:`load`, or if it is something else.
        """
        found: type[Class] = self.load_as(type)
        if not issubclass(found, base):
            raise PluginError(f"{self.title}: {self.target} must be a subclass of {base.__name__}")
        return found


def own_plugins(group: Group) -> dict[str, Plugin]:
    """List edgefilter's own plug-ins of a group, without a look at the other packages, which takes 15 ms or more.

    Parameters
    ----------
    group
        The group.

    Returns
    -------
    dict
        Plug-ins by name, sorted.

    Raises
    ------
    PluginError
        If there are none, because edgefilter was installed from an older source.
    """
    from importlib.metadata import distributions  # takes 50 ms to import, and --help does not need it

    # More than one in a checkout: the folder of an older build may lie on the path before what is installed.
    for own in distributions(name=OWN_PACKAGE):
        entries = sorted(own.entry_points.select(group=group))
        if entries:
            return {entry.name: Plugin(group, entry.name, OWN_PACKAGE, own.version, entry.value) for entry in entries}
    if group is Group.STAGES:
        return {}
    raise PluginError(f"edgefilter's own {group.what}s are not registered: install edgefilter again")


def find_plugins(group: Group) -> dict[str, Plugin]:
    """List the installed plug-ins of a group; nothing of them is imported.

    Parameters
    ----------
    group
        The group.

    Returns
    -------
    dict
        Plug-ins by name: edgefilter's own first, the others sorted by name.

    Raises
    ------
    PluginError
        If edgefilter's own are missing because it was installed from an older source.
    """
    from importlib.metadata import entry_points

    found = own_plugins(group)
    entries = entry_points(group=group)
    packages = {entry.dist: _package(entry.dist) for entry in entries}
    for entry in sorted(entries, key=lambda entry: (entry.name, packages[entry.dist])):
        package, version = packages[entry.dist]
        first = found.get(entry.name)
        if first is None:
            found[entry.name] = Plugin(group, entry.name, package, version, entry.value)
        elif first.package != package:
            found[entry.name] = replace(first, conflict=package)
    return found


def get_plugin(group: Group, name: str) -> Plugin:
    """Return an installed plug-in.

    Parameters
    ----------
    group, name
        Group and name of the entry point.

    Returns
    -------
    Plugin
        The plug-in, not imported yet.

    Raises
    ------
    PluginError
        If no installed package brings it; the message lists those that are there.
    """
    found = own_plugins(group)
    if name not in found:
        found = find_plugins(group)
    if name not in found:
        raise PluginError(f"no {group.what} {name!r} is installed; installed: {', '.join(found) or 'none'}")
    return found[name]


def _package(distribution: Any) -> tuple[str, str]:
    """Return name and version, each of which is parsed from all of the metadata whenever it is asked for."""
    if distribution is None:
        return "an unknown package", ""
    metadata = distribution.metadata
    return metadata["Name"], metadata["Version"]
