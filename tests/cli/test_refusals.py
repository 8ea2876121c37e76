"""What is refused at the keyboard: everything that is wrong, at once, with status 2."""

from pathlib import Path

import pytest

from tests.support.runs.command_line import CommandLine, Ended


def fields(ended: Ended) -> list[str]:
    return [problem["field"] for problem in ended.document["problems"]]


def test_every_problem_is_listed_at_once(run: CommandLine) -> None:
    """A refused request ends with status 2 and field, value and what is allowed of each problem."""
    ended = run("generate", "a fox", "--n", "11", "--size", "5x", "--quality", "best", "--json")

    assert ended.status == 2
    assert ended.document["status"] == "refused"
    assert fields(ended) == ["n", "size", "quality"]
    assert ended.document["problems"][0] == {
        "field": "n",
        "value": "11",
        "allowed": "a whole number from 1 to 10",
    }


def test_refusal_without_json_is_a_table(run: CommandLine) -> None:
    """Without --json stdout stays empty, and stderr holds a table of the problems."""
    ended = run("generate", "a fox", "--n", "11")

    assert ended.status == 2
    assert ended.out == ""
    assert "The request is refused, nothing was sent:" in ended.err
    assert "a whole number from 1 to 10" in ended.err


def test_nothing_is_started_for_a_refused_request(run: CommandLine) -> None:
    """A request is refused before anybody asks whether a server is there."""
    assert "No Temporal server" not in run("generate", "a fox", "--n", "11").err


def test_a_retired_model_names_its_replacement(run: CommandLine) -> None:
    """A model that is gone at the provider is refused with its date and what to use."""
    ended = run("generate", "a fox", "--model", "dall-e-3", "--json")

    assert ended.status == 2
    assert fields(ended) == ["model"]
    assert "dall-e-3 was shut down at openai on 2026-05-12" in ended.document["problems"][0]["allowed"]


def test_refusal_without_a_key_names_the_provider_s_rules(run: CommandLine) -> None:
    """Without a key and without a stack the refusal says whose rules it went by."""
    told = "Checked by the rules of the provider openai; the simulator's rules apply while `make up` runs."

    assert told in run("generate", "a fox", "--model", "dall-e-3").err


def test_refusal_with_a_key_does_not_name_the_rules(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a key the provider is named, and nothing more is said about it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")

    assert "Checked by the rules" not in run("generate", "a fox", "--model", "dall-e-3").err


def test_an_edit_lists_problems_of_files_and_fields_together(run: CommandLine, picture: Path) -> None:
    """Local files that cannot be used are listed beside the fields that are wrong."""
    ended = run(
        "edit", "paint it", "--image", "/no/such.png", "--image", str(picture), "--mask", str(picture),
        "--quality", "best", "--json",
    )  # fmt: skip

    assert ended.status == 2
    assert sorted(fields(ended)) == ["images.0", "mask", "quality"]
    assert "no such file or directory" in str(ended.document["problems"])


def test_a_reference_into_another_store_is_refused(run: CommandLine) -> None:
    """A reference that leads out of the image store is refused before anything is started."""
    ended = run("edit", "paint it", "--image", "file:///etc/passwd", "--json")

    assert ended.status == 2
    assert fields(ended) == ["images.0"]


def test_metadata_needs_a_name_and_a_value(run: CommandLine) -> None:
    """A metadata option without a value, or a name that is given twice, is refused."""
    assert "Use KEY=VALUE" in run("generate", "a fox", "--metadata", "team").err
    ended = run("generate", "a fox", "--metadata", "team=a", "--metadata", "team=b")

    assert ended.status == 2
    assert "'team=b' is given twice" in ended.err


def test_invalid_run_id_is_refused_with_an_example(run: CommandLine) -> None:
    """What is neither a run id nor a request id is refused with an example."""
    ended = run("show", "image:ACME:req 1")

    assert ended.status == 2
    assert "is not a valid run. Use the run's id, such as image:acme:req-1" in ended.err


def test_an_uploaded_file_has_to_be_a_picture(run: CommandLine, tmp_path: Path) -> None:
    """A file that is no picture is refused, with status 2."""
    notes = tmp_path / "notes.png"
    notes.write_text("no picture")
    ended = run("upload", str(notes), "--json")

    assert ended.status == 2
    assert fields(ended) == ["file"]
