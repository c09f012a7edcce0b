"""The spool on a full disk: a small file system that the test mounts."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNSHARE = shutil.which("unshare")
CAN_MOUNT = (
    bool(UNSHARE) and not subprocess.run([str(UNSHARE), "-Urm", "true"], capture_output=True, check=False).returncode
)

pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="no user namespaces: cannot mount a small file system")


def run(path: Path, size: str, *arguments: str) -> list[str]:
    script = f'mount -t tmpfs -o size={size} none "$1" && exec "$2" -m tests.helpers.full_disk "$3" "$1" $4'
    done = subprocess.run(
        [str(UNSHARE), "-Urm", "sh", "-c", script, "sh", str(path), sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_full_disk_drops_spectra_keeps_the_ledger_and_can_be_emptied(tmp_path: Path) -> None:
    assert run(tmp_path, "4m", "grow", "") == [
        "(False, 'the disk is full of products that must not be dropped')",
        "True True True {'disk full'}",
        "True True",
        "0 orphaned files removed, 0 damaged products dropped",
        "[] 0 True",
        "True (True, '')",
    ]


@pytest.mark.parametrize("ballast", [64 << 10, 0])
def test_commit_that_finds_the_disk_full_at_any_step_is_complete_or_absent(tmp_path: Path, ballast: int) -> None:
    assert run(tmp_path, "3m", "step", str(ballast)) == ["[False, True]"]
