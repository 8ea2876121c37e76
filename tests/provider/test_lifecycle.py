"""Which model is called, on the days around a shutdown."""

from dataclasses import replace
from datetime import date

import pytest

from gpt_image_runs.provider.catalog import Catalog, ModelEntry, lifecycle_of, resolve_model

OPENAI = Catalog.load("openai")
AZURE = Catalog.load("azure")


def find(catalog: Catalog, model: str) -> ModelEntry:
    entry = catalog.find(model)
    assert entry
    return entry


def make_catalog(**changes: dict[str, date | str | None]) -> Catalog:
    """OpenAI's catalog with other dates: by the last part of a model's name."""
    entries = tuple(
        replace(entry, **changes.get(entry.model.removeprefix("gpt-image-2.6-"), {}))  # type: ignore[arg-type]  # the fields of a test
        for entry in OPENAI.models()
    )
    return Catalog("openai", entries)


@pytest.mark.parametrize(
    ("model", "day", "expected"),
    [
        ("gpt-image-1", date(2026, 4, 21), "live"),
        ("gpt-image-1", date(2026, 4, 22), "deprecated"),
        ("gpt-image-1", date(2026, 10, 22), "deprecated"),
        ("gpt-image-1", date(2026, 10, 23), "retired"),
        ("gpt-image-1", date(2026, 11, 23), "retired"),
        ("gpt-image-1-mini", date(2026, 6, 1), "live"),
        ("gpt-image-1-mini", date(2026, 6, 2), "deprecated"),
        ("gpt-image-1-mini", date(2026, 11, 30), "deprecated"),
        ("gpt-image-1-mini", date(2026, 12, 1), "retired"),
        ("gpt-image-2", date(2040, 1, 1), "live"),
    ],
)
def test_the_days_around_a_notice_and_a_shutdown(model: str, day: date, expected: str) -> None:
    """A model is deprecated from the day of notice, and retired on the very day of its shutdown."""
    assert lifecycle_of(find(OPENAI, model), day) == expected


@pytest.mark.parametrize(
    ("day", "expected"),
    [(date(2027, 7, 22), "live"), (date(2027, 7, 23), "deprecated"), (date(2027, 10, 21), "retired")],
)
def test_without_a_day_of_notice_the_last_ninety_days_count(day: date, expected: str) -> None:
    """A date that was only planned, as Azure's are, is worth a warning 90 days before: 23 July for 21 October."""
    assert lifecycle_of(find(AZURE, "gpt-image-2"), day) == expected


def test_a_live_model_is_called_as_asked() -> None:
    """A live model is called under the name that was asked for, snapshots included, without a word."""
    resolved = resolve_model("gpt-image-2-2026-04-21", OPENAI, date(2026, 11, 23), replace_retired=True)
    assert (resolved.model, resolved.problems, resolved.warnings) == ("gpt-image-2-2026-04-21", (), ())
    assert resolved.entry is OPENAI.find("gpt-image-2")


def test_a_retired_model_is_refused() -> None:
    """A retired model is one problem on the field model that names the date, the replacement and the setting."""
    resolved = resolve_model("gpt-image-1", OPENAI, date(2026, 11, 23), replace_retired=False)
    (problem,) = resolved.problems
    assert problem.field == "model"
    assert problem.value == "'gpt-image-1'"
    assert problem.allowed == (
        "gpt-image-2.5-sunburst, its replacement; or set RETIRED_MODELS=replace to run old requests on it "
        "(gpt-image-1 was shut down at openai on 2026-10-23)"
    )
    assert resolved.entry is OPENAI.find("gpt-image-2.5-sunburst")


def test_a_retired_snapshot_is_refused_too() -> None:
    """A dated snapshot goes on the day on which its model goes, and is named as it was asked for."""
    snapshot = "gpt-image-1.5-2025-12-16"
    assert not resolve_model(snapshot, OPENAI, date(2026, 11, 30), replace_retired=False).problems
    (problem,) = resolve_model(snapshot, OPENAI, date(2026, 12, 1), replace_retired=False).problems
    assert problem.value == "'gpt-image-1.5-2025-12-16'"
    assert "gpt-image-1.5-2025-12-16 was shut down at openai on 2026-12-01" in problem.allowed


def test_a_retired_model_is_replaced_where_the_setting_says_so() -> None:
    """With the setting, the replacement is called, and both names are told."""
    resolved = resolve_model("gpt-image-1", OPENAI, date(2026, 10, 23), replace_retired=True)
    assert (resolved.model, resolved.problems) == ("gpt-image-2.5-sunburst", ())
    assert resolved.entry is OPENAI.find("gpt-image-2.5-sunburst")
    assert resolved.warnings == (
        "gpt-image-1 was shut down at openai on 2026-10-23: gpt-image-2.5-sunburst is used instead.",
    )


def test_a_model_is_not_replaced_before_its_day() -> None:
    """The setting changes nothing for a model that still lives."""
    resolved = resolve_model("gpt-image-1", OPENAI, date(2026, 10, 22), replace_retired=True)
    assert resolved.model == "gpt-image-1"
    assert resolved.warnings == (
        "gpt-image-1 will be shut down at openai on 2026-10-23, tomorrow: move to gpt-image-2.5-sunburst.",
    )


def test_a_deprecated_model_runs_with_a_warning() -> None:
    """Until its day a deprecated model runs, and the operator is told how long that lasts."""
    resolved = resolve_model("gpt-image-1.5", OPENAI, date(2026, 11, 23), replace_retired=False)
    assert (resolved.model, resolved.problems) == ("gpt-image-1.5", ())
    assert resolved.warnings == (
        "gpt-image-1.5 will be shut down at openai on 2026-12-01, in 8 days: move to gpt-image-2.6-sunburst.",
    )


def test_replacements_are_followed_to_a_live_model() -> None:
    """Where the replacement is retired as well, its own replacement is called, and its coming end is told."""
    catalog = make_catalog(
        sunburst={"shutdown": date(2027, 3, 1), "replacement": "gpt-image-2.6-flare"},
        flare={"shutdown": date(2027, 6, 1), "notice": date(2027, 3, 1)},
    )
    resolved = resolve_model("gpt-image-1-mini", catalog, date(2027, 3, 1), replace_retired=True)
    assert resolved.model == "gpt-image-2.6-flare"
    assert resolved.warnings == (
        "gpt-image-1-mini was shut down at openai on 2026-12-01: gpt-image-2.6-flare is used instead.",
        "gpt-image-2.6-flare will be shut down at openai on 2027-06-01, in 92 days.",
    )
    day_before = resolve_model("gpt-image-1-mini", catalog, date(2027, 2, 28), replace_retired=True)
    assert day_before.model == "gpt-image-2.6-sunburst"


@pytest.mark.parametrize("replace_retired", [True, False])
def test_a_model_without_a_live_replacement_is_refused(*, replace_retired: bool) -> None:
    """Where the chain of replacements ends in a retired model, there is nothing to run on, whatever the setting."""
    catalog = make_catalog(sunburst={"shutdown": date(2027, 3, 1)})
    resolved = resolve_model("gpt-image-1", AZURE, date(2028, 1, 1), replace_retired=replace_retired)
    assert resolved.entry is None
    (problem,) = resolved.problems
    assert problem.allowed == (
        "a model that is live: no replacement is known (gpt-image-1 was shut down at azure on 2026-10-23)"
    )
    assert resolve_model("gpt-image-1.5", catalog, date(2027, 3, 1), replace_retired=replace_retired).problems


def test_an_unknown_model_may_run() -> None:
    """A model that the catalog does not know is called as asked, with a warning about its price."""
    resolved = resolve_model("gpt-image-9", OPENAI, date(2026, 11, 23), replace_retired=False)
    assert (resolved.model, resolved.entry, resolved.problems) == ("gpt-image-9", None, ())
    assert resolved.warnings == (
        "The catalog does not know 'gpt-image-9' at openai: it may run; its usage is recorded, and it is billed once a price is known.",
    )


def test_other_providers_keep_their_own_calendar() -> None:
    """What OpenAI has shut down runs elsewhere without a word: the catalog has no dates for a gateway."""
    resolved = resolve_model(
        "gpt-image-1", Catalog.load("simulator"), date(2026, 11, 23), replace_retired=False
    )
    assert (resolved.model, resolved.problems, resolved.warnings) == ("gpt-image-1", (), ())
