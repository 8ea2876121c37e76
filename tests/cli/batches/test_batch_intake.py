"""Checks of `batch run` before anything is started."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cli.batches.intake import BatchIntake, Intake
from cli.batches.request_files import read_lines
from cli.errors import RequestRefused
from cli.session import open_session
from gpt_image_runs.contracts.batches import read_page
from tests.support.runs.command_line import CommandLine

ROOT = Path(__file__).resolve().parents[3]
SOUND = {"model": "gpt-image-2", "prompt": "A cup", "size": "1024x1024", "quality": "low"}
TAKE_IN = """
import asyncio, resource, sys, tempfile
from pathlib import Path
from cli.batches.request_files import read_lines
from cli.batches.intake import BatchIntake
from cli.session import open_session

async def take_in():
    with tempfile.TemporaryDirectory() as folder:
        intake = BatchIntake(open_session(), "big", {"model": "gpt-image-2"}, needs_price=True)
        taken = await intake.read_all(read_lines(sys.argv[1]), "big", Path(folder))
        return taken.sound, taken.spool.pages

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(*asyncio.run(take_in()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def write(folder: Path, *lines: object) -> Path:
    path = folder / "autumn.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


async def take_in(
    path: Path, folder: Path, *, needs_price: bool = False, batch_id: str = "autumn", **defaults: Any
) -> Intake:
    await asyncio.to_thread(folder.mkdir)
    intake = BatchIntake(open_session(), batch_id, defaults, needs_price=needs_price)
    return await intake.read_all(read_lines(str(path)), str(path), folder)


def pages_of(folder: Path) -> list[dict[str, Any] | None]:
    return [line.request for page in sorted(folder.iterdir()) for line in read_page(page.read_bytes())]


def refuse(run: CommandLine, *arguments: object) -> Any:
    ended = run("batch", "run", *map(str, arguments), "--json")
    assert ended.status == 2
    return ended.document


async def test_line_takes_missing_fields_from_the_options(data_dir: Path, tmp_path: Path) -> None:
    """Metadata are merged key by key, and each line has an id made of the batch and its number."""
    path = write(
        tmp_path,
        {"prompt": "one", "metadata": {"order": "2"}},
        {"prompt": "two", "model": "gpt-image-2", "request_id": "own", "n": None},
    )
    taken = await take_in(
        path, tmp_path / "pages", model="gpt-image-2.5-sunburst", n=2, metadata={"order": "1", "team": "a"}
    )

    assert pages_of(tmp_path / "pages") == [
        {
            "model": "gpt-image-2.5-sunburst",
            "n": 2,
            "prompt": "one",
            "metadata": {"order": "2", "team": "a"},
            "request_id": "autumn-000001",
        },
        {
            "model": "gpt-image-2",
            "n": 2,
            "prompt": "two",
            "metadata": {"order": "1", "team": "a"},
            "request_id": "own",
        },
    ]
    assert (taken.sound, taken.wrong, taken.unpriced) == (2, 0, 0)
    assert taken.worst_case_micro_usd > 0


async def test_digest_depends_on_the_requests_and_not_on_their_spelling(
    data_dir: Path, tmp_path: Path
) -> None:
    lines: Sequence[tuple[Sequence[object], dict[str, Any]]] = (
        ([SOUND, SOUND], {}),
        (["  " + json.dumps(dict(reversed(SOUND.items()))), json.dumps(SOUND, indent=None)], {}),
        ([SOUND, {**SOUND, "prompt": "Another"}], {}),
        (["", SOUND, SOUND], {}),
        ([SOUND, SOUND], {"tenant": "acme"}),
    )
    digests = [
        (await take_in(write(tmp_path, *texts), tmp_path / f"{number}", **defaults)).digest
        for number, (texts, defaults) in enumerate(lines)
    ]

    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_wrong_lines_are_refused_with_their_numbers(run: CommandLine, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        SOUND,
        {**SOUND, "n": 0},
        "{",
        {**SOUND, "model": "gpt-image-1"},
        {**SOUND, "images": ["file:///nowhere/a.png"]},
        {**SOUND, "request_id": "autumn-000001"},
        {**SOUND, "colour": "red", "size": "1x1"},
    )
    document = refuse(run, path)

    assert (document["status"], document["wrong"], document["sound"]) == ("refused", 6, 1)
    told = document["lines"]
    assert [line.partition(":")[0] for line in told] == [f"line {number}" for number in (2, 3, 4, 5, 6, 7)]
    assert "n is 0; allowed: a whole number from 1 to 10" in told[0]
    assert "gpt-image-1 was shut down at openai on 2026-10-23" in told[2]
    assert "not in this image store" in told[3]
    assert "line 1 has it already" in told[4]
    assert "size is" in told[5]
    assert "colour is" in told[5]
    assert "--skip-invalid runs the other lines" in document["message"]


def test_many_wrong_lines_are_listed_in_part_and_counted(run: CommandLine, tmp_path: Path) -> None:
    document = refuse(run, write(tmp_path, *[{"prompt": ""}] * 80))

    assert (len(document["lines"]), document["wrong"]) == (50, 80)
    assert "and 30 more" in document["message"]


@pytest.mark.parametrize(
    ("name", "content", "arguments", "why"),
    [
        ("a.jsonl", b"", (), "a.jsonl has no lines; nothing was started."),
        ("a.jsonl", b"\xef\xbb\xbf\n \n", (), "has no lines"),
        ("a.csv", b"prompt\n", (), "has no lines"),
        ("a.csv", b"A cup,1024x1024\n", (), "has the column 'A cup', unknown or twice"),
        ("a b.jsonl", b"{}", (), "'a b' is not a valid batch id"),
        ("a.jsonl", b"{}", ("--id", "x" * 65), "is not a valid batch id"),
        ("a.jsonl", b"{}", ("--max-cost", "ten"), "--max-cost: 'ten' is not a valid amount in USD"),
        ("a.jsonl", b"{}", ("--max-cost", "0"), "--max-cost is 0: write an amount above zero"),
        ("a.jsonl", b"{}", ("--max-cost", "-1"), "--max-cost is -1: write an amount above zero"),
        ("a.jsonl", b"{}", ("--window", "0"), "Invalid value for '--window': Input should be greater"),
        ("a.jsonl", b'{"prompt": ""}', ("--skip-invalid",), "line 1: prompt is a text of 0 characters"),
    ],
)  # fmt: skip
def test_invalid_file_id_or_amount_is_refused(
    run: CommandLine, tmp_path: Path, *, name: str, content: bytes, arguments: tuple[str, ...], why: str
) -> None:
    (tmp_path / name).write_bytes(content)

    assert why in refuse(run, tmp_path / name, *arguments)["message"]


def test_line_without_known_price_is_refused_under_a_limit(run: CommandLine, tmp_path: Path) -> None:
    document = refuse(run, write(tmp_path, {**SOUND, "model": "gpt-image-9"}), "--max-cost", "5")

    assert "with --max-cost, a model whose price is known" in document["lines"][0]


def test_commands_without_a_ledger_say_what_to_do_and_write_nothing(
    run: CommandLine, run_process: CommandLine
) -> None:
    for command in ("status", "watch", "results", "retry", "list"):
        ended = run("batch", command, *(["autumn"] if command != "list" else []), "--json")
        assert ended.status == 1
        assert "There is no ledger" in ended.document["message"]


async def test_file_with_too_many_lines_is_refused(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.batches.intake.MAX_LINES", 3)
    with pytest.raises(RequestRefused, match="has more than 3 lines: split it up"):
        await take_in(write(tmp_path, *[SOUND] * 4), tmp_path / "pages")


def test_twenty_thousand_lines_are_checked_with_little_memory(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    with path.open("w") as file:
        for number in range(20_000):
            file.write(json.dumps({**SOUND, "prompt": f"A lighthouse at dawn, number {number}" * 4}) + "\n")
    ended = subprocess.run(
        [sys.executable, "-c", TAKE_IN, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )

    sound, pages, kilobytes = map(int, ended.stdout.split())
    assert (sound, pages) == (20_000, 40)
    assert kilobytes < 100 * 1024
