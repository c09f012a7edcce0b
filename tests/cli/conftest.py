"""The program, run through its own command line."""

import sys
from pathlib import Path

import pytest

from edgefilter.cli.main import main


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Run the program; return exit status, standard output and standard error."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgefilter", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as ending:
            status = int(ending.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run
