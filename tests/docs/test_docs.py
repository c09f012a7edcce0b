"""The documentation builds without a warning, and its references hold what the code has."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from edgefilter.core.config import NodeConfig
from edgefilter.products.reference import settings_reference, tables_reference
from edgefilter.products.schemas import SCHEMAS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_the_site_builds_strictly_and_asks_for_nothing_from_outside(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) >= 10
    for page in pages:
        assert not re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text()), page


def test_every_setting_is_in_the_reference_with_its_default_and_meaning(site):
    text = unescape((site / "configuration" / "index.html").read_text())
    for section, field in NodeConfig.model_fields.items():
        assert f"<code>[{section}]</code>" in text
        model = field.annotation if isinstance(field.annotation, type) else None
        for key in getattr(model, "model_fields", {}):
            assert f"<code>{key}</code>" in text
    assert set(re.findall(r"^\| `(\w+)` .*\|  \|$", settings_reference(), re.MULTILINE)) <= {"path"}, "no meaning"


def test_every_column_of_every_table_is_in_the_reference():
    text = tables_reference()
    for name, schema in SCHEMAS.items():
        assert f"### `{name}`" in text
        for column in schema.names:
            assert f"| `{column}` |" in text


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_pictures_of_the_documentation_are_small():
    pictures = list((ROOT / "docs" / "img").iterdir())
    assert pictures
    assert [picture.name for picture in pictures if picture.stat().st_size > 200_000] == []


def test_files_and_commands_that_documents_name_exist():
    places = [ROOT, ROOT / "edgefilter", ROOT / "kernels", ROOT / "docs"]
    missing = []
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = document.read_text()
        files = re.findall(r"`((?:[a-z_]+/)+[\w.-]+\.(?:py|md|toml|json|ipynb))`", text)
        missing += [
            (document.name, name)
            for name in files
            if "NAME" not in name and not any((place / name).exists() for place in places)
        ]
        for module in re.findall(r"python -m ((?:benchmarks|tests)[\w.]*)", text):
            path = ROOT / module.rstrip(".").replace(".", "/")
            if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists()):
                missing.append((document.name, module))
    assert not missing
