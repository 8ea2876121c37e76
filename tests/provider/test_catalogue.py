"""The catalog as data: what is known of each model at each provider, and how wrong data is told."""

import shutil
from datetime import date
from pathlib import Path

import pytest

import gpt_image_runs.provider.catalog
from gpt_image_runs.provider.catalog import Catalog, CatalogError

DATA = Path(gpt_image_runs.provider.catalog.__file__).parent / "catalog_data"

OPENAI_CALENDAR = {
    "gpt-image-1": date(2026, 10, 23),
    "gpt-image-1-mini": date(2026, 12, 1),
    "gpt-image-1.5": date(2026, 12, 1),
    "chatgpt-image-latest": date(2026, 12, 1),
    "gpt-image-2": None,
    "gpt-image-2.5-sunburst": None,
    "gpt-image-2.5-flare": None,
    "gpt-image-2.6-sunburst": None,
    "gpt-image-2.6-flare": None,
    "dall-e-2": date(2026, 5, 12),
    "dall-e-3": date(2026, 5, 12),
}
AZURE_DATES = {
    "gpt-image-1": date(2026, 10, 23),
    "gpt-image-1-mini": date(2027, 4, 7),
    "gpt-image-1.5": date(2026, 12, 16),
    "gpt-image-2": date(2027, 10, 21),
    "gpt-image-2.5-sunburst": date(2027, 9, 9),
    "gpt-image-2.5-flare": date(2027, 9, 9),
}


def test_openai_keeps_its_own_calendar() -> None:
    """Every model that OpenAI has served is listed with the day on which OpenAI shuts it down."""
    entries = Catalog.load("openai").models()
    assert {entry.model: entry.shutdown for entry in entries} == OPENAI_CALENDAR


def test_azure_keeps_its_own_calendar() -> None:
    """Azure's dates apply at Azure, and OpenAI's do not: chatgpt-image-latest has none there."""
    entries = Catalog.load("azure").models()
    assert {entry.model: entry.shutdown for entry in entries if entry.shutdown} == AZURE_DATES


@pytest.mark.parametrize("provider", ["simulator", "our-gateway", "../models", "models", ""])
def test_any_other_provider_has_the_models_and_no_dates(provider: str) -> None:
    """A provider without a calendar has the same nine GPT Image models with the same rules, and none is dated."""
    catalog = Catalog.load(provider)
    openai = Catalog.load("openai")
    assert [entry.model for entry in catalog.models()] == list(OPENAI_CALENDAR)[:9]
    for entry in catalog.models():
        twin = openai.find(entry.model)
        assert twin
        assert (entry.sizes, entry.qualities, entry.input_fidelity) == (
            twin.sizes,
            twin.qualities,
            twin.input_fidelity,
        )
        assert (entry.provider, entry.notice, entry.shutdown, entry.replacement) == (
            provider,
            None,
            None,
            None,
        )


@pytest.mark.parametrize(
    ("snapshot", "model"),
    [
        ("gpt-image-1.5-2025-12-16", "gpt-image-1.5"),
        ("gpt-image-2-2026-04-21", "gpt-image-2"),
        ("gpt-image-2.5-sunburst-2026-09-08", "gpt-image-2.5-sunburst"),
        ("gpt-image-2.5-flare-2026-09-08", "gpt-image-2.5-flare"),
    ],
)
def test_a_dated_snapshot_is_found_under_its_model(snapshot: str, model: str) -> None:
    """A dated snapshot has the entry of the model that it is a snapshot of."""
    catalog = Catalog.load("openai")
    entry = catalog.find(snapshot)
    assert entry
    assert entry.model == model
    assert entry is catalog.find(model)


@pytest.mark.parametrize("model", ["gpt-image-3", "gpt-image-2-2027-01-01", "GPT-IMAGE-2", ""])
def test_an_unknown_model_is_not_guessed(model: str) -> None:
    """A name that the data does not hold has no entry, however close it is to one that it does."""
    assert Catalog.load("openai").find(model) is None


@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_every_entry_names_its_sources(provider: str) -> None:
    """Each entry says where it was read and on which day, and each dated one says where its date was."""
    undated = {entry.model: entry for entry in Catalog.load("simulator").models()}
    for entry in Catalog.load(provider).models():
        assert entry.sources
        assert entry.checked == date(2026, 11, 23)
        if entry.shutdown and entry.model in undated:
            assert len(entry.sources) > len(undated[entry.model].sources)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "models.toml",
            'released = "2025-04"',
            'releasd = "2025-04"',
            "The catalog's entry for gpt-image-1 at openai is not valid in releasd: Unexpected keyword argument",
        ),
        (
            "models.toml",
            "longest_edge = 3840",
            'longest_edge = "wide"',
            "gpt-image-2 at openai is not valid in flexible_size.longest_edge: Input should be a valid integer",
        ),
        (
            "models.toml",
            "longest_edge = 3840",
            "longest_edge = 3840\nlongest_side = 3840",
            "gpt-image-2 at openai is not valid in flexible_size.longest_side: Unexpected keyword argument",
        ),
        ("models.toml", "checked = 2026-11-23", "", "models.toml of the catalog must say on which day"),
        ("calendars/openai.toml", "checked = 2026-11-23", "", "openai.toml of the catalog must say on"),
        ("models.toml", 'model = "gpt-image-1"\n', "", "entry for None at openai is not valid in model"),
        (
            "models.toml",
            'family = "second"',
            'family = "third"',
            "gpt-image-2 is of the family third, which is not there",
        ),
        (
            "models.toml",
            'model = "gpt-image-1-mini"',
            'model = "gpt-image-2"',
            "models.toml lists gpt-image-2 more than once",
        ),
        (
            "calendars/openai.toml",
            'model = "dall-e-3"',
            'model = "dall-e-4"',
            "calendars/openai.toml must date dall-e-4 once",
        ),
        (
            "calendars/openai.toml",
            'model = "dall-e-3"',
            'model = "dall-e-2"',
            "calendars/openai.toml must date dall-e-2 once, and models.toml must list it",
        ),
        (
            "calendars/openai.toml",
            'replacement = "gpt-image-2.5-sunburst"',
            'replacement = "gpt-image-9"',
            "calendars/openai.toml replaces gpt-image-1 -> gpt-image-9:",
        ),
        (
            "calendars/openai.toml",
            'replacement = "gpt-image-2.5-sunburst"',
            'replacement = "gpt-image-1"',
            "calendars/openai.toml replaces gpt-image-1 -> gpt-image-1:",
        ),
        (
            "calendars/openai.toml",
            "shutdown = 2026-10-23",
            "shutdown = ",
            "openai.toml of the catalog cannot",
        ),
    ],
)
def test_invalid_catalog_data_raises_a_sentence(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    """A mistake in the data stops the loading, with the file, the model and the field in the message."""
    shutil.copytree(DATA, tmp_path / "data")
    text = (tmp_path / "data" / file).read_text()
    assert old in text
    (tmp_path / "data" / file).write_text(text.replace(old, new, 1))
    with pytest.raises(CatalogError) as raised:
        Catalog.load("openai", tmp_path / "data")
    assert message in str(raised.value)


def test_missing_catalog_file_raises_a_sentence(tmp_path: Path) -> None:
    """Data that is not there is an error of the catalog, not a traceback from the file system."""
    with pytest.raises(CatalogError, match=r"models\.toml of the catalog cannot be read"):
        Catalog.load("openai", tmp_path)
