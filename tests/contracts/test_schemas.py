"""The published JSON Schemas: they match the contracts and stay compatible with those published before."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from gpt_image_runs.contracts.problems import InvalidPayload, parse
from gpt_image_runs.contracts.request_parsing import read_request
from gpt_image_runs.contracts.schemas.generate import PUBLISHED, make_schemas
from tests.contracts import test_corrections, test_reading, test_request

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "gpt_image_runs" / "contracts" / "schemas"
SAVED = Path(__file__).parent / "saved"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def match_as_published(_: Any, pattern: str, text: Any, __: Any) -> Iterator[ValidationError]:
    """Match as ECMA-262 does, where $ is the very end; in Python it also matches before a last newline."""
    if isinstance(text, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), text):
        yield ValidationError(f"{text!a} has not the pattern")


Validator = extend(Draft202012Validator, {"pattern": match_as_published})  # type: ignore[no-untyped-call]  # the stubs have none


@cache
def validator_of(name: str) -> Any:
    return Validator(read_json(SCHEMAS / f"{name}.json"))


def accepts(name: str, document: Any) -> bool:
    valid: bool = validator_of(name).is_valid(document)
    return valid


def is_beyond_schemas(field: str, value: Any) -> bool:
    """Return whether a schema cannot refuse the value: it takes 1.0 as an integer and half a surrogate pair as a character."""
    round_number = isinstance(value, float) and value.is_integer()
    return (field in {"n", "output_compression", "partial_images"} and round_number) or not can_be_written(
        value
    )


def can_be_written(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


# What is parsed of whatever others send, apart from requests.
PARSED = ("correction", "decision", "budget-decision", "batch-order", "economy-order")
ORDER: dict[str, Any] = {"batch_id": "autumn", "digest": "3f" * 32, "lines": 2, "pages": 1}
# A sound payload of each kind, and changes that each make it invalid.
WRONG: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "decision": (
        {"decision": "resend", "reason": "ticket 7", "actor": "ada"},
        [{"decision": "give-up"}, {"reason": " "}, {"actor": 7}, {"actor": None}],
    ),
    "budget-decision": (
        {"tenant": "acme", "limits": {"month": "250.00"}, "reason": "ticket 8", "actor": "ada"},
        [
            *({"tenant": "Acme"}, {"reason": "\t"}, {"actor": "a\x00"}, {"limits": {}}, {"limits": None}),
            *({"limits": {"day": limit}} for limit in (20, "20,00", "-1", "1.0000001", "")),
            {"limits": {"year": "1.00"}},
        ],
    ),
    "batch-order": (
        ORDER,
        [
            *(
                {"batch_id": "a/b"},
                {"digest": "3f"},
                {"lines": 0},
                {"pages": "1"},
                {"line": 2},
                {"lines": 100_001},
            ),
            *(
                {"max_cost_usd": 25},
                {"max_cost_usd": "25"},
                {"window": 2_001},
                {"retry": "all"},
                {"fail_fast": 1},
            ),
        ],
    ),
    "economy-order": (
        ORDER,
        [
            {"batch_id": "a/b"},
            {"digest": "3f"},
            {"lines": 0},
            {"pages": "1"},
            {"line": 2},
            {"lines": 100_001},
        ],
    ),
}
SAVED_DOCUMENTS = [
    pytest.param(path.stem, document, id=f"{path.stem}-{name}")
    for path in sorted(SAVED.glob("*.json"))
    for name, document in read_json(path).items()
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_schema_files_match_the_contracts(name: str) -> None:
    """After a change of a contract: `make schemas`."""
    assert read_json(SCHEMAS / f"{name}.json") == make_schemas()[name]


def test_every_schema_has_a_contract_and_saved_documents() -> None:
    for folder in (SCHEMAS, SAVED, SAVED / "schemas"):
        assert {path.stem for path in folder.glob("*.json")} == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_schema_is_valid_self_contained_and_describes_each_field(name: str) -> None:
    schema = make_schemas()[name]
    Draft202012Validator.check_schema(schema)

    assert schema["$id"] == f"urn:gpt-image-runs:{name}"
    assert all(ref.startswith("#/$defs/") for ref in re.findall(r'"\$ref": "([^"]+)"', json.dumps(schema)))
    assert all(field["description"] for field in schema["properties"].values())


@pytest.mark.parametrize(("name", "document"), SAVED_DOCUMENTS)
def test_saved_documents_are_valid_today(name: str, document: Any) -> None:
    contract = PUBLISHED[name].contract
    assert accepts(name, document)
    if name == "image-request":
        assert read_request(document).problems == ()
    elif name in PARSED:
        parse(PUBLISHED[name].contract, document, name)
    elif PUBLISHED[name].mode == "serialization":
        answered = contract.model_validate(document).model_dump(mode="json")
        assert {field: answered[field] for field in document} == document


@pytest.mark.parametrize("name", PUBLISHED)
def test_schema_is_compatible_with_the_first_published_one(name: str) -> None:
    """No field is gone, a request requires no more, an answer guarantees no less."""
    before, today = read_json(SAVED / "schemas" / f"{name}.json"), make_schemas()[name]
    models = {"": (before, today)} | {
        key: (schema, today["$defs"][key]) for key, schema in before.get("$defs", {}).items()
    }
    for earlier, later in models.values():
        assert earlier.get("properties", {}).keys() <= later.get("properties", {}).keys()
        needed, promised = set(earlier.get("required", ())), set(later.get("required", ()))
        assert promised <= needed if PUBLISHED[name].mode == "validation" else promised >= needed


@pytest.mark.parametrize(
    ("field", "value"),
    test_request.WITHIN_THE_LIMITS,
)
def test_value_within_the_limits_is_valid(field: str, value: Any) -> None:
    others: dict[str, dict[str, Any]] = {
        "mask": {"images": ["store://a.png"]},
        "stream": {"partial_images": 1},
    }
    beside = others.get(field, {})
    assert accepts("image-request", {**test_request.BASE, **beside, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    test_request.BEYOND_THEM,
)
def test_value_beyond_the_limits_is_invalid_as_far_as_a_schema_can_say(field: str, value: Any) -> None:
    assert accepts("image-request", {**test_request.BASE, field: value}) == is_beyond_schemas(field, value)


@settings(deadline=None)
@given(test_reading.PAYLOADS)
def test_any_accepted_request_is_valid(payload: dict[str, Any]) -> None:
    """A client that validates by the schema is never kept from sending an acceptable request."""
    sent = {name: value for name, value in {**payload, **test_reading.BASE}.items() if value is not None}
    if not read_request(sent).problems:
        assert accepts("image-request", sent)


@settings(deadline=None)
@given(test_reading.PAYLOADS)
def test_any_valid_request_is_refused_only_for_what_no_schema_can_say(payload: dict[str, Any]) -> None:
    sent = {**payload, **test_reading.BASE}
    if accepts("image-request", sent):
        wrong = {problem.field.partition(".")[0] for problem in read_request(sent).problems}
        assert all(is_beyond_schemas(field, sent[field]) or has_odd_text(sent[field]) for field in wrong)


def has_odd_text(value: Any) -> bool:
    """Return whether a text in it has an unprintable character that the schema does not name: Unicode adds some each year."""
    return not all(text.isprintable() for text in re.findall(r'[^"]+', json.dumps(value, ensure_ascii=False)))


@pytest.mark.parametrize(
    ("payload", "why"),
    test_corrections.NO_CORRECTIONS,
)
def test_refused_correction_is_invalid_as_far_as_a_schema_can_say(payload: Any, why: str) -> None:
    with pytest.raises(InvalidPayload):
        parse(PUBLISHED["correction"].contract, payload, "correction")
    assert accepts("correction", payload) == ("longer than" in why or not can_be_written(payload))


@pytest.mark.parametrize("name", WRONG)
def test_refused_decision_or_order_is_invalid(name: str) -> None:
    sound, changes = WRONG[name]
    assert accepts(name, sound)
    for payload in ("sound", None, *({**sound, **change} for change in changes)):
        with pytest.raises(InvalidPayload, match=r"\w"):
            parse(PUBLISHED[name].contract, payload, name)
        assert not accepts(name, payload), payload


def test_mask_requires_images_and_references_are_short() -> None:
    mask = {**test_request.BASE, "mask": "store://m.png"}
    assert not accepts("image-request", mask)
    assert not accepts("image-request", {**mask, "images": None})
    assert accepts("image-request", {**mask, "images": ["data:" + "A" * 5_000]})
    assert not accepts("image-request", {**mask, "images": ["store://" + "a" * 5_000]})


def test_stream_requires_partial_images_of_one_picture() -> None:
    stream = {**test_request.BASE, "stream": True}
    assert not accepts("image-request", stream)
    assert not accepts("image-request", {**stream, "partial_images": None})
    assert accepts("image-request", {**stream, "partial_images": 2, "n": None})
    assert accepts("image-request", {**stream, "stream": None, "n": 4})
    assert not accepts("image-request", {**stream, "partial_images": 2, "n": 2})


@pytest.mark.parametrize("name", [" a", "a\nb", "\u202ea", "a\u200b", "a\x00b", "\u00a0", "k" * 65, ""])
def test_metadata_name_with_invisible_characters_is_invalid(name: str) -> None:
    request = {**test_request.BASE, "metadata": {name: "x"}}
    assert read_request(request).problems
    assert not accepts("image-request", request)


def test_unknown_field_is_valid_in_an_answer_and_invalid_in_a_request() -> None:
    result = read_json(SAVED / "run-result.json")["generated"]
    assert accepts("run-result", {**result, "later": 1, "cost": {**result["cost"], "later": 1}})
    assert not accepts("image-request", {**test_request.BASE, "qualty": "high"})


def test_documents_in_the_readme_are_valid() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (request,) = re.findall(r"--input '(\{.*?\})'\n```", readme, re.DOTALL)
    (result,) = re.findall(r"```json\n(\{\"run_id\".*?)\n```", readme, re.DOTALL)
    shown = json.loads(result)
    shown["cost"]["line_items"] = []  # the README shortens them to dots

    assert accepts("image-request", json.loads(request))
    assert accepts("run-result", shown)
