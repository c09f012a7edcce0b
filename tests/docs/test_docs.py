"""The documentation builds without warnings, its references are complete, and the files that it names exist."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import get_args

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


def test_the_site_builds_without_warnings_and_loads_nothing_from_other_servers(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) >= 10
    for page in pages:
        assert not re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text()), page


def settings() -> dict[str, list[str]]:
    """Return the keys of each section of a configuration."""
    sections = {}
    for section, field in NodeConfig.model_fields.items():
        (model,) = {item for item in (*get_args(field.annotation), field.annotation) if hasattr(item, "model_fields")}
        sections[section] = list(model.model_fields)
    return sections


def test_the_reference_explains_every_setting(site):
    text = unescape((site / "configuration" / "index.html").read_text())
    for section, keys in settings().items():
        assert f"<code>[{section}]</code>" in text
        assert [key for key in keys if f"<code>{key}</code>" not in text] == []
    assert re.findall(r"^\| `(\w+)` .*\|  \|$", settings_reference(), re.MULTILINE) == [], "no meaning"


def test_the_demo_profile_explains_every_setting():
    text = (ROOT / "configs" / "demo.toml").read_text()
    sections = dict(re.findall(r"^(?:# )?\[(\w+)\]$(.*?)(?=^(?:# )?\[\w+\]$|\Z)", text, re.MULTILINE | re.DOTALL))
    missing = [
        f"{section}.{key}"
        for section, keys in settings().items()
        for key in keys
        if not re.search(rf"^# .*\n(?:# )?{key} = ", sections[section], re.MULTILINE)
    ]
    assert missing == []


def test_the_reference_lists_every_column_of_every_table():
    text = tables_reference()
    for name, schema in SCHEMAS.items():
        assert f"### `{name}`" in text
        for column in schema.names:
            assert f"| `{column}` |" in text


def test_links_of_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_figures_of_the_documentation_are_small():
    figures = list((ROOT / "docs" / "img").iterdir())
    assert figures
    assert [figure.name for figure in figures if figure.stat().st_size > 200_000] == []


def test_files_and_commands_that_documents_name_exist():
    roots = [ROOT / folder for folder in ("", "edgefilter", "kernels", "kernels/edgefilter_kernels", "docs")]
    missing = []
    for document in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = document.read_text()
        files = re.findall(r"`((?:[a-z_]+/)+[\w.-]+\.(?:py|md|toml|json|ipynb))`", text)
        missing += [
            (document.name, name)
            for name in files
            if "NAME" not in name and not any((root / name).exists() for root in roots)
        ]
        for module in re.findall(r"python -m ((?:benchmarks|tests)[\w.]*)", text):
            path = ROOT / module.rstrip(".").replace(".", "/")
            if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists()):
                missing.append((document.name, module))
    assert not missing


def test_files_and_names_of_the_design_exist():
    text = (ROOT / "docs" / "design.md").read_text()
    rooms, _, where = text.partition("## Rooms")[2].partition("## Imports")[0].partition("## Where do I find")
    missing = []
    for room, row in re.findall(r"^\| `([\w/]+)/` \|(.*)$", rooms, re.MULTILINE):
        folder = next(root / room for root in (ROOT / "edgefilter", ROOT) if (root / room).is_dir())
        names = re.findall(r"`([\w.]+\.py|\w+/)`", row)
        missing += [f"{room}: {name}" for name in names if not any(folder.rglob(name.rstrip("/")))]
    named = re.findall(r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)", where)
    named += [(path, name) for name, path in re.findall(r"(`[\w.]+`) in `([\w/]+\.py)`", where)]
    assert len(named) > 5
    for path, names in named:
        source = (ROOT / "edgefilter" / path).read_text()
        missing += [f"{path}: {name}" for name in re.findall(r"\w+", names) if not re.search(rf"\b{name}\b", source)]
    assert not missing
