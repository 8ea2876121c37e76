"""`submit` reads one JSON object, strictly."""

from pathlib import Path

import pytest

from cli.errors import RequestRefused
from cli.files import read_document
from tests.support.runs.command_line import CommandLine

REQUEST = b'{"model": "gpt-image-2", "prompt": "x"}'


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "is not JSON (Expecting property name enclosed in double quotes at line 1, column 2)"),
        (b"[1]", "contains JSON, but not an object"),
        (b'"x"', "contains JSON, but not an object"),
        (b"{} {}", "contains several JSON documents (the second begins at line 1, column 4)"),
        (b"{}\n{}", "contains several JSON documents (the second begins at line 2, column 1)"),
        (b'{"n": 1, "n": 2}', "the name 'n' is given more than once"),
        (b'{"metadata": {"a": "1", "a": "1"}}', "the name 'a' is given more than once"),
        (b'{"n": NaN}', "NaN is not JSON"),
        (b'{"n": -Infinity}', "-Infinity is not JSON"),
        (b"\xff{}", "is not UTF-8 (byte 0)"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"n": ' + b"9" * 5_000 + b"}", "is not a valid request"),
    ],
)
def test_input_other_than_one_request_is_refused(data: bytes, sentence: str) -> None:
    """Anything but one JSON object, read strictly, is refused with a sentence that says why."""
    with pytest.raises(RequestRefused) as refused:
        read_document(data, "order.json")

    assert str(refused.value).startswith("order.json ")
    assert sentence in str(refused.value)
    assert refused.value.exit_status == 2


def test_byte_order_mark_is_accepted() -> None:
    """Files that an editor began with a byte order mark are read."""
    assert read_document(b"\xef\xbb\xbf" + REQUEST, "x") == {"model": "gpt-image-2", "prompt": "x"}


def test_invalid_request_on_stdin_is_refused(run_process: CommandLine) -> None:
    """A bad document on stdin ends with status 2, one JSON document on stdout, and no traceback."""
    ended = run_process("submit", "-", "--json", stdin=b"{} {}")

    assert ended.status == 2
    assert ended.document["status"] == "refused"
    assert ended.document["message"].startswith("stdin contains several JSON documents")
    assert "Traceback" not in ended.err


def test_a_file_that_is_not_there_is_refused(run: CommandLine) -> None:
    """A missing file is named, with status 2."""
    ended = run("submit", "/no/such/order.json")

    assert ended.status == 2
    assert "/no/such/order.json cannot be read (no such file or directory)" in ended.err


def test_a_request_in_a_file_is_checked(run: CommandLine, tmp_path: Path) -> None:
    """The request in a file is refused with all its problems."""
    order = tmp_path / "order.json"
    order.write_text('{"prompt": "x", "n": 0, "modle": "gpt-image-2"}')

    problems = run("submit", str(order), "--json").document["problems"]

    assert [problem["field"] for problem in problems] == ["model", "n", "modle"]
