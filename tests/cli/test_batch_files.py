"""What `batch run` reads: JSON Lines and tables, each line with its number, wrong ones told and not fatal to the reading."""

import json
from pathlib import Path

import pytest

from cli.batch_files import LONGEST_LINE, FileLine, read_lines
from cli.failures import RequestRefused


def read(folder: Path, name: str, content: str | bytes) -> list[FileLine]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_lines(str(path)))


def refuse(folder: Path, name: str, content: str | bytes) -> str:
    with pytest.raises(RequestRefused) as refused:
        read(folder, name, content)
    assert refused.value.exit_status == 2
    assert "othing was started" in str(refused.value)
    return str(refused.value)


def test_json_lines(tmp_path: Path) -> None:
    """Each line is a request, with its number in the file; blank lines are none, and a byte order mark is no harm."""
    lines = read(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"prompt": "one"}\r\n\n  \n{"prompt": "two"}')

    assert [(line.number, line.payload) for line in lines] == [(1, {"prompt": "one"}), (4, {"prompt": "two"})]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "is no JSON (Expecting property name"),
        (b"[1]", "holds JSON, but no object"),
        (b'{"n": 1} {}', "holds several JSON documents"),
        (b'{"n": 1, "n": 2}', "the name 'n' is given more than once"),
        (b'{"n": NaN}', "NaN is not JSON"),
        (b'{"prompt": "\xfc"}', "is not UTF-8 (byte 12)"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"prompt": "' + b"x" * LONGEST_LINE + b'"}', "longer than 2,097,152 bytes"),
    ],
)
def test_a_wrong_line_is_told_and_the_next_one_read(tmp_path: Path, line: bytes, problem: str) -> None:
    """A line that is no request has a problem of its own; the lines around it are read."""
    first, wrong, last = read(tmp_path, "a.jsonl", b'{"prompt": "one"}\n' + line + b'\n{"prompt": "three"}\n')

    assert (first.problem, last.problem, last.number) == (None, None, 3)
    assert wrong.payload is None
    assert problem in (wrong.problem or "")
    assert "Give one request" not in (wrong.problem or "")


def test_a_table_with_partial_pictures(tmp_path: Path) -> None:
    """How many are wanted is a number; that they are streamed need not be said, and has no column."""
    (line,) = read(tmp_path, "a.csv", "prompt,partial_images\na,2\n")
    assert line.payload == {"prompt": "a", "partial_images": 2}
    assert "stream" in refuse(tmp_path, "b.csv", "prompt,stream\na,true\n")


def test_a_table(tmp_path: Path) -> None:
    """Columns are fields of the request: an empty cell is absent, numbers are numbers, pictures are split at blanks."""
    table = (
        "prompt,n,size,images,metadata.order,request_id\n"
        '"A cup, blue",2,1024x1024,file:///a.png file:///b.png,4711,cup-1\n'
        ",,,,,\n"
        '"Two\nlines",,,,,\n'
        "Last,x,,,,\n"
    )
    lines = read(tmp_path, "a.CSV", "\ufeff" + table)

    assert [(line.number, line.payload) for line in lines] == [
        (
            2,
            {
                "prompt": "A cup, blue",
                "n": 2,
                "size": "1024x1024",
                "images": ["file:///a.png", "file:///b.png"],
                "request_id": "cup-1",
                "metadata": {"order": "4711"},
            },
        ),
        (4, {"prompt": "Two\nlines"}),
        (6, {"prompt": "Last", "n": "x"}),
    ]


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("A cup,1024x1024\nAnother,auto\n", "has the column 'A cup', unknown or twice; the columns are model, prompt"),
        ("prompt,prompt\na,b\n", "has the column 'prompt', unknown or twice"),
        ("prompt,metadata.\na,b\n", "has the column 'metadata.', unknown or twice"),
        ("model,size\ngpt-image-2,auto\n", "has no column prompt: the first line names the columns."),
        ("", "has no column prompt"),
        ('prompt\n"unfinished\n', "is no CSV (line 2: unexpected end of data)"),
        (b"prompt\nA \xfc\n", "line 2 is not UTF-8 (byte 2)"),
        (b"prompt\n" + b"x" * (LONGEST_LINE + 1), "line 2 is longer than 2,097,152 bytes"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_refused(tmp_path: Path, table: str | bytes, why: str) -> None:
    """A table whose header or form is wrong is refused whole: nobody can say what its cells mean."""
    assert why in refuse(tmp_path, "a.csv", table)


def test_a_row_with_too_many_cells_is_told(tmp_path: Path) -> None:
    """A row that does not fit its header is wrong by itself."""
    (line,) = read(tmp_path, "a.csv", "prompt,n\na,1,2\n")

    assert line.problem == "more cells than the header has columns"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """No file and a folder are told, with status 2."""
    for path, why in ((tmp_path / "none.jsonl", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(RequestRefused, match=why):
            list(read_lines(str(path)))


def test_two_spellings_are_one_source(tmp_path: Path) -> None:
    """What a table holds beside its cells' text plays no part in what a line stands for."""
    plain = read(tmp_path, "a.csv", 'prompt,n\n"a",1\n')
    spaced = read(tmp_path, "b.csv", "prompt, n\r\na, 1\r\n")

    assert json.dumps(plain[0].payload) == json.dumps(spaced[0].payload)
