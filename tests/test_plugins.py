"""Finding and loading plug-ins."""

import importlib.metadata
from pathlib import Path

import pytest

from edgefilter import plugins
from edgefilter.core.errors import PluginError
from edgefilter.plugins import Group, find_plugins, get_plugin
from tests.helpers.packages import Installer, make_package


def test_nothing_is_imported_until_a_plugin_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(make_package(tmp_path, "other", {"edgefilter.stages": {"thing": "no_module:X"}}, "2.5"))
    plugin = find_plugins(Group.STAGES)["thing"]
    assert (plugin.package, plugin.version, plugin.own) == ("other", "2.5", False)
    with pytest.raises(PluginError, match=r"^stage .thing. of other 2.5 cannot be loaded from no_module:X: Module"):
        plugin.load()


def test_an_import_that_raises_anything_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('two\\nlines')\n")
    monkeypatch.syspath_prepend(make_package(tmp_path, "other", {"edgefilter.stages": {"thing": "broken_plugin:X"}}))
    with pytest.raises(PluginError, match=r"RuntimeError: two lines$"):
        get_plugin(Group.STAGES, "thing").load()


def test_a_missing_plugin_lists_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(make_package(tmp_path, "other", {"edgefilter.stages": {"b": "x:X", "a": "x:X"}}))
    with pytest.raises(PluginError, match=r"^no stage 'c' is installed; installed: a, b$"):
        get_plugin(Group.STAGES, "c")


def test_two_packages_with_the_same_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("first", "second"):
        monkeypatch.syspath_prepend(
            make_package(tmp_path / package, package, {"edgefilter.stages": {"thing": "os:path"}})
        )
    with pytest.raises(PluginError, match=r"'thing' of first 1.0: second brings the same name: uninstall one"):
        get_plugin(Group.STAGES, "thing").load()


def test_the_type_of_what_is_loaded_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(make_package(tmp_path, "other", {"edgefilter.stages": {"thing": "os:path"}}))
    with pytest.raises(PluginError, match=r"os:path is of type module, must be int"):
        get_plugin(Group.STAGES, "thing").load_as(int)


def test_own_plugins_come_first_and_keep_their_names(installer: Installer) -> None:
    installer.install("ef-b", "edgefilter.stores", {"b": "x"})
    installer.install("ef-a", "edgefilter.stores", {"c": "x", "a": "x", "s3": "x"})
    found = find_plugins(Group.STORES)
    assert list(found) == ["file", "s3", "a", "b", "c"]
    assert (found["s3"].own, found["s3"].conflict) == (True, "ef-a")
    assert callable(found["s3"].load())


def test_an_own_plugin_is_found_without_a_look_at_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", None)
    assert get_plugin(Group.STORES, "file").own


def test_an_installation_from_an_older_source_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("numpy", "no-such-package"):
        monkeypatch.setattr(plugins, "OWN_PACKAGE", package)
        with pytest.raises(PluginError, match="edgefilter's own stores are not registered: install edgefilter again"):
            find_plugins(Group.STORES)


def test_an_older_build_on_the_path_does_not_hide_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(make_package(tmp_path, "edgefilter", {"console_scripts": {"edgefilter": "x:main"}}))
    assert "sigproc" in find_plugins(Group.SOURCES)


def test_a_module_that_prints_or_ends_the_interpreter_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "talkative_plugin.py").write_text("import sys\nprint('hello')\nsys.exit(7)\n")
    monkeypatch.syspath_prepend(make_package(tmp_path, "other", {"edgefilter.stages": {"thing": "talkative_plugin:X"}}))
    with pytest.raises(PluginError, match=r"SystemExit: 7$"):
        get_plugin(Group.STAGES, "thing").load()
    assert capsys.readouterr() == ("", "hello\n")
