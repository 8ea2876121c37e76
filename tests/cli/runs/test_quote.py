"""`quote`: the price of a request, told without any server."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs.command_line import CommandLine

REQUEST = {"model": "gpt-image-2", "prompt": "a red kite", "size": "1024x1024", "quality": "low"}


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    return tmp_path / "request.json"


def write(file: Path, **fields: Any) -> str:
    file.write_text(json.dumps({**REQUEST, **fields}), encoding="utf-8")
    return str(file)


def test_a_quote_as_json(run: CommandLine, request_file: Path, data_dir: Path) -> None:
    """196 tokens at 30 micro-USD are expected, and at most 110 * 8 more; no server is asked and no file is made."""
    ended = run("quote", write(request_file), "--json")

    assert ended.status == 0
    assert ended.document["expected_usd"] == "0.005880"
    assert ended.document["ceiling_usd"] == "0.006760"
    assert not data_dir.exists()


def test_a_quote_for_people(run: CommandLine, request_file: Path) -> None:
    """Both amounts, the list price beside each, and what is not in the first."""
    ended = run("quote", write(request_file, n=2))

    assert "generate 2 pictures with gpt-image-2" in ended.out
    assert "0.011760 USD; at list price 0.011760 USD" in ended.out
    assert "the prompt is billed in addition" in ended.out
    assert "0.013520 USD" in ended.out


def test_quote_without_an_estimate_says_why(run: CommandLine, request_file: Path) -> None:
    """Where there is no sound estimate, the reason stands in its place."""
    ended = run("quote", write(request_file, quality=None))

    assert ended.status == 0
    assert "Size or quality is left to the provider: name both for an expected price." in ended.out


def test_quote_of_an_invalid_request_is_refused(run: CommandLine, request_file: Path) -> None:
    """A request that would be refused has no price: status 2, and its problems."""
    ended = run("quote", write(request_file, n=11), "--json")

    assert ended.status == 2
    assert [problem["field"] for problem in ended.document["problems"]] == ["n"]


def test_quote_uses_the_own_rate_card(
    run: CommandLine, request_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With RATE_CARD the quote is by that card: 196 tokens at 60 micro-USD, beside the list price."""
    card = tmp_path / "card.toml"
    card.write_text(
        'id = "ours"\n[[prices]]\nprovider = "openai"\nmodels = ["gpt-image-2"]\nvalid_from = 2026-01-01\n'
        'source = "ours"\nchecked_on = 2026-11-23\nusd_per_million = { input = "8.00", output = "60.00" }\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("RATE_CARD", str(card))
    ended = run("quote", write(request_file), "--json")

    assert ended.document["expected_usd"] == "0.011760"
    assert ended.document["list_expected_usd"] == "0.005880"
    assert ended.document["rate_card"].startswith("ours+")
