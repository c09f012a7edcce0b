"""``edgefilter plugins``: what is installed, and what is broken."""

import json
import sys

import pytest

from edgefilter import plugins

EXPORTS = """
from edgefilter.analysis.export.base import PulseExport
FINE = PulseExport("[a] fine one", "txt", print)
TEXT = "text"
"""


@pytest.fixture
def installed(installer):
    installer.install("ef-good", "edgefilter.exports", {"fine": "FINE", "json": "FINE"}, EXPORTS)


@pytest.fixture
def broken(installer):
    installer.install("ef-bad", "edgefilter.exports", {"bad": "TEXT"}, EXPORTS)
    for number, group in enumerate(("stages", "sources", "inputs", "stores")):
        installer.install(f"ef-bad-{number}", f"edgefilter.{group}", {"bad": "X"}, "raise OSError('two\\nlines')")


def listed(run_cli, *options):
    status, out, _ = run_cli("plugins", "--json", *options)
    return status, {(row["kind"], row["name"]): row for row in json.loads(out)}


def test_each_plugin_is_listed_with_its_package_and_what_it_brings(run_cli, monkeypatch, installed):
    monkeypatch.setenv("COLUMNS", "120")
    status, out, _ = run_cli("plugins", "--strict")
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    version = plugins.own_plugins(plugins.Group.STORES)["s3"].version
    kinds = [lines.index(kind) for kind in ("file formats", "live inputs", "stores", "exports")]
    assert kinds == sorted(kinds)
    assert f"sigproc edgefilter {version} SIGPROC filterbank (.fil)" in lines
    assert f"tcp edgefilter {version} Receives one stream over ZeroMQ." in lines
    assert f"s3 edgefilter {version} Connect to a bucket of an object store: s3://BUCKET/PREFIX." in lines
    assert f"json edgefilter {version} PULSE: JSON (not used: json of ef-good)" in lines
    assert "fine ef-good 1.5 [a] fine one" in lines


def test_broken_plugins_are_listed_with_the_reason_and_harm_no_other(run_cli, broken):
    status, rows = listed(run_cli)
    assert status == 0
    assert rows["export", "bad"]["problem"] == "ef_bad:TEXT is of type str, must be Export"
    for kind, number in (("stage", 0), ("file format", 1), ("live input", 2), ("store", 3)):
        problem = rows[kind, "bad"]["problem"]
        assert problem == f"cannot be loaded from ef_bad_{number}:X: OSError: two lines"
    assert rows["file format", "sigproc"]["problem"] == ""
    assert listed(run_cli, "--strict")[0] == 1
    out = run_cli("plugins")[1]
    assert "broken: ef_bad:TEXT is of type str, must be" in out


def test_an_installation_from_an_older_source_is_a_line_of_the_list(run_cli, monkeypatch):
    monkeypatch.setattr(plugins, "OWN_PACKAGE", "no-such-package")
    status, rows = listed(run_cli, "--strict")
    assert status == 1
    assert rows["store", ""]["problem"] == "edgefilter's own stores are not registered: install edgefilter again"


def test_a_part_of_edgefilter_that_cannot_be_imported_is_a_line_of_the_list(run_cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "edgefilter.store.objects", None)
    status, rows = listed(run_cli)
    assert status == 0
    assert rows["store", "s3"]["problem"].startswith("ModuleNotFoundError: ")
