"""Print a command's answer on stdout, once, and everything else on stderr."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cli.errors import CommandFailed, RequestRefused
from gpt_image_runs.contracts.visible_text import escape_controls

# Whatever reads a pipe or a file has no edge to wrap at, and wants a line to stay a line; a log is read by people.
_WIDTH_OF_PIPE = 200
_WIDTH_OF_LOG = 120


class _SafeConsole(Console):
    """A console that never sends control characters of a text to the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(escape_controls(segment.text), segment.style)


class Output:
    """The two streams of one command. With `as_json` the answer is one JSON document, otherwise text."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.talk = _open_console(sys.stderr, _WIDTH_OF_LOG)
        self._answer = _open_console(sys.stdout, _WIDTH_OF_PIPE)

    @property
    def width(self) -> int:
        """Characters in a line of stdout."""
        return self._answer.width

    def say(self, sentence: str, *, style: str = "") -> None:
        """Print a message on stderr."""
        self.talk.print(Text(escape_controls(sentence), style=style), soft_wrap=True)

    def warn(self, sentence: str) -> None:
        """Print a warning on stderr."""
        self.say(f"! {sentence}", style="yellow")

    def answer(self, document: Any, *view: RenderableType) -> None:
        """Print the command's answer: `document` as JSON, or `view` as text. Lines of text are not wrapped."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
            return
        for part in view:
            self._answer.print(part, soft_wrap=isinstance(part, Text))

    def fail(self, failure: CommandFailed) -> int:
        """Print how the command failed and return its exit status."""
        if self.as_json:
            self.answer(failure.document())
        if isinstance(failure, RequestRefused) and failure.problems:
            self.say("✗ The request is refused, nothing was sent:", style="bold red")
            self.talk.print(_tabulate_problems(failure))
        else:
            style = "bold" if failure.status == "running" else "bold red"
            self.say(str(failure) if failure.status == "running" else f"✗ {failure}", style=style)
        return failure.exit_status


def make_table(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> Table:
    """Make a table in the common style. Columns in `right` hold numbers; those in `whole` are never wrapped."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in columns:
        justify: JustifyMethod = "right" if name in right else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name in whole)
    return table


def _tabulate_problems(failure: RequestRefused) -> Table:
    table = make_table("Field", "Value", "Allowed")
    for problem in failure.problems:
        table.add_row(Text(problem.field), Text(problem.value), Text(problem.allowed))
    return table


def _open_console(stream: Any, without_terminal: int) -> Console:
    # Without markup and emoji codes: "[red]" and ":bomb:" are a stranger's words like any other.
    return _SafeConsole(
        file=stream, highlight=False, markup=False, emoji=False, width=_width_of(stream, without_terminal)
    )


def _width_of(stream: Any, without_terminal: int) -> int | None:
    """Return the characters in a line; None lets Rich ask the terminal."""
    if stream.isatty():
        return None
    return shutil.get_terminal_size((without_terminal, 24)).columns  # COLUMNS, where somebody has set it
