"""Public functions say what they take, return and raise, in numpydoc's sections."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("edgefilter", "kernels/edgefilter_kernels")
# The command line documents its parameters in their typer.Option, where users read them.
COMMANDS = ROOT / "edgefilter" / "cli"
# The tests of a conformance suite take pytest's fixtures, and raise AssertionError.
SUITES = ROOT / "edgefilter" / "testing"
# A CUDA twin, or a method that carries out one of a base class, may name the function that it stands for instead.
STANDS_FOR = re.compile(r":(?:func|meth|class|attr):`[~.\w <>]+`")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Public:
    """A public function and the classes that it stands in."""

    path: Path
    function: Function
    owners: list[ast.ClassDef] = field(default_factory=list)

    @property
    def name(self) -> str:
        names = [*(owner.name for owner in self.owners), self.function.name]
        return f"{self.path.relative_to(ROOT)}:{self.function.lineno} {'.'.join(names)}"


def public_functions(path: Path, body: list[ast.stmt], owners: list[ast.ClassDef]) -> Iterator[Public]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(path, node.body, [*owners, node])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
            if not any(re.search(r"property|setter|overload|validator|serializer", name) for name in decorators):
                yield Public(path, node, owners)


def parameters(function: Function) -> list[str]:
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    names += [argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def raised(function: Function) -> set[str]:
    """Names of the exceptions that the function itself raises."""
    found: set[str] = set()
    nodes = list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            found.add(node.exc.func.id)
        nodes += list(ast.iter_child_nodes(node))
    return {name for name in found if name[0].isupper()}


def section(docstring: str, title: str) -> str | None:
    found = re.search(rf"^{title}\n-{{3,}}\n(.*?)(?=^\w[\w ]*\n-{{3,}}\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return found[1] if found else None


def described(text: str) -> set[str]:
    heads = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: ?:.*)?$", text, re.MULTILINE)
    return {name.lstrip("*") for head in heads for name in head.split(", ")}


def returns_something(function: Function) -> bool:
    return function.returns is not None and ast.unparse(function.returns) not in ("None", "NoReturn", "Self")


def faults(public: Public, documented: set[str]) -> list[str]:
    function = public.function
    docstring = ast.get_docstring(function)
    inherited = bool(public.owners and public.owners[-1].bases and function.name in documented)
    if docstring is None:
        return [] if inherited else ["no docstring"]
    suite_test = public.path.is_relative_to(SUITES) and function.name.startswith("test_")
    if STANDS_FOR.search(docstring.partition("\n\n")[0]) or inherited or suite_test:
        return []
    wrong = []
    listed = described(section(docstring, "Parameters") or "")
    missing = [name for name in parameters(function) if name not in listed]
    if missing:
        wrong.append(f"Parameters lacks {', '.join(missing)}")
    taken = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    surplus = listed - taken
    if surplus:
        wrong.append(f"Parameters names {', '.join(sorted(surplus))}, which it does not take")
    # Where nothing is taken, the first line can say all that there is to say of what is returned.
    short = not parameters(function) and re.match(r"(Return|Yield)\b", docstring)
    if returns_something(function) and not short and not re.search(r"^(Returns|Yields)\n-", docstring, re.MULTILINE):
        wrong.append("no Returns")
    unnamed = raised(function) - described(section(docstring, "Raises") or "")
    if unnamed:
        wrong.append(f"Raises lacks {', '.join(sorted(unnamed))}")
    return wrong


def all_public() -> list[Public]:
    return [
        public
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if not path.is_relative_to(COMMANDS)
        for public in public_functions(path, ast.parse(path.read_text(encoding="utf-8")).body, [])
    ]


def test_public_functions_are_documented() -> None:
    public = all_public()
    documented = {
        one.function.name for one in public if one.owners and "Parameters" in (ast.get_docstring(one.function) or "")
    }
    wrong = [f"{one.name}: {'; '.join(found)}" for one in public if (found := faults(one, documented))]
    assert not wrong, "\n".join(wrong)
