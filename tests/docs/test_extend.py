"""docs/extend.md works as written: what a section shows is installed, and its commands run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.recorded_files import sigproc
from tests.helpers.small_run import make_sky

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
FILE = re.compile(r"`([\w./-]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(r"```sh\n(.*?)```", re.DOTALL)
FOLDER = re.compile(r"folder `([\w-]+)`")


class Reader:
    """Somebody who does what a section says, in a folder of his own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, folder / "site"
        path = os.pathsep.join([str(self.site), str(ROOT), str(ROOT / "kernels")])
        self.environment = os.environ | {"PYTHONPATH": path, "EDGEFILTER_PAGE": "1"}
        self.said = ""

    def write_files(self, section: str) -> None:
        """Write the files of a section into the folder that it names."""
        package = self.folder / FOLDER.findall(section)[0]
        for name, text in FILE.findall(section):
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text(text)

    def run(self, line: str) -> None:
        """Run a command of a section; packages go into a folder of the path."""
        words = shlex.split(line)
        if words[:2] == ["pip", "install"]:
            options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(self.site)]
            words = [sys.executable, "-m", "pip", "install", *options, *words[2:]]
        elif words[0] == "edgefilter":
            words = [sys.executable, "-m", "edgefilter.cli.main", *words[1:]]
        elif words[0] in ("python", "pytest"):
            words = [sys.executable, *(["-m", "pytest"] if words[0] == "pytest" else []), *words[1:]]
        done = subprocess.run(words, cwd=self.folder, env=self.environment, text=True, capture_output=True, timeout=300)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        self.said += done.stdout


@pytest.mark.parametrize(
    ("title", "expected"),
    [("A stage", "drift"), ("A file format", "note-format 1.0"), ("A store", "dm"), ("An export", "candidates.txt")],
)
def test_a_section_works_as_written(title: str, expected: str, tmp_path: Path) -> None:
    reader, section = Reader(tmp_path), SECTIONS[title]
    sky = make_sky(3.0)
    header = {"tsamp": 1e-3, "fch1": sky.stream.first_channel_hz / 1e6, "foff": sky.stream.channel_step_hz / 1e6}
    sigproc(tmp_path / "FRB180417.fil", sky.read(0, sky.samples).data[:, None], 8, **header)
    reader.write_files(section)
    for commands in COMMANDS.findall(section):
        for line in commands.splitlines():
            reader.run(line)
    assert expected in reader.said
