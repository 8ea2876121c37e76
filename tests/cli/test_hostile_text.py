"""What a stranger wrote is read on a terminal and in a table, and carried out by neither."""

import csv
import io
import logging

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.text import Text

from cli.errors import CommandFailed, RequestRefused
from cli.files import defuse
from cli.output import Output, make_table
from gpt_image_runs.contracts.problems import Problem
from gpt_image_runs.contracts.visible_text import escape_controls
from gpt_image_runs.observability.logging import configure_logging

HOSTILE = "a\x1b[2J\x1b]8;;http://evil\x07b\x9b31mc\u202ed\u2066e\x7ff\x00g"
SHOWN = r"\x1b[2J"


def assert_harmless(written: str) -> None:
    allowed = {"\n", "\t"}
    assert [char for char in written if char not in allowed and escape_controls(char) != char] == []
    assert SHOWN in written


@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_view_sends_a_control_character(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_terminal: bool
) -> None:
    """As a text, as a plain string, as a cell of either, as a title, in a sentence, in a warning, in a failure."""
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: is_terminal))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    output = Output(as_json=False)
    table = make_table("Plain", "Text")
    table.title = HOSTILE
    table.add_row(HOSTILE, Text(HOSTILE))

    output.answer({}, Text(HOSTILE), HOSTILE, table)
    assert_harmless(capsys.readouterr().out)
    output.say(HOSTILE)
    output.warn(HOSTILE)
    output.fail(CommandFailed(HOSTILE))
    output.fail(RequestRefused("no", problems=(Problem(field="prompt", value=HOSTILE, allowed="less"),)))
    with Progress(TextColumn("{task.description}"), console=output.talk) as progress:
        progress.add_task(HOSTILE)
    assert_harmless(capsys.readouterr().err)


def test_brackets_and_colons_in_text_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = make_table("Model")
    table.add_row("[red]x[/red] :bomb: [link=http://evil]y[/link]")

    Output(as_json=False).answer({}, table, "[/]")

    told = capsys.readouterr().out
    assert "[red]x[/red] :bomb: [link=http://evil]y[/link]" in told
    assert "[/]" in told


def test_json_for_machines_holds_the_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).answer({"error": HOSTILE})

    assert capsys.readouterr().out.isascii()


def test_a_cell_of_a_table_holds_no_control_character() -> None:
    file = io.StringIO()
    csv.writer(file).writerow([defuse(HOSTILE), defuse("\x1b=1+1"), defuse("=1+1"), defuse("a\u202e\r\nb")])

    assert_harmless(file.getvalue().replace("\r\n", "\n"))
    assert defuse("\x1b=1+1") == r"\x1b=1+1"
    assert defuse("=1\x00") == r"'=1\x00"
    assert defuse("a\u202e\r\nb") == r"a\u202e b"


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_log_line_holds_no_control_character(capsys: pytest.CaptureFixture[str], style: str) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure_logging("INFO", style="json" if style == "json" else "console")
        logging.getLogger("x").warning("said %s", HOSTILE, extra={"error": HOSTILE})
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)

    written = capsys.readouterr().err
    assert "\x1b" not in written
    assert "\x9b" not in written
    assert "\u202e" not in written


def test_letters_of_any_script_stay() -> None:
    text = "Füße, 猫, שלום, 👩\u200d🎨\tand\nlines"

    assert escape_controls(text) == text
