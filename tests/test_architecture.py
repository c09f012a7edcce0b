"""The layout of docs/design.md: imports run one way, no module imports itself in a circle, each room has its place."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"edgefilter": ROOT, "edgefilter_kernels": ROOT / "kernels"}
# From the top down: a room imports from the rooms below its own row, never from above or from a neighbour.
ROWS = (
    ("testing",),
    ("cli",),
    ("web", "report", "batch", "fleet"),
    ("analysis", "node"),
    ("pipeline",),
    ("store", "spool"),
    ("stages", "products", "sources"),
    ("compute",),
    ("core",),
)
ROW = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
LOOSE = {"__init__", "__main__", "plugins"}
# Rooms of stages, kernels, their CUDA versions and their tests bear the same names.
STEPS = {"filterbank", "rfi", "search"}


def find_modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted((folder / package).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = find_modules()


def imports(name: str) -> Iterator[str]:
    """Modules of ours that a module imports anywhere in it: at its top, in a function, or for types alone."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            named = [full if full in MODULES else node.module for full in named]
        else:
            continue
        yield from (other for other in named if other in MODULES and other != name)


GRAPH = {name: set(imports(name)) for name in MODULES}


def room_of(name: str) -> str:
    package, _, rest = name.partition(".")
    return rest.partition(".")[0] if package == "edgefilter" else ""


def test_every_room_has_a_row() -> None:
    folders = {path.name for path in (ROOT / "edgefilter").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= ROW.keys()


def test_no_module_is_loose_at_the_top() -> None:
    assert {path.stem for path in (ROOT / "edgefilter").glob("*.py")} <= LOOSE


def test_imports_run_downwards() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if room_of(name) in ROW and room_of(other) in ROW and room_of(name) != room_of(other)
        if ROW[room_of(other)] <= ROW[room_of(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_the_conformance_suites() -> None:
    suites = {name for name in MODULES if room_of(name) == "testing"}
    assert not [f"{name} imports {other}" for name in MODULES.keys() - suites for other in GRAPH[name] & suites]


def test_plugins_are_found_without_any_room_but_core() -> None:
    assert GRAPH["edgefilter.plugins"] == {"edgefilter.core.errors"}


def test_kernels_import_nothing_of_edgefilter() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if name.startswith("edgefilter_kernels") and other.partition(".")[0] == "edgefilter"
    ]
    assert not wrong


def test_imports_have_no_circle() -> None:
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> None:
        if name in path:
            raise AssertionError("circle: " + " -> ".join([*path[path.index(name) :], name]))
        if name in done:
            return
        path.append(name)
        for other in sorted(GRAPH[name]):
            # A package's own __init__ may hand on the names of its modules.
            if not name.startswith(f"{other}."):
                visit(other)
        path.pop()
        done.add(name)

    for name in MODULES:
        visit(name)


def test_a_stage_its_kernels_and_their_tests_have_rooms_of_the_same_name() -> None:
    kernels = ROOT / "kernels" / "edgefilter_kernels"
    tests = ROOT / "tests"
    for folder in (ROOT / "edgefilter" / "stages", kernels, kernels / "cuda", tests / "stages", tests / "kernels"):
        assert {path.name for path in folder.iterdir() if path.is_dir()} >= STEPS, folder


def test_tests_mirror_the_rooms() -> None:
    rooms = {path.name for path in (ROOT / "edgefilter").iterdir() if path.is_dir() and path.name != "__pycache__"}
    helpers = {"helpers", "reference", "kernels", "docs", "benchmarks", "plugins"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= rooms | helpers


def test_no_test_module_imports_another() -> None:
    wrong = []
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests."):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                where = path.relative_to(ROOT)
                wrong += [f"{where}: {name}" for name in names if ".test_" in name or ".conftest" in name]
    assert not wrong, "\n".join(wrong)
