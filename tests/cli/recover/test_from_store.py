"""Taking back what a ledger has lost, page by page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

from cli.output import Output
from cli.recover.from_store import recover_from_store
from cli.session import Session
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.recovery.notes import read_ledger_now
from gpt_image_runs.billing.recovery.receipts import build_receipt, write_attempt_receipt
from gpt_image_runs.billing.reports.entries import list_entries
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.settings import Settings
from tests.support.ledger.ledger_examples import SUCCEEDED, begin_attempt, identify

LOST = 60


@pytest.mark.asyncio
async def test_lost_attempts_are_written_in_few_transactions_and_one_that_is_refused_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, images = f"sqlite:///{tmp_path / 'ledger.db'}", (tmp_path / "images").as_uri()
    database, store = open_database(url, create=True), ImageStore.from_url(images)
    own = begin_attempt(database, identify("acme", "own"))
    ledger_id = read_ledger_now(database).ledger_id
    for number in range(LOST):
        run = identify("acme", f"req-{number}")
        lost = replace(own, attempt_id=f"att_{number}", run_id=run.run_id, client_request_id=f"lost-{number}")
        receipt = build_receipt(ledger_id, run, lost, SUCCEEDED, None)
        await write_attempt_receipt(store, receipt)
    begin_attempt(database, replace(identify("acme", "req-7"), fingerprint="b2" * 32))

    begun: list[str] = []

    def note_begin(_connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        begun.extend([statement] if statement == "BEGIN IMMEDIATE" else [])

    event.listen(Engine, "before_cursor_execute", note_begin)
    session = Session(Settings(database_url=url, image_store_url=images, provider="openai"), None)
    await recover_from_store(session, Output(as_json=True), "ada", ask_temporal=False)
    event.remove(Engine, "before_cursor_execute", note_begin)

    told = json.loads(capsys.readouterr().out)
    assert told["recovered"] == {"attempts": LOST - 1, "entries": LOST - 1, "waiting": 0, "conflicts": 1}
    assert "req-7" in told["problems"][0]
    assert len(list_entries(database, limit=LOST)) == LOST - 1
    assert [attempt.attempt_id for attempt in AttemptLog(database).list_attempts("image:acme:req-8")] == [
        "att_8"
    ]
    # One for each page of 50.
    assert len(begun) == 2
    database.close()
