"""What `reconcile` reads: one usage, or a file of lines, all checked before any is started."""

import json
from pathlib import Path

import pytest

from cli.errors import RequestRefused
from cli.ledger.correction_files import Defaults, read_corrections, read_usage_file
from gpt_image_runs.contracts.corrections import Correction

DEFAULTS = Defaults(tenant="acme", reason=None, actor="ada")
SOUND = {"run_id": "req-1", "usage": {"input_tokens": 50, "output_tokens": 4160}, "reason": "ticket 7"}


def write(folder: Path, name: str, *lines: object) -> str:
    """A file of these lines; what is no text is written as JSON."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path = folder / name
    path.write_text("\n".join(texts) + "\n")
    return str(path)


def refuse(file: str, defaults: Defaults = DEFAULTS) -> str:
    with pytest.raises(RequestRefused) as refused:
        read_corrections(file, defaults)
    assert refused.value.exit_status == 2
    assert "othing was started" in str(refused.value)
    return str(refused.value)


def test_json_lines_are_read(tmp_path: Path) -> None:
    """Each line is a correction: a request id is one of the default tenant, a run's id stands as it is; blank lines are none."""
    other = {**SOUND, "run_id": "image:zoo:req-1", "reason": " ticket 8 "}

    first, second = read_corrections(write(tmp_path, "usages.jsonl", SOUND, "", other), DEFAULTS)

    assert first == Correction(
        action="reconcile",
        run_id="image:acme:req-1",
        usage={"input_tokens": 50, "output_tokens": 4160},
        reason="ticket 7",
        actor="ada",
    )
    assert (second.run_id, second.reason) == ("image:zoo:req-1", "ticket 8")


def test_a_table_is_read(tmp_path: Path) -> None:
    """The columns of a .csv make the usage: an empty cell is an absent count, a dotted name a detail."""
    file = write(
        tmp_path,
        "usages.CSV",
        "run_id,input_tokens,output_tokens,input_tokens_details.text_tokens,output_tokens_details.image_tokens,reason",
        "req-1,50,4160,40,4160,ticket 7",
        'req-2,,1056,,,"late, but told"',
    )

    first, second = read_corrections(file, DEFAULTS)

    assert first.usage == {
        "input_tokens": 50,
        "output_tokens": 4160,
        "input_tokens_details": {"text_tokens": 40},
        "output_tokens_details": {"image_tokens": 4160},
    }
    assert (second.usage, second.reason) == ({"output_tokens": 1056}, "late, but told")


def test_one_reason_serves_all_lines(tmp_path: Path) -> None:
    """A line without a reason takes the one of the command line."""
    line = {name: value for name, value in SOUND.items() if name != "reason"}
    file = write(tmp_path, "usages.jsonl", line)

    (correction,) = read_corrections(file, DEFAULTS._replace(reason="the monthly file"))

    assert correction.reason == "the monthly file"
    assert "line 1: reason is ''; allowed: a text of 1 to 500 characters" in refuse(file)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "line 2 is not JSON (Expecting property name"),
        ("[]", "line 2 contains JSON, but not an object"),
        ('{"run_id": "req-2", "run_id": "req-3"}', "line 2 is not a valid correction: the name 'run_id' is given more"),
        ({**SOUND, "run_id": "req 2"}, "line 2: 'req 2' is not a valid run"),
        ({**SOUND, "run_id": None}, "line 2: run_id is None; allowed: the id of a run"),
        ({**SOUND, "run_id": "req-2", "usage": {"input_tokens": "50"}}, "line 2: usage.input_tokens is '50': "),
        ({**SOUND, "run_id": "req-2", "usage": {}}, "line 2: usage names neither input_tokens nor output_tokens."),
        ({"run_id": "req-2", "reason": "x"}, "line 2: usage names neither"),
        ({**SOUND, "run_id": "req-2", "reason": ["x"]}, "line 2: reason is a list of 1; allowed: "),
        ({**SOUND, "run_id": "req-2", "reason": "x" * 501}, "line 2: reason is "),
        ({**SOUND, "run_id": "req-2", "resaon": "x"}, "line 2 has 'resaon'; a line has run_id, usage and reason."),
        (SOUND, "line 2: image:acme:req-1 is already on line 1."),
    ],
)  # fmt: skip
def test_invalid_line_is_named_by_its_number(tmp_path: Path, line: object, why: str) -> None:
    """What is wrong with a line refuses the whole file, with the line's number and the reason."""
    assert why in refuse(write(tmp_path, "usages.jsonl", SOUND, line))


def test_every_invalid_line_is_listed(tmp_path: Path) -> None:
    """Two wrong lines of three are told at once."""
    wrong = {**SOUND, "usage": {"output_tokens": -1}}

    with pytest.raises(RequestRefused) as refused:
        read_corrections(write(tmp_path, "usages.jsonl", wrong, SOUND, "{}"), DEFAULTS)

    assert [line.split(":")[0] for line in refused.value.document()["lines"]] == ["line 1", "line 3"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["run,input_tokens"], "has the column 'run', which is unknown or repeated; the columns are run_id, reason, input_"),
        (["run_id,run_id,input_tokens"], "has the column 'run_id', which is unknown or repeated"),
        (["input_tokens,output_tokens"], "has no column run_id"),
        (["run_id,input_tokens", "req-1,1,2"], "line 2 has more cells than the header has columns."),
        (["run_id,input_tokens", "req-1,1.5"], "line 2: input_tokens is '1.5', which is not a whole number."),
        (["run_id,input_tokens", "req-1,-1"], "line 2: input_tokens is '-1', which is not a whole number."),
        (["run_id,input_tokens", "req-1,\u0665"], "line 2: input_tokens is '\\u0665', which is not a whole number."),
        (["run_id,input_tokens", "req-1"], "line 2: usage names neither input_tokens nor output_tokens."),
        (["run_id,input_tokens", 'req-1,"1'], "is not CSV (line 2: unexpected end of data)"),
        (["run_id,input_tokens,reason", "req-1,1,x", "req-1,2,x"], "line 3: image:acme:req-1 is already on line 2."),
        (["run_id,input_tokens"], "It contains no lines."),
    ],
)  # fmt: skip
def test_invalid_csv_is_refused(tmp_path: Path, lines: list[str], why: str) -> None:
    """Columns that nobody knows, counts that are none and rows that do not fit are refused with their place."""
    assert why in refuse(write(tmp_path, "usages.csv", *lines), DEFAULTS._replace(reason="ticket 7"))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """No file, no UTF-8, and a file of blank lines are told."""
    (tmp_path / "latin.jsonl").write_bytes(b'{"reason": "\xfc"}')

    assert "cannot be read (no such file or directory)" in refuse(str(tmp_path / "none.jsonl"))
    assert "is not UTF-8 (byte 12)" in refuse(str(tmp_path / "latin.jsonl"))
    assert "It contains no lines." in refuse(write(tmp_path, "blank.jsonl", "", " "))


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        ("{}", "usage names neither input_tokens nor output_tokens."),
        ('{"usage": {"input_tokens": 1}}', "usage names neither input_tokens nor output_tokens."),
        ('{"input_tokens": 1e3}', "usage.input_tokens is 1000.0: a token count has to be a whole number"),
        ('{"total_tokens": 7}', "usage has neither input_tokens nor output_tokens, only 'total_tokens'"),
        (
            "[1]",
            "contains JSON, but not an object. Provide one usage as one JSON object; nothing was started.",
        ),
    ],
)
def test_a_usage_that_cannot_be_billed_is_refused(tmp_path: Path, usage: str, why: str) -> None:
    """A usage is checked as the ledger would, before anything is started."""
    file = tmp_path / "usage.json"
    file.write_text(usage)

    with pytest.raises(RequestRefused) as refused:
        read_usage_file(str(file))

    assert why in str(refused.value)
