"""Repeated upgrades under load, with reducers from a second virtual environment.

``python -m benchmarks.upgrade --times 10`` builds edgefilter, installs it into a second environment (which uses the
dependencies of this one), and replaces the reducer of a running node by that of the other environment, again and again,
while a telescope sends. Then the store is compared, object by object, with a replay of the samples that were sent.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

from benchmarks.machine import write_result
from tests.helpers.running_node import Node, SenderThread, contents, ledger, replayed, sky, sky_until, wait_for

FRAME_BYTES = 65_536


def second_environment(folder: Path) -> str:
    """Install the edgefilter of this checkout into a new environment; return the path of its interpreter."""
    checkout = Path(__file__).parents[1]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(checkout)], check=True
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = [*pip, "--python", str(python), "install", "--no-deps", "--ignore-installed", str(wheel)]
    subprocess.run(install, check=True, env={key: os.environ[key] for key in os.environ if key != "PYTHONPATH"})
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # Unset PYTHONPATH: with it, the interpreter might import edgefilter from the checkout.
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec {python} "$@"\n')
    program.chmod(0o755)
    where = subprocess.run(
        [str(program), "-P", "-c", "import edgefilter; print(edgefilter.__file__)"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert str(folder) in where, where
    return str(program)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="number of upgrades")
    parser.add_argument("--shadow", type=int, default=2, help="blocks that each upgrade compares")
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="speed of the telescope relative to real time; 0 is as fast as possible",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/upgrade.json"))
    arguments = parser.parse_args()
    messages: list[str] = []
    took = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        interpreters = [second_environment(folder), sys.executable]
        with Node(folder) as node:
            telescope = SenderThread(
                sky(100_000.0), node.endpoint, arguments.speed or None, frame_bytes=FRAME_BYTES, receiver_timeout=600.0
            )
            wait_for(lambda: node.blocks() >= 1)
            for number in range(arguments.times):
                began = time.monotonic()
                node.call("upgrade", messages.append, python=interpreters[number % 2], shadow=arguments.shadow)
                took.append(round(time.monotonic() - began, 1))
                print(messages[-2], f"({took[-1]} s)", flush=True)
            load = round(os.getloadavg()[0], 1)
            blocks_before = node.blocks()
            wait_for(lambda: node.blocks() > blocks_before + 10, 600)
            sent = telescope.stop()
            status = node.wait()
        rows = ledger(got := contents(folder / "store"), folder)
        result = {
            "upgrades": sum("takes over at" in line for line in messages),
            "blocks_equal_in_shadow": sum("is equal" in line for line in messages),
            "blocks_different_in_shadow": sum("differs" in line for line in messages),
            "seconds_each": took,
            "times_real_time": arguments.speed,
            "load_average": load,
            "exit_status": status,
            "blocks": len(rows),
            "blocks_twice": len(rows) - len({row["block"] for row in rows}),
            "samples_sent": sent.samples,
            "samples_received": sum(row["samples_received"] for row in rows),
            "samples_expected": sum(row["samples_expected"] for row in rows),
            "store_identical": got == replayed(sky_until(sent.end), folder),
        }
    write_result(arguments.out, result)


if __name__ == "__main__":
    main()
