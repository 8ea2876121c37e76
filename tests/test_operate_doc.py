"""What operators read about failures: every type that the code can raise has its line, and no line is about none."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from activities.economy import claim as claim_economy_part
from activities.economy import outcomes as economy_outcomes
from cli.runs.list import make_query
from gpt_image_runs.contracts import names
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.images.backend import StoreFailure
from gpt_image_runs.provider.errors import ProviderFailure
from gpt_image_runs.provider.usage_api import BooksFailure
from gpt_image_runs.webhooks.client import WebhookFailure

ROOT = Path(__file__).parents[1]
OPERATE = (ROOT / "docs" / "how-to" / "operate.md").read_text(encoding="utf-8")
FAILURES = (ROOT / "docs" / "reference" / "failures.md").read_text(encoding="utf-8")
TREES = (ProviderFailure, BooksFailure, StoreFailure, LedgerError, WebhookFailure)
FAILING_CALLS = {"ApplicationError": "type", "UnbilledEnd": "error_type", "AttemptOutcome": "error_type"}
# Files that choose a type by what happened, from a table.
CHOSEN_BY_CODE = {
    "economy.claim": claim_economy_part._ERROR_TYPES,
    "economy.outcomes": economy_outcomes._NAMES,
}
OF_TEMPORAL = {"TimedOut"}


def list_classes(kind: type[Any]) -> Iterator[type[Any]]:
    """List the classes of a tree below its root."""
    for child in kind.__subclasses__():
        yield child
        yield from list_classes(child)


def list_leaves(kind: type[Exception]) -> Iterator[str]:
    """List the classes of a tree that have no subclasses."""
    for child in kind.__subclasses__():
        yield from list_leaves(child) if child.__subclasses__() else [child.__name__]


def list_written_types(path: Path) -> Iterator[str]:
    """List the failure types that a file names, as a text or by a constant."""
    package, _, rest = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").partition(".")
    is_activity = package == "activities"
    module = import_module(f"activities.{rest}") if is_activity else import_module(f"workflows.{rest}")
    yield from CHOSEN_BY_CODE.get(rest, {}).values()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func).rpartition(".")[2]
        wanted = FAILING_CALLS.get(called)
        values = [word.value for word in node.keywords if wanted and word.arg == wanted]
        values += node.args[1:2] if called in {"_fail", "_end"} else []
        for value in values:
            match value:
                case ast.Constant(value=str(text)):
                    yield text
                case ast.Name(id=str(name)) if name.isupper():
                    yield getattr(module, name)
                case ast.Attribute(attr=str(name), value=ast.Name(id="names")):
                    yield getattr(names, name)


def read_table() -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \|", FAILURES, re.MULTILINE))


@pytest.mark.parametrize("tree", [ProviderFailure, LedgerError], ids=lambda tree: tree.__name__)
def test_documented_retries_are_those_of_the_error_classes(tree: type[Any]) -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| (yes|no)\b", FAILURES, re.MULTILINE)
    documented = {kind: retried == "yes" for kind, retried in rows}
    retried = {kind.__name__: kind().retryable for kind in list_classes(tree) if kind.__name__ in documented}
    assert {kind: documented[kind] for kind in retried} == retried


def test_every_failure_type_is_documented() -> None:
    """A type that a run, an attempt or a line of a batch can end with is told with its meaning and its remedy."""
    files = [path for room in ("activities", "workflows") for path in sorted((ROOT / room).rglob("*.py"))]
    written = {kind for path in files for kind in list_written_types(path)}
    known = written | {name for tree in TREES for name in list_leaves(tree)} | OF_TEMPORAL
    assert {"GivenUp", "StillUnderWay", "RunNotFound", "NoDay"} <= written
    assert known - read_table() == set()
    assert read_table() - known == set()


@pytest.mark.parametrize(
    "query", [make_query(batch_id="autumn"), make_query(tenant="acme")], ids=["batch", "tenant"]
)
def test_documented_filters_equal_those_of_runs(query: str) -> None:
    """What the document has for the Web UI is what `runs` asks for."""
    assert f"`{query}`".replace("'", '"') in OPERATE
