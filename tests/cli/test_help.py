"""``--help`` of every command."""

import subprocess
import sys

import click
import pytest
import typer

from edgefilter.cli.program import app


def commands(command: click.Command, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Return a command and its subcommands, by the words that call them."""
    found = {path: command}
    for name, child in getattr(command, "commands", {}).items():
        found |= commands(child, (*path, name))
    return found


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_and_parameter_has_a_help_text(run_cli, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = run_cli(*words, "--help")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    texts = [COMMANDS[words].help, *(parameter.help for parameter in COMMANDS[words].params)]
    # Rich takes text in brackets for markup and does not print it.
    assert [text for text in texts if not text or "[" in text] == []


@pytest.mark.parametrize("words", [["export"], ["store", "query"]], ids=" ".join)
def test_help_imports_no_slow_packages(words):
    slow = {"asyncio", "astropy", "h5py", "matplotlib", "numba", "numpy", "pyarrow", "scipy", "zmq"}
    script = (
        "import sys\n"
        "from contextlib import suppress\n"
        "from edgefilter.cli.main import main\n"
        f"sys.argv = ['edgefilter', *{words}, '--help']\n"
        "with suppress(SystemExit):\n"
        "    main()\n"
        f"print('slow:', *sorted({slow} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "slow:"


def test_help_of_replay_says_how_to_list_the_formats_of_plugins(run_cli):
    _, out, _ = run_cli("replay", "--help")
    assert "edgefilter plugins" in out
