"""The notebooks carry no stored outputs. That they run is what ``pytest --nbmake notebooks`` checks (see Makefile)."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_the_tutorial_is_complete():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_text_and_code_but_no_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    for cell in code:
        ast.parse("".join(cell["source"]))
    # Question, cell, picture, what it says: as much prose as code.
    assert cells[0]["source"][0].startswith("# ")
    assert len(cells) - len(code) >= len(code) / 2
