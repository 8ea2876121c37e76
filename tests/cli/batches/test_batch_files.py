"""Files that `batch run` reads: JSON Lines and tables in all their variants."""

import json
from pathlib import Path

import pytest

from cli.batches.request_files import MAX_LINE, FileLine, read_lines
from cli.errors import RequestRefused


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


def test_json_lines_are_read_with_their_numbers(tmp_path: Path) -> None:
    lines = read(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"prompt": "one"}\r\n\n  \n{"prompt": "two"}')

    assert [(line.number, line.payload) for line in lines] == [(1, {"prompt": "one"}), (4, {"prompt": "two"})]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "is not JSON (Expecting property name"),
        (b"[1]", "contains JSON, but not an object"),
        (b'{"n": 1} {}', "contains several JSON documents"),
        (b'{"n": 1, "n": 2}', "the name 'n' is given more than once"),
        (b'{"n": NaN}', "NaN is not JSON"),
        (b'{"prompt": "\xfc"}', "is not UTF-8 (byte 12)"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"prompt": "' + b"x" * MAX_LINE + b'"}', "longer than 2,097,152 bytes"),
    ],
)
def test_wrong_line_has_a_problem_and_the_next_is_read(tmp_path: Path, line: bytes, problem: str) -> None:
    first, wrong, last = read(tmp_path, "a.jsonl", b'{"prompt": "one"}\n' + line + b'\n{"prompt": "three"}\n')

    assert (first.problem, last.problem, last.number) == (None, None, 3)
    assert wrong.payload is None
    assert problem in (wrong.problem or "")
    assert "Give one request" not in (wrong.problem or "")


def test_table_with_partial_images_is_read(tmp_path: Path) -> None:
    (line,) = read(tmp_path, "a.csv", "prompt,partial_images\na,2\n")
    assert line.payload == {"prompt": "a", "partial_images": 2}
    assert "stream" in refuse(tmp_path, "b.csv", "prompt,stream\na,true\n")


def test_table_cells_become_fields_of_the_request(tmp_path: Path) -> None:
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
        ('prompt\n"unfinished\n', "is not valid CSV (line 2: unexpected end of data)"),
        (b"prompt\nA \xfc\n", "line 2 is not UTF-8 (byte 2)"),
        (b"prompt\n" + b"x" * (MAX_LINE + 1), "line 2 is longer than 2,097,152 bytes"),
    ],
)  # fmt: skip
def test_table_with_invalid_header_or_form_is_refused(tmp_path: Path, table: str | bytes, why: str) -> None:
    assert why in refuse(tmp_path, "a.csv", table)


def test_row_with_too_many_cells_is_a_problem_of_its_line(tmp_path: Path) -> None:
    (line,) = read(tmp_path, "a.csv", "prompt,n\na,1,2\n")

    assert line.problem == "more cells than the header has columns"


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.jsonl", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(RequestRefused, match=why):
            list(read_lines(str(path)))


def test_same_cells_in_another_spelling_are_the_same_source(tmp_path: Path) -> None:
    plain = read(tmp_path, "a.csv", 'prompt,n\n"a",1\n')
    spaced = read(tmp_path, "b.csv", "prompt, n\r\na, 1\r\n")

    assert json.dumps(plain[0].payload) == json.dumps(spaced[0].payload)


TWO_LINES = [{"prompt": "A lighthouse, blue", "n": 2}, {"prompt": "A cup", "size": "1024x1024"}]
TABLE = 'prompt,size,n\r\n"A lighthouse, blue",,2\r\nA cup,1024x1024,\r\n'
SEMICOLONS = "prompt;size;n\r\nA lighthouse, blue;;2\r\nA cup;1024x1024;\r\n"


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        TABLE.replace("\r\n", "\r"),
        SEMICOLONS,
        SEMICOLONS.replace(";", "\t"),
        "sep=;\r\n" + SEMICOLONS,
        '"sep=,"\n' + TABLE,
        "sep=^\n" + SEMICOLONS.replace(";", "^"),
        "\n,,\n" + TABLE,
        'prompt,size,n,,,\n"A lighthouse, blue",,2,,,\nA cup,1024x1024,,,,\n',
        'prompt,size,n,\n"A lighthouse, blue",,2,\nA cup,1024x1024,,\n',
        'prompt,size,n\n"A lighthouse, blue",,2,,\nA cup,1024x1024,,, \n',
        'Prompt , SIZE,N\n"A lighthouse, blue",,2\nA cup,1024x1024,\n',
        "\ufeff" + SEMICOLONS,
        ("\ufeff" + SEMICOLONS).encode("utf-16-le"),
        ("\ufeff" + SEMICOLONS.replace(";", "\t")).encode("utf-16-be"),
        TABLE.encode("utf-16-le"),
        ("\ufeff" + TABLE).encode("utf-32-le"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_table_as_spreadsheets_write_it_is_read(tmp_path: Path, table: str | bytes, name: str) -> None:
    assert [line.payload for line in read(tmp_path, name, table)] == TWO_LINES


@pytest.mark.parametrize("table", [TABLE, SEMICOLONS, "\ufeff" + SEMICOLONS.replace(";", "\t")])
def test_table_without_the_ending_is_recognized_by_its_first_line(tmp_path: Path, table: str) -> None:
    assert [line.payload for line in read(tmp_path, "export.txt", table)] == TWO_LINES


def test_table_row_has_the_number_of_its_line(tmp_path: Path) -> None:
    """Lines before the header count, so that a row is found in an editor."""
    lines = read(tmp_path, "a.csv", "sep=;\n\nprompt;n\na;1\n\nb;2\n")

    assert [line.number for line in lines] == [4, 6]


def test_column_without_a_name_is_a_problem_where_it_has_a_value(tmp_path: Path) -> None:
    first, second = read(tmp_path, "a.csv", "prompt,n,,\na,1,,x\nb,2,,\n")

    assert first.problem == "column 4 has no name in the first line"
    assert second.payload == {"prompt": "b", "n": 2}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"PK\x03\x04" + bytes(60), "an Excel workbook or another ZIP file: save the sheet as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(60), "an old Excel workbook"),
        (b"\x1f\x8b\x08" + bytes(60), "compressed by gzip"),
        (b"%PDF-1.7\n", "a PDF document"),
        ("prompt\nCaf\u00e9\n".encode("cp1252"), "line 2 is not UTF-8 (byte 3); save the table as CSV UTF-8"),
        (b"prompt,n\na\x00,1\n", "line 2 has a NUL byte"),
        ("\ufeffprompt\na\n".encode("utf-16-le") + b"\x00", "is not valid UTF-16: save it as UTF-8"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_file_of_another_kind_is_refused_by_its_first_bytes(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    assert why in refuse(tmp_path, name, content)


@pytest.mark.parametrize(
    "content",
    [
        '{"prompt": "A lighthouse, blue", "n": 2},\n{"prompt": "A cup", "size": "1024x1024"},\n',
        '{"prompt": "A lighthouse, blue", "n": 2}\r{"prompt": "A cup", "size": "1024x1024"}\r',
        ('\ufeff{"prompt": "A lighthouse, blue", "n": 2}\n{"prompt": "A cup", "size": "1024x1024"}').encode("utf-16-le"),
        ('{"prompt": "A lighthouse, blue", "n": 2}\n{"prompt": "A cup", "size": "1024x1024"}').encode("utf-16-be"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_json_lines_with_unambiguous_variants_are_read(
    tmp_path: Path, content: str | bytes, name: str
) -> None:
    assert [line.payload for line in read(tmp_path, name, content)] == TWO_LINES


PROVIDER_LINE = (
    '{"custom_id": "a", "method": "POST", "url": "/v1/images/generations", "body": {"prompt": "A"}}\n'
)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (PROVIDER_LINE * 2, "is in the provider's own batch format: write what is in `body` as the line, with custom_id as its request_id"),
        ('[\n {\n  "prompt": "A"\n }\n]\n', "is one JSON array: write one request a line"),
        ('[{"prompt": "A"}, {"prompt": "B"}]', "is one JSON array: write one request a line"),
        ('{\n "prompt": "A"\n}\n{\n "prompt": "B"\n}\n', "spreads a JSON object over several lines"),
        ('{"prompt": "A",\n "n": 1}\n', "spreads a JSON object over several lines"),
    ],
)  # fmt: skip
def test_json_that_is_not_json_lines_is_refused_once(tmp_path: Path, content: str, why: str) -> None:
    message = refuse(tmp_path, "a.jsonl", content)

    assert why in message
    assert message.count("\n") == 0


def test_first_line_cut_off_is_a_problem_of_that_line_only(tmp_path: Path) -> None:
    first, second = read(tmp_path, "a.jsonl", '{"prompt": "A",\n{"prompt": "B"}\n')

    assert first.problem
    assert second.payload == {"prompt": "B"}


def test_long_file_is_read_across_chunks(tmp_path: Path) -> None:
    prompts = ["x" * size for size in (*range(65_500, 65_600), 200_000)]
    content = "".join(json.dumps({"prompt": prompt}) + "\r\n" for prompt in prompts)
    for data in (content.encode(), content.encode("utf-16"), content.replace("\r\n", "\r").encode()):
        lines = read(tmp_path, "a.jsonl", data)
        assert [line.payload for line in lines] == [{"prompt": prompt} for prompt in prompts]
