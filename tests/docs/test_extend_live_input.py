"""The live input of the documentation works as it is written there."""

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_live_input_of_the_documentation_passes_its_suite(tmp_path: Path) -> None:
    text = (DOCS / "extend.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (code,) = (block for block in blocks if "class UdpInput(LiveInput)" in block)
    (tests,) = (block for block in blocks if "class TestUdpInput(LiveInputSuite)" in block)
    (tmp_path / "power_udp.py").write_text(code)
    (tmp_path / "test_power_udp.py").write_text(tests)
    path = os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_power_udp.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert re.search(r"\b12 passed", done.stdout), done.stdout + done.stderr
