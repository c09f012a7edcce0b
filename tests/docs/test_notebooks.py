"""The notebooks contain no outputs and enough text; ``pytest --nbmake notebooks`` runs them (see Makefile)."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_all_notebooks_of_the_tutorial_exist():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_text_and_code_but_no_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    for cell in code:
        ast.parse("".join(cell["source"]))
    # One cell of text for two cells of code, at least.
    assert cells[0]["source"][0].startswith("# ")
    assert len(cells) - len(code) >= len(code) / 2
