"""docs/how-to/integrate.md and docs/how-to/stream.md: what it shows is what is tested, and what it names is there."""

import re
from pathlib import Path

import pytest

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.schemas.generate import PUBLISHED

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "how-to" / "integrate.md").read_text(encoding="utf-8")
NAMES = (ROOT / "docs" / "reference" / "schemas.md").read_text(encoding="utf-8")
STREAMING = (ROOT / "docs" / "how-to" / "stream.md").read_text(encoding="utf-8")
LANGUAGES = {".py": "python", ".ts": "ts", ".sh": "sh"}
MADE_BY_NPM = {"node_modules", "package-lock.json", "start.js"}
FILES = [
    path
    for path in sorted(EXAMPLES.rglob("*"))
    if path.is_file() and not {*path.parts} & {*MADE_BY_NPM, "__pycache__"}
]
SHOWN = [path for path in FILES if path.suffix in LANGUAGES]


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.name)
def test_page_shows_the_whole_text_of_each_example(path: Path) -> None:
    """A page has each example's whole text: the one that is carried out by a test."""
    assert f"```{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}```\n" in PAGE + STREAMING


def test_every_example_is_executed_by_a_test() -> None:
    """Each file of the folder is named in the tests that carry examples out."""
    tests = (Path(__file__).with_name("test_examples.py")).read_text(encoding="utf-8")
    assert [path.name for path in FILES if f'"{path.name}"' not in tests] == []


def test_reference_names_every_registered_name_and_schema() -> None:
    """Every name that a client needs is in the reference as the code has it, and so is every schema."""
    named = set(re.findall(r"`([^`\n]+)`", NAMES))
    assert named >= PUBLISHED.keys()
    assert named >= {
        names.WORKFLOW,
        names.QUERY_STATUS,
        names.UPDATE_SUBMIT,
        names.UPDATE_DECIDE,
        names.BUDGET_CHANGE,
        names.BATCH,
        names.ECONOMY_BATCH,
        names.PRICE_QUOTE,
        names.RECONCILIATION,
        names.RUNS_QUEUE,
        names.REQUEST_REFUSED,
        names.NEXUS_SERVICE,
        names.NEXUS_ENDPOINT,
    }
    assert f"`{names.TOPIC_PARTIAL_IMAGES}`" in STREAMING
