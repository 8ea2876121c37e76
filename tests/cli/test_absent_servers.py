"""What a command says where a server, a ledger, a store or a setting is not there."""

import json
from pathlib import Path

import pytest

from gpt_image_runs.database.open import open_database
from gpt_image_runs.temporal.stack_file import claim_stack, read_stack_file
from tests.support.runs.command_line import CommandLine


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "a fox"),
        ("show", "req-1"),
        ("wait", "req-1"),
        ("runs",),
        ("images", "req-1", "--out", "pictures"),
    ],
)
def test_without_temporal_a_sentence_says_what_to_do(run: CommandLine, arguments: tuple[str, ...]) -> None:
    """A command that needs Temporal ends with status 1, one sentence, and no traceback."""
    ended = run(*arguments)

    assert ended.status == 1
    assert ended.out == ""
    assert "No Temporal server answers at 127.0.0.1:1. Start the embedded one with `make up`" in ended.err
    assert ended.err.count("\n") == 1


def test_with_json_the_sentence_is_a_document(run_process: CommandLine) -> None:
    """One document on stdout. A process of its own also shows that the SDK's native core logs nothing."""
    ended = run_process("generate", "a fox", "--json")

    assert ended.status == 1
    assert ended.err.count("\n") == 1
    assert ended.document["status"] == "error"
    assert "No Temporal server answers" in ended.document["message"]


def test_invalid_temporal_settings_are_named(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """TEMPORAL_* that cannot be read end in a sentence that names them."""
    monkeypatch.setenv("TEMPORAL_PROFILE", "no-such-profile")
    ended = run("show", "req-1")

    assert ended.status == 1
    assert "The TEMPORAL_* settings cannot be used" in ended.err


@pytest.mark.parametrize("command", ["ledger", "costs"])
def test_missing_ledger_is_named_and_not_created(run: CommandLine, data_dir: Path, command: str) -> None:
    """Looking at a ledger that does not exist says so, and makes none."""
    ended = run(command)

    assert ended.status == 1
    assert "There is no ledger at sqlite:///" in ended.err
    assert not data_dir.exists()


def test_empty_ledger_is_an_empty_list(run: CommandLine, data_dir: Path) -> None:
    """A ledger without entries is an empty list."""
    data_dir.mkdir()
    open_database(f"sqlite:///{data_dir / 'ledger.db'}", create=True).close()
    ended = run("ledger", "--json")

    assert ended.status == 0
    assert ended.document == {"entries": []}


def test_a_ledger_that_does_not_answer_shows_no_password(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that cannot be reached is told without its password."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://finance:hunter2@127.0.0.1:1/ledger")
    ended = run("ledger")

    assert ended.status == 1
    assert "The ledger at postgresql://finance@127.0.0.1:1/ledger cannot be used." in ended.err
    assert "hunter2" not in ended.err


def test_invalid_store_url_is_refused(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch, picture: Path
) -> None:
    """A URL that is no image store is told, with what to write."""
    monkeypatch.setenv("IMAGE_STORE_URL", "ftp://pictures")
    ended = run("upload", str(picture))

    assert ended.status == 1
    assert "use file:///folder or s3://bucket/prefix" in ended.err


def test_invalid_setting_is_named(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting ends any command with its name and value."""
    monkeypatch.setenv("PROVIDER_CONCURRENCY", "many")
    ended = run("models")

    assert ended.status == 1
    assert "PROVIDER_CONCURRENCY is 'many'" in ended.err


def test_doctor_says_what_is_missing(run: CommandLine) -> None:
    """Where nothing runs, doctor lists each thing with what to do, and ends with status 1."""
    ended = run("doctor", "--json")
    checks = {check["name"]: check for check in ended.document["checks"]}

    assert ended.status == 1
    assert ended.document["status"] == "not ready"
    assert [name for name, check in checks.items() if check["ok"]] == ["settings", "image store"]
    assert "Start the embedded one with `make up`" in checks["Temporal"]["message"]
    assert checks["provider"]["message"].startswith("OPENAI_API_KEY is not set.")
    assert "There is no ledger" in checks["ledger"]["message"]


def test_doctor_for_people_marks_each_line(run: CommandLine) -> None:
    """For people each check is a line with a mark."""
    lines = run("doctor").out.splitlines()

    assert [line[0] for line in lines] == ["✓", "✗", "✗", "✗", "✗", "✓", "✗", "✗"]


def test_files_of_a_killed_stack_are_ignored(run_process: CommandLine, data_dir: Path) -> None:
    """Files of a stack whose process is gone count for nothing, also where its process id is another's by now."""
    data_dir.mkdir()
    stack = {"pid": 1, "temporal_address": "127.0.0.1:1", "ui_url": "http://u", "provider_base_url": None}
    (data_dir / "stack.json").write_text(json.dumps(stack))
    (data_dir / "stack.lock").write_text("1")

    assert read_stack_file(data_dir) is None
    with claim_stack(data_dir):
        assert run_process("up", "--json").document["status"] == "starting"


def test_up_with_an_unwritable_folder_fails(
    run_process: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` with a DATA_DIR that is no folder names it, with status 1."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "file"))
    ended = run_process("up")

    assert ended.status == 1
    assert "Set DATA_DIR to a folder that you can write to." in ended.err
    assert "Traceback" not in ended.err
