"""How batches are shown: pace, lines, next command, manifest."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.batches.results import check_manifest_path, write_manifest
from cli.batches.view import describe_progress, get_exit_status, suggest_next
from cli.batches.watch import PaceMeter
from cli.errors import RequestRefused
from gpt_image_runs.batches.results import LineResult
from gpt_image_runs.contracts.batches import BatchProgress
from gpt_image_runs.contracts.images import ImageRef
from workflows.image_batch import describe_batch

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PICTURE = ImageRef(
    uri="s3://p/1.png", sha256="a" * 64, media_type="image/png", bytes=10, width=1024, height=1536
)


def make(**changes: Any) -> BatchProgress:
    fields: dict[str, Any] = {
        "batch_id": "autumn",
        "digest": "a" * 64,
        "state": "running",
        "round": 1,
        "lines": 100,
        "pages": 1,
        **dict.fromkeys(
            ("waiting", "running", "done", "failed", "cancelled", "skipped", "images", "pending"), 0
        ),
        "unknown": 0,
        "charged_usd": "0.000000",
        "reserved_usd": "0.000000",
        "exposed_usd": "0.000000",
        "window": 500,
        "fail_fast": False,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return BatchProgress(**fields | changes)


def make_result(**changes: Any) -> LineResult:
    fields: dict[str, Any] = dict.fromkeys(LineResult.model_fields) | {
        "line": 1,
        "run_id": "image:default:autumn-000001",
        "state": "done",
        "round": 1,
        "pictures": (),
    }
    return LineResult(**fields | changes)


def test_pace_is_measured_over_the_last_minute() -> None:
    meter = PaceMeter()
    first = meter.add(make(waiting=100), 0)
    meter.add(make(waiting=90, done=10, images=10, charged_usd="1.000000"), 600)
    pace = meter.add(make(waiting=60, running=10, done=30, images=60, charged_usd="3.000001"), 630)

    assert (first.images_per_minute, first.seconds_left, first.forecast_usd) == (None, None, None)
    assert pace.images_per_minute == 100
    assert pace.seconds_left == pytest.approx(105)
    assert pace.forecast_usd == "10.000003"


def test_pace_of_an_idle_batch_is_zero_without_an_estimate() -> None:
    meter = PaceMeter()
    meter.add(make(waiting=50, done=50, images=50), 0)
    pace = meter.add(make(waiting=50, done=50, images=50), 30)

    assert (pace.images_per_minute, pace.seconds_left) == (0, None)


@pytest.mark.parametrize(
    ("changes", "status", "advice"),
    [
        ({"state": "done", "done": 100}, 0, "results"),
        ({"state": "done", "done": 99, "skipped": 1}, 0, "results"),
        ({"state": "done", "done": 99, "failed": 1}, 1, "retry"),
        ({"state": "capped", "done": 50, "waiting": 50}, 1, "retry autumn --max-cost USD"),
        ({"state": "cancelled", "done": 50, "waiting": 50}, 1, "retry"),
        ({"state": "paused", "waiting": 50}, 1, "resume"),
        ({"state": "running", "waiting": 50}, 1, "watch"),
    ],
)
def test_batch_state_gives_the_exit_status_and_the_next_command(
    changes: dict[str, Any], status: int, advice: str
) -> None:
    assert get_exit_status(make(**changes)) == status
    assert f"batch {advice}" in suggest_next(make(**changes))


def test_batch_shows_nonzero_counts_cost_and_lost_answers() -> None:
    shown = make(
        state="capped", done=40, failed=2, waiting=58, images=41, charged_usd="4.100000", max_cost_usd="5.000000",
        unknown=1, pending=3, reason="The next line could pass --max-cost; 58 lines were not started.",
    ).model_copy()  # fmt: skip
    text = describe_progress(shown).plain

    assert "100: 40 done, 2 failed, 58 waiting" in text
    assert "4.100000 of at most 5.000000 USD" in text
    assert "1 request was sent whose answer was lost" in text
    assert "3 bills have no amount yet" in text
    assert "no picture" not in text


def test_batch_shows_lines_billed_without_a_picture() -> None:
    shown = make(state="done", lines=3, done=3, images=1, without_picture=2)
    text = describe_progress(shown).plain
    assert text.startswith("! autumn done")
    assert "2 done lines were billed without a picture; `python starter.py batch results autumn`" in text


def test_web_ui_shows_the_batch_and_quotes_foreign_text() -> None:
    page = describe_batch(make(state="stopped", done=3, failed=1, charged_usd="0.500100", reason="[a](b)"))

    assert "**Stopped by a failure** · 3 of 100 lines done · 0.500100 USD" in page
    assert "failed 1" in page
    assert '`Batch = "autumn"`' in page
    assert "[a]" not in page


def test_manifest_has_every_line_in_both_formats(tmp_path: Path) -> None:
    """In the table no cell is a formula."""
    results = [
        make_result(
            pictures=(PICTURE, PICTURE), charge_usd="0.166900", billing_state="billed", input_tokens=50
        ),
        make_result(line=2, state="failed", error_type="InvalidRequest", error="=HYPERLINK(1)\nx"),
        make_result(line=3, charge_usd="0.166900", without_picture=True),
    ]
    counts = [write_manifest(iter(results), tmp_path / name) for name in ("a.jsonl", "a.csv")]
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert counts == [3, 3]
    assert [line["without_picture"] for line in lines] == [None, None, True]
    assert [row["without_picture"] for row in rows] == ["", "", "true"]
    assert lines[0]["pictures"][1]["sha256"] == "a" * 64
    assert lines[1]["error"] == "=HYPERLINK(1)\nx"
    assert (rows[0]["uris"], rows[0]["sizes"]) == ("s3://p/1.png s3://p/1.png", "1024x1536 1024x1536")
    assert (rows[0]["charge_usd"], rows[1]["charge_usd"]) == ("0.166900", "")
    assert rows[1]["error"] == "'=HYPERLINK(1) x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.jsonl"]


@pytest.mark.parametrize("name", ["autumn.csv", "autumn.jsonl"])
def test_manifest_does_not_overwrite_other_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    check_manifest_path(path)
    write_manifest([], path)
    check_manifest_path(path)
    path.write_text(
        '{"prompt": "A lighthouse"}\n' if name.endswith("l") else "prompt,size\nA lighthouse,auto\n"
    )

    with pytest.raises(RequestRefused, match=f"such as .*autumn-results.{name.partition('.')[2]}"):
        check_manifest_path(path)
