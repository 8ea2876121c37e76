"""`decide`, where no server runs."""

import pytest

from tests.support.runs.command_line import CommandLine


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("req-1", "--reason", "x"), "Missing argument"),
        (("req-1", "resend"), "Missing option '--reason'"),
        (("req-1", "give_up", "--reason", "x"), "'give_up' is not one of 'resend', 'give-up'"),
        (("req-1", "resend", "--reason", " "), "reason is ' '; allowed: a text of 1 to 500 characters"),
        (("req-1", "resend", "--reason", "a\x07b"), "reason is 'a\\x07b'; allowed: "),
        (("req-1", "give-up", "--reason", "x", "--actor", "a" * 129), "actor is 'aaa"),
        (("req 1", "resend", "--reason", "x"), "'req 1' is not a valid run"),
    ],
)
def test_invalid_decision_is_refused(run: CommandLine, words: tuple[str, ...], why: str) -> None:
    """A wrong word, reason, actor or run ends with status 2, without asking any server."""
    ended = run("decide", *words)

    assert ended.status == 2
    assert why in ended.err
    assert "Temporal" not in ended.err


def test_without_temporal_nothing_is_decided(run_process: CommandLine) -> None:
    """A decision needs Temporal, and says so with status 1."""
    ended = run_process("decide", "req-1", "resend", "--reason", "x", "--json")

    assert ended.status == 1
    assert "No Temporal server answers" in ended.document["message"]
