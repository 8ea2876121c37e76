"""From options to payloads, ids and moments."""

from datetime import UTC, datetime
from inspect import signature
from typing import Any

import pytest
from temporalio.common import SearchAttributeKey
from typer import BadParameter

from cli.dates import format_moment, parse_moment
from cli.errors import RequestRefused
from cli.local.up import name_type
from cli.options import AnyTenant, AsJson, Prompt, find_run_id, make_payload, with_request_options


def test_a_payload_holds_what_was_given_and_nothing_else() -> None:
    """Options that were left out are not in the payload, so that the provider's own defaults apply."""
    given = {"model": None, "n": None, "size": None, "quality": "low", "metadata": ["team=a=b"]}
    payload = make_payload(given, "gpt-image-2", prompt="a fox")

    assert payload == {
        "model": "gpt-image-2",
        "prompt": "a fox",
        "quality": "low",
        "metadata": {"team": "a=b"},
    }
    assert make_payload({**given, "model": "gpt-image-3"}, "gpt-image-2")["model"] == "gpt-image-3"


def test_request_options_replace_the_parameter_given() -> None:
    """Typer sees one parameter for each option, and the command gets them by name."""

    @with_request_options("notify", "metadata", tenant=(AnyTenant, None))
    def command(*, prompt: Prompt, given: dict[str, Any], as_json: AsJson = False) -> dict[str, Any]:
        """Say what was given."""
        return {**given, "prompt": prompt, "as_json": as_json}

    parameters = signature(command).parameters
    assert [*parameters][:2] == ["prompt", "model"]
    assert [*parameters][-2:] == ["unknown_outcome", "as_json"]
    assert parameters["tenant"].default is None
    values = {name: name for name in parameters}
    assert command(**values) == values


@pytest.mark.parametrize(
    ("run", "tenant", "run_id"),
    [
        ("req-1", "default", "image:default:req-1"),
        ("req-1", "acme", "image:acme:req-1"),
        ("image:acme:req-1", "default", "image:acme:req-1"),
    ],
)
def test_a_run_is_named_by_its_id_or_its_request_id(run: str, tenant: str, run_id: str) -> None:
    """A run's id stands as it is, a request id is one of the tenant."""
    assert find_run_id(run, tenant) == run_id


@pytest.mark.parametrize("run", ["", "image:acme:", "image:Acme:req-1", "a b", "req-1\n", "../req"])
def test_invalid_run_is_refused(run: str) -> None:
    """Anything else is refused before anybody is asked."""
    with pytest.raises(RequestRefused, match="is not a valid run"):
        find_run_id(run, "acme")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T14:00", datetime(2026, 11, 23, 14, tzinfo=UTC)),
        ("2026-11-23T14:00:00+01:00", datetime(2026, 11, 23, 13, tzinfo=UTC)),
    ],
)
def test_time_without_an_offset_is_utc(text: str, moment: datetime) -> None:
    """A day is its first moment in UTC; a time zone that is given counts."""
    assert parse_moment(text) == moment


def test_time_is_formatted_in_utc() -> None:
    """Moments in tables are in UTC, to the second."""
    assert format_moment(parse_moment("2026-11-23T14:00:00+01:00")) == "2026-11-23 13:00:00"


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "0001-01-01T00:00:00+14:00"])
def test_invalid_time_is_refused(text: str) -> None:
    """Words are no day, and a moment has to exist in UTC."""
    with pytest.raises(BadParameter, match="Use 2026-11-23"):
        parse_moment(text)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (SearchAttributeKey.for_keyword("Tenant"), "Keyword"),
        (SearchAttributeKey.for_float("CostUsd"), "Double"),
        (SearchAttributeKey.for_int("ImageCount"), "Int"),
        (SearchAttributeKey.for_keyword_list("Tags"), "KeywordList"),
    ],
)
def test_search_attributes_are_named_as_temporal_names_them(key: SearchAttributeKey[Any], name: str) -> None:
    """The types of search attributes in the words of Temporal's command line."""
    assert name_type(key) == name
