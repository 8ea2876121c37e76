"""The front door: help, usage errors, defects, and outputs that break."""

import subprocess
import sys
from pathlib import Path

import pytest

import cli.local.models
from cli.app import COMMANDS, load_command
from tests.support.runs.command_line import CommandLine

ROOT = Path(__file__).resolve().parents[2]


def test_help_lists_every_command(run: CommandLine) -> None:
    """Help names each command, on stdout, with status 0."""
    ended = run("--help")

    assert ended.status == 0
    assert all(name in ended.out for name in COMMANDS)
    assert ended.err == ""


def test_no_arguments_show_the_help(run: CommandLine) -> None:
    """Who types nothing gets the help, not an error."""
    assert run() == run("--help")


def test_help_loads_no_heavy_library() -> None:
    """Help answers without Temporal, SQLAlchemy, Pillow and pydantic-settings having been imported."""
    heavy = "{'temporalio', 'sqlalchemy', 'PIL', 'pydantic_settings', 'openai'}"
    code = (
        f"import sys; from cli.app import main; main(['--help']); sys.exit(bool({heavy} & set(sys.modules)))"
    )

    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode
        == 0
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name: str) -> None:
    """Each listed command exists, begins its help with the sentence of the list, and takes --json; so do those of a group."""
    command = load_command(name)

    assert command.help.startswith(COMMANDS[name].help)
    for each in getattr(command, "commands", {"": command}).values():
        assert each.help
        assert any("--json" in parameter.opts for parameter in each.params)


def test_a_group_names_its_commands(run: CommandLine) -> None:
    """A group's help lists its commands, a mistyped one is told with the one that was meant, and none is refused."""
    assert all(word in run("budget", "--help").out for word in ("set", "show"))
    mistyped, missing = run("budget", "shwo"), run("budget")

    assert (mistyped.status, missing.status) == (2, 2)
    assert "Did you mean 'show'? See `python starter.py budget --help`." in mistyped.err
    assert missing.err == "✗ Missing command. See `python starter.py budget --help`.\n"


def test_an_unknown_command_is_refused_with_a_suggestion(run: CommandLine) -> None:
    """A mistyped command ends with status 2 and names the one that was meant."""
    ended = run("generat")

    assert ended.status == 2
    assert ended.out == ""
    assert "Did you mean 'generate'? See `python starter.py --help`." in ended.err


def test_a_usage_error_with_json_is_one_document(run: CommandLine) -> None:
    """A wrong option is told as JSON too where JSON is asked for."""
    ended = run("ledger", "--since", "yesterday", "--json")

    assert ended.status == 2
    assert ended.document["status"] == "refused"
    assert "'yesterday' is not a valid day or time" in ended.document["message"]


def test_internal_error_is_one_sentence(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody expected shows no traceback, and says how to get one."""

    def models(*, as_json: bool = False) -> None:
        raise KeyError("sizes")

    monkeypatch.setattr(cli.local.models, "models", models)
    ended = run("models")

    assert ended.status == 1
    assert "Internal error: KeyError: 'sizes'. Run again with LOG_LEVEL=DEBUG for a traceback." in ended.err
    assert "Traceback" not in ended.err


def test_internal_error_with_debug_shows_its_traceback(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LOG_LEVEL=DEBUG shows where a defect is."""

    def models(*, as_json: bool = False) -> None:
        raise KeyError("sizes")

    monkeypatch.setattr(cli.local.models, "models", models)
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")

    assert "Traceback" in run("models").err


@pytest.mark.parametrize("long", [True, False])
def test_closed_pipe_ends_silently(data_dir: Path, picture: Path, *, long: bool) -> None:
    """A pipe that is closed early ends the command without a word, whether its answer fits into a buffer or not."""
    words = ["models", "--json"] if long else ["upload", str(picture), "--json"]
    command = [sys.executable, str(ROOT / "starter.py"), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as stderr:
        told = stderr.read()

    assert process.wait(timeout=60) == 1
    assert told == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_reported(data_dir: Path) -> None:
    """Output that cannot be written ends with status 1 and a sentence, not as if all were well."""
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, str(ROOT / "starter.py"), "models", "--json"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)

    assert ended.returncode == 1
    assert b"No space left on device" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_signs_that_a_terminal_lacks_become_question_marks(
    run_process: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal in ASCII gets its answer all the same."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")

    assert "? settings" in run_process("doctor").out
