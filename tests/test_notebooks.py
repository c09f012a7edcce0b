"""The notebooks' code runs, and they carry no stored outputs."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    names: dict = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
    assert len(names["found"]) == 3
    assert names["cells"] == sum(
        sum(names["ledger"][column].to_pylist())
        for column in names["ledger"].column_names
        if column.startswith(("cells_", "flagged_"))
    )
