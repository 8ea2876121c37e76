"""Links, length and completeness of README.md, CONTRIBUTING.md and docs/."""

import re
from pathlib import Path

import pytest

from cli.app import COMMANDS
from gpt_image_runs.contracts import names
from gpt_image_runs.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "node_modules" not in path.parts]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
MAX_README_LINES = 150


def read_prose(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def list_anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", read_prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", read_prose(page)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in list_anchors(target)):
            broken.append(link)
    assert broken == []


def test_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_map_lists_every_page() -> None:
    links = set(re.findall(r"\]\(([^)#]+)\)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in DOCS if page.parent.name != "decisions"}
    assert pages - {"README.md"} - links == set()


def test_commands_page_names_every_command() -> None:
    text = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert COMMANDS.keys() - set(re.findall(r"`([a-z-]+)", text)) == set()


def test_settings_page_names_every_setting() -> None:
    text = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in text] == []


def test_search_attributes_page_names_every_attribute_with_its_type() -> None:
    text = (ROOT / "docs" / "reference" / "search-attributes.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE))
    assert documented == {
        (key.name, key.indexed_value_type.name.capitalize()) for key in names.SEARCH_ATTRIBUTES
    }


def test_index_of_decisions_lists_every_decision() -> None:
    folder = ROOT / "docs" / "decisions"
    links = re.findall(r"\]\(([^)#]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert links == sorted(path.name for path in folder.glob("[0-9]*.md"))
