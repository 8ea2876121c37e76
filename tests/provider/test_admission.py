"""The whole check of a payload: shape, model and rules together, and the fingerprint of what is asked."""

import hashlib
import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_image_runs.contracts.fingerprints import fingerprint
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.provider.request_rules import CheckedPayload, check_payload

OPENAI = Catalog.load("openai")
SIMULATOR = Catalog.load("simulator")
TODAY = date(2026, 11, 23)
DOCUMENTED = {
    "model": "gpt-image-1",
    "prompt": "Create a premium product hero shot on a neutral studio background",
    "n": 1,
    "size": "1024x1024",
    "quality": "high",
    "background": "auto",
    "output_format": "png",
}
BASE = {"model": "gpt-image-2", "prompt": "a lamp"}


def check(payload: Any, catalog: Catalog = OPENAI, *, replace_retired: bool = False) -> CheckedPayload:
    return check_payload(payload, catalog, TODAY, replace_retired=replace_retired)


def fields(checked: CheckedPayload) -> list[str]:
    return [problem.field for problem in checked.problems]


def test_the_documented_payload_is_admitted_as_it_stands() -> None:
    """The payload of the provider's documentation runs where its model runs, with nothing added or left out."""
    checked = check(DOCUMENTED, SIMULATOR)
    assert checked.problems == ()
    assert checked.warnings == ()
    assert checked.request
    assert checked.request.model_dump() == {**DOCUMENTED, "tenant": "default"}
    assert checked.resolved
    assert checked.resolved.model == "gpt-image-1"


def test_the_documented_payload_is_refused_where_its_model_has_retired() -> None:
    """At OpenAI the same payload has one problem, its model, and no request comes of it."""
    checked = check(DOCUMENTED)
    assert checked.request is None
    assert fields(checked) == ["model"]


def test_the_documented_payload_runs_on_the_replacement_where_the_setting_says_so() -> None:
    """With the setting the request stays as asked, and the model to call is another one."""
    checked = check(DOCUMENTED, replace_retired=True)
    assert checked.request
    assert checked.request.model == "gpt-image-1"
    assert checked.resolved
    assert checked.resolved.model == "gpt-image-2.5-sunburst"
    assert len(checked.warnings) == 1


@pytest.mark.parametrize("replace_retired", [True, False])
def test_retired_model_is_checked_by_the_rules_of_its_replacement(*, replace_retired: bool) -> None:
    """A retired model's request is held to the replacement's rules: the caller learns everything in one go."""
    edit = {**DOCUMENTED, "images": ["store://a.png"], "input_fidelity": "high"}
    checked = check(edit, replace_retired=replace_retired)
    assert fields(checked) == ([] if replace_retired else ["model"]) + ["input_fidelity"]
    assert checked.problems[-1].allowed == "on gpt-image-2.5-sunburst: nothing; leave it out"


def test_problems_of_shape_model_and_rules_are_listed_together() -> None:
    """Problems of the shape, of the model and of its rules come in one list, in the order of the fields."""
    checked = check(
        {"model": "gpt-image-1", "prompt": " ", "svg": True, "n": 11, "size": "10x10", "quality": "hd"}
    )
    assert fields(checked) == ["model", "prompt", "n", "size", "quality", "svg"]
    assert checked.request is None


def test_an_unknown_model_shows_no_partial_pictures() -> None:
    """Where the catalog does not know what a stream tells, nothing is streamed; as a whole the model may run."""
    payload = {"model": "gpt-image-9", "prompt": "a lamp"}
    checked = check({**payload, "partial_images": 2})
    assert checked.problems[0].allowed == (
        "nothing on gpt-image-9: the catalog does not know whether its stream reports everything that is billed"
    )
    assert fields(check(payload)) == []


def test_field_with_several_faults_has_one_problem() -> None:
    """Where a mask is refused for having no images, that the model does not edit is not told as well."""
    entry = OPENAI.find("gpt-image-2")
    assert entry
    no_edits = Catalog("openai", (replace(entry, edits=False),))
    assert fields(check({**BASE, "mask": "store://m.png"}, no_edits)) == ["mask"]
    assert fields(check({**BASE, "images": ["store://a.png"]}, no_edits)) == ["images"]


@pytest.mark.parametrize("broken_images", [[], 5, ["store://a.png"] * 17, [{"url": "x"}]])
def test_broken_images_still_make_an_edit(broken_images: Any) -> None:
    """Where images cannot be read, no rule claims that there are none."""
    edit = {"model": "gpt-image-1.5", "prompt": "a lamp", "images": broken_images, "input_fidelity": "high"}
    assert {field.partition(".")[0] for field in fields(check(edit))} == {"images"}


def test_unreadable_format_is_not_treated_as_the_default() -> None:
    """Where output_format cannot be read, no rule claims that it is png."""
    assert fields(check({**BASE, "output_format": "gif", "output_compression": 50})) == ["output_format"]


def test_a_readable_field_with_a_problem_still_decides() -> None:
    """Pictures that are well-formed but too large leave the other rules of an edit in force."""
    edit = {**BASE, "images": ["data:image/png;base64," + "A" * 1024 * 1024], "input_fidelity": "high"}
    assert fields(check(edit)) == ["input_fidelity", "images"]


def test_payload_without_a_model_lists_only_problems_of_shape() -> None:
    """Where no model can be read there are no rules, and nothing is resolved."""
    checked = check({"prompt": "a lamp", "size": "10x10", "n": 0})
    assert fields(checked) == ["model", "n"]
    assert checked.resolved is None
    assert checked.warnings == ()


def test_an_unknown_model_has_the_common_rules_only() -> None:
    """A model that the catalog does not know may have any size and quality, with a warning."""
    checked = check({**BASE, "model": "gpt-image-9", "size": "10x10", "quality": "hd"})
    assert checked.request
    assert len(checked.warnings) == 1
    assert fields(check({**BASE, "model": "gpt-image-9", "n": 0})) == ["n"]


def test_a_deprecated_model_is_warned_of_even_when_refused() -> None:
    """A warning is told whatever the outcome."""
    checked = check({"model": "gpt-image-1.5", "prompt": "a lamp", "n": 0})
    assert fields(checked) == ["n"]
    assert len(checked.warnings) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from([*ImageRequest.model_fields, "stream", "svg"])
LIKELY = st.sampled_from(
    [
        "auto",
        "low",
        "high",
        "max",
        "1024x1024",
        "99999x99999",
        "png",
        "jpeg",
        "transparent",
        1,
        100,
        ["store://a.png"],
    ]
)
MODELS = st.sampled_from([entry.model for entry in OPENAI.models()] + ["gpt-image-9"])


@given(payload=st.dictionaries(NAMES, LIKELY | JSON), model=MODELS | JSON, replace_retired=st.booleans())
def test_any_payload_is_admitted_or_refused(payload: Any, model: Any, *, replace_retired: bool) -> None:
    """Whatever is sent, it is either a request without a problem or a list of problems without a request."""
    checked = check({"prompt": "a lamp", **payload, "model": model}, replace_retired=replace_retired)
    assert (checked.request is None) == bool(checked.problems)
    for problem in checked.problems:
        assert problem.field
        assert problem.value
        assert problem.allowed
    names = fields(checked)
    assert len(names) == len(set(names))


def fingerprint_of(payload: dict[str, Any]) -> str:
    return fingerprint(ImageRequest.model_validate(payload))


def test_a_fingerprint_is_the_hash_of_the_canonical_request() -> None:
    """The fingerprint can be made again with any JSON library: sorted keys, no blanks, SHA-256 in hex."""
    canonical = '{"model":"gpt-image-2","n":2,"prompt":"a \\u2600","tenant":"default"}'
    payload = {"model": "gpt-image-2", "prompt": "a \u2600", "n": 2}
    assert fingerprint_of(payload) == hashlib.sha256(canonical.encode()).hexdigest()


def test_a_fingerprint_does_not_see_how_the_same_was_written() -> None:
    """The order of keys, null for absent, the request_id, the spelling of a picture and who is told make no difference."""
    payload = {**BASE, "n": 2, "images": ["store://a.png"], "metadata": {"a": "1", "b": "2"}}
    same = {
        "metadata": {"b": "2", "a": "1"},
        "images": [{"image_url": "store://a.png"}],
        "n": 2,
        "size": None,
        "request_id": "req-1",
        "notify": "https://hooks.example.com",
        "tenant": "default",
        **BASE,
    }
    assert fingerprint_of(payload) == fingerprint_of(same)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-image-1"},
        {"prompt": "a lamp "},
        {"n": 1},
        {"size": "auto"},
        {"quality": "low"},
        {"background": "auto"},
        {"output_format": "png"},
        {"output_compression": 50},
        {"output_compression": 100, "output_format": "jpeg"},
        {"moderation": "auto"},
        {"safety_identifier": "a"},
        {"user": "a"},
        {"input_fidelity": "low"},
        {"images": ["store://b.png"]},
        {"mask": "store://m.png"},
        {"partial_images": 1},
        {"stream": True},
        {"tenant": "acme"},
        {"missing_usage": "hold"},
        {"unknown_outcome": "hold"},
        {"metadata": {"a": "1"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_fingerprint_sees_whatever_is_asked(change: dict[str, Any]) -> None:
    """Each field changes the fingerprint, defaults that are written out included."""
    assert fingerprint_of({**BASE, **change}) != fingerprint_of(BASE)


EVERY_DOCUMENTED_DEFAULT = {
    "n": 1,
    "size": "auto",
    "quality": "auto",
    "background": "auto",
    "output_format": "png",
    "output_compression": 100,
    "moderation": "auto",
    "stream": False,
    "partial_images": 0,
    "response_format": "b64_json",
    "safety_identifier": None,
    "user": None,
    "complexity": None,
    "frame_count": None,
    "frame_duration_ms": None,
    "svg": None,
    "style": None,
    "mask": None,
    "markup": None,
}
IMAGES = ["store://a.png"]


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2.6-flare"])
@pytest.mark.parametrize("pictures", [{}, {"images": IMAGES}], ids=["generation", "edit"])
@pytest.mark.parametrize("field", [*EVERY_DOCUMENTED_DEFAULT, "all of them"])
def test_documented_default_written_out_is_admitted(field: str, pictures: dict[str, Any], model: str) -> None:
    """Clients write out the defaults that the provider documents: each of them, and all together, may run."""
    defaults = EVERY_DOCUMENTED_DEFAULT
    written = defaults if field == "all of them" else {field: defaults[field]}
    assert check({"model": model, "prompt": "a lamp", **pictures, **written}, SIMULATOR).problems == ()


@pytest.mark.parametrize("model", ["gpt-image-1-mini", "gpt-image-1.5"])
def test_documented_default_of_input_fidelity_is_admitted_where_the_model_has_it(model: str) -> None:
    """It has a default on these models only; elsewhere the provider itself wants it left out."""
    payload = {"model": model, "prompt": "a lamp", "images": IMAGES, "input_fidelity": "low"}
    assert check(payload, SIMULATOR).problems == ()


def test_default_that_is_never_sent_is_not_in_the_fingerprint() -> None:
    """The same request with and without it is the same run, so it cannot be a conflict."""
    never_sent = {
        "stream": False,
        "partial_images": 0,
        "output_compression": 100,
        "moderation": "auto",
        "response_format": "b64_json",
        "safety_identifier": "",
        "user": "",
    }
    edit = {**BASE, "images": IMAGES}
    assert fingerprint_of({**edit, **never_sent}) == fingerprint_of(edit)


def test_a_fingerprint_survives_json() -> None:
    """A request that travelled as JSON has the fingerprint that it had before."""
    request = ImageRequest.model_validate({**BASE, "images": ["store://a.png"], "metadata": {"a": "1"}})
    again = ImageRequest.model_validate(json.loads(request.model_dump_json()))
    assert fingerprint(request) == fingerprint(again)
