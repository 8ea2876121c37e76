"""Runs that only the ledger knows, and what finance types."""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import JsonValue

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.contracts.billing import BillingInput, Cost
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from tests.support.ledger.ledger_examples import (
    CHARGE,
    ESTIMATE,
    HOLD,
    IMAGE,
    SUCCEEDED,
    begin_attempt,
    identify,
)
from tests.support.runs.command_line import CommandLine

USAGE: dict[str, JsonValue] = {"input_tokens": 50, "output_tokens": 4160}


@pytest.fixture
def database(data_dir: Path) -> Iterator[Database]:
    """The ledger of this DATA_DIR."""
    data_dir.mkdir()
    database = open_database(f"sqlite:///{data_dir / 'ledger.db'}", create=True)
    yield database
    database.close()


def keep(data_dir: Path, picture: Path) -> ImageRef:
    """The picture, in the store of this DATA_DIR."""
    store = ImageStore.from_url((data_dir / "images").as_uri())
    return asyncio.run(store.put_image(picture.read_bytes()))


def bill(
    database: Database,
    request_id: str = "req-1",
    *,
    image: ImageRef = IMAGE,
    cost: Cost = CHARGE,
    simulated: bool = False,
) -> None:
    """A run of acme whose one request succeeded, with its line in the ledger."""
    attempt = begin_attempt(database, identify("acme", request_id))
    delivered = replace(
        SUCCEEDED,
        provider_request_id="req_0123",
        response={"usage": USAGE} if cost is CHARGE else {},
        images=(image.model_dump(mode="json"),),
        simulated=simulated,
    )
    AttemptLog(database).finish(attempt.attempt_id, delivered)
    order = BillingInput(run_id=attempt.run_id, attempt_id=attempt.attempt_id, cost=cost)
    Ledger(database).record(order)


@pytest.mark.parametrize("command", ["show", "wait"])
def test_the_ledger_remembers_a_result(run: CommandLine, database: Database, command: str) -> None:
    """Where Temporal cannot tell, a run's result comes from the ledger, in the shape that a run answers."""
    bill(database)
    ended = run(command, "req-1", "--tenant", "acme", "--json")
    result = RunResult.model_validate(ended.document)

    assert ended.status == 0
    assert "this is from the ledger" in ended.err
    assert (result.run_id, result.status) == ("image:acme:req-1", "completed")
    assert result.images == (IMAGE,)
    assert result.usage == USAGE
    assert (result.cost.amount_usd, result.cost.basis) == ("0.166900", "token_usage")
    assert (result.billing.state, result.provider.attempts) == ("billed", 1)


def test_a_result_for_people_has_its_bill(run: CommandLine, database: Database) -> None:
    """For people a result is lines: model, picture, tokens, charge and billing state."""
    bill(database)
    lines = run("show", "image:acme:req-1").out.splitlines()

    assert lines[0] == "✓ image:acme:req-1 completed"
    assert lines[1].split() == ["model", "gpt-image-1"]
    assert "file:///pictures/1.png  1024x1024 png, 1.2 KB" in lines[2]
    assert lines[3].split(maxsplit=1) == ["tokens", "50 in, 4,160 out"]
    assert "0.166900 USD by token_usage on charge-1; at list price 0.166650 USD" in lines[4]
    assert "billed, entry ent_" in lines[5]


def test_a_run_on_hold_says_why(run: CommandLine, database: Database) -> None:
    """What cannot be billed yet has no amount, and shows its reason."""
    bill(database, cost=HOLD)
    out = run("show", "image:acme:req-1").out

    assert "not known yet" in out
    assert "no usage reported" in out
    assert "The provider returned no usage." in out


def test_a_run_without_a_bill_lists_what_was_sent(run: CommandLine, database: Database) -> None:
    """A run that ended without a bill shows its requests, one of which may have been paid for."""
    attempt = begin_attempt(database)
    rejected = replace(SUCCEEDED, outcome="rejected", error_type="RateLimited")
    AttemptLog(database).finish(attempt.attempt_id, rejected)
    begin_attempt(database)
    ended = run("show", "image:acme:req-1")

    assert ended.status == 1
    assert ended.out == ""
    assert "1 rejected (RateLimited); 2 unknown" in ended.err


def test_unknown_run_without_a_server_reports_the_server(run: CommandLine, database: Database) -> None:
    """Where the ledger does not know a run, the missing server is what has to be mended."""
    ended = run("show", "req-2")

    assert ended.status == 1
    assert "No Temporal server answers" in ended.err


def test_pictures_are_copied_as_they_were_stored(
    run: CommandLine, database: Database, data_dir: Path, picture: Path, tmp_path: Path
) -> None:
    """`images` writes a run's pictures under its request id, byte for byte, and tells where."""
    image = keep(data_dir, picture)
    bill(database, image=image)
    ended = run("images", "image:acme:req-1", "--out", str(tmp_path / "out"), "--json")
    written = tmp_path / "out" / "req-1-1.png"

    assert ended.status == 0
    assert ended.document == {
        "run_id": "image:acme:req-1",
        "files": [{"path": str(written), "sha256": image.sha256, "bytes": image.bytes}],
    }
    assert written.read_bytes() == picture.read_bytes()
    assert [path.name for path in written.parent.iterdir()] == ["req-1-1.png"]


def test_a_damaged_picture_is_not_copied(
    run: CommandLine, database: Database, data_dir: Path, picture: Path, tmp_path: Path
) -> None:
    """A picture whose bytes have changed in the store is told, and not written."""
    image = keep(data_dir, picture)
    bill(database, image=image)
    stored = Path(image.uri.removeprefix("file://"))
    stored.chmod(0o644)
    stored.write_bytes(picture.read_bytes() + b"!")
    ended = run("images", "image:acme:req-1", "--out", str(tmp_path / "out"))

    assert ended.status == 1
    assert "is damaged: its bytes do not match its name" in ended.err
    assert not (tmp_path / "out").exists()


def test_image_with_another_hash_is_not_copied(
    run: CommandLine, database: Database, data_dir: Path, picture: Path, tmp_path: Path
) -> None:
    """A sound picture that is not the one on the bill is told, and not written."""
    image = keep(data_dir, picture).model_copy(update={"sha256": hashlib.sha256(b"other").hexdigest()})
    bill(database, image=image)
    ended = run("images", "image:acme:req-1", "--out", str(tmp_path / "out"))

    assert ended.status == 1
    assert "its hash differs" in ended.err


def test_a_folder_that_cannot_be_written_is_named(
    run: CommandLine, database: Database, data_dir: Path, picture: Path
) -> None:
    """`images` into what is no folder ends with a sentence."""
    bill(database, image=keep(data_dir, picture))
    ended = run("images", "image:acme:req-1", "--out", str(picture))

    assert ended.status == 1
    assert "Choose another folder." in ended.err


def test_the_ledger_as_json(run: CommandLine, database: Database) -> None:
    """`ledger --json` is one object with the entries, the newest first, amounts as decimal strings."""
    bill(database)
    bill(database, "req-2")
    entries = run("ledger", "--json").document["entries"]

    assert [entry["run_id"] for entry in entries] == ["image:acme:req-2", "image:acme:req-1"]
    assert (entries[0]["tenant"], entries[0]["kind"], entries[0]["amount_usd"]) == (
        "acme",
        "charge",
        "0.166900",
    )
    assert {"entry_id", "basis", "model", "created_at"} <= entries[0].keys()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), 2),
        (("--tenant", "acme"), 2),
        (("--tenant", "other"), 0),
        (("--run", "image:acme:req-1"), 1),
        (("--run", "req-2", "--tenant", "acme"), 1),
        (("--model", "gpt-image-1"), 2),
        (("--model", "gpt-image-2"), 0),
        (("--since", "2026-11-01"), 2),
        (("--until", "2026-11-01"), 0),
        (("--until", "2026-11-01T00:00:00+01:00"), 0),
        (("--limit", "1"), 1),
    ],
)
def test_the_ledger_is_narrowed_down(
    run: CommandLine, database: Database, options: tuple[str, ...], found: int
) -> None:
    """Each option of `ledger` narrows the entries."""
    bill(database)
    bill(database, "req-2")

    assert len(run("ledger", "--json", *options).document["entries"]) == found


def test_a_long_table_says_that_it_is_cut(run: CommandLine, database: Database) -> None:
    """A table shows the newest 50 entries and says so; JSON is complete."""
    for number in range(51):
        bill(database, f"req-{number}")
    ended = run("ledger")

    assert ended.out.count("image:acme:") == 50
    assert "The newest 50 entries; --limit shows more, --json all." in ended.err
    assert len(run("ledger", "--json").document["entries"]) == 51


def test_costs_are_summed_up(run: CommandLine, database: Database) -> None:
    """`costs` sums by a key: two charges of 0.1669 and an estimate of 0.04224, and a simulated run apart."""
    bill(database)
    bill(database, "req-2")
    bill(database, "req-3", cost=ESTIMATE)
    bill(database, "req-4", simulated=True)
    document = run("costs", "--by", "tenant", "--json").document

    rows = [(row["key"], row["simulated"], row["runs"], row["total_usd"]) for row in document["rows"]]
    assert rows == [("acme", False, 3, "0.376040"), ("acme", True, 1, "0.166900")]
    assert document["totals"]["real"]["charged_usd"] == "0.333800"
    assert document["totals"]["real"]["estimated_usd"] == "0.042240"


def test_costs_for_people_keep_simulated_runs_apart(run: CommandLine, database: Database) -> None:
    """A table of costs names simulated sums as such, and adds them to nothing."""
    bill(database)
    bill(database, "req-4", simulated=True)
    lines = [line.split() for line in run("costs", "--by", "model").out.splitlines() if line.strip()]

    assert ["total", "1", "1", "0.166900", "0.000000", "0.166650", "0"] in lines
    assert ["total", "(simulated)", "1", "1", "0.166900", "0.000000", "0.166650", "0"] in lines


def test_costs_by_something_else_are_refused(run: CommandLine) -> None:
    """There are three groupings, and the refusal names them."""
    ended = run("costs", "--by", "week")

    assert ended.status == 2
    assert "'week' is not one of 'tenant', 'model', 'day'" in ended.err
