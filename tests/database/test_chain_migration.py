"""Ledgers that had entries before there was a chain."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from alembic import command
from sqlalchemy import insert, select, text

from gpt_image_runs.database.engine import Database, parse_url, prepare_sqlite_file
from gpt_image_runs.database.errors import LedgerRefused
from gpt_image_runs.database.migrate import _configure_alembic, migrate_to_head
from gpt_image_runs.database.tables import ledger_entries, provider_attempts, runs
from tests.billing.verification.test_verification import verify
from tests.support.ledger_examples import FINISHED_AT, SENT_AT, describe_attempt, identify
from tests.support.priced_bills import USAGE, bill_run

TENANTS = ("acme", "zoo", "acmé")
TABLES = (runs, provider_attempts, ledger_entries)
LATER_COLUMNS = {"previous_hash", "entry_hash", "actor"}
LAST_NUMBER = 5_000
"""Was given once, to an entry that is not there any more."""
SET_COUNTER = {
    "sqlite": f"UPDATE sqlite_sequence SET seq = {LAST_NUMBER} WHERE name = 'ledger_entries'",
    "postgresql": f"SELECT setval(pg_get_serial_sequence('ledger_entries', 'sequence'), {LAST_NUMBER})",
}
COUNT = 1_100
"""More than the migration handles at a time."""
GAP = 2
"""Each number is the double of its place: a database may leave numbers out."""


@pytest.fixture
def old(empty_url: str) -> Iterator[Database]:
    """A ledger of schema 0001 with charges of three tenants, and after them a correction of the first."""
    database = Database(parse_url(empty_url))
    fill_old_ledger(database, COUNT)
    correction = {"kind": "adjustment", "corrects": "ent_0", "sequence": GAP * COUNT + GAP}
    correction |= {"entry_id": "ent_correction", "entry_key": "correction", "amount_micro_usd": 0}
    with database.writing() as connection:
        connection.execute(insert(ledger_entries), [{**make_rows(0)[2], **correction}])
        connection.execute(text(SET_COUNTER[database.dialect]))
    yield database
    database.close()


def fill_old_ledger(database: Database, count: int) -> None:
    """Makes a ledger of schema 0001, and charges in it."""
    prepare_sqlite_file(database.url)
    with database.writing() as connection:
        command.upgrade(_configure_alembic(connection), "0001")
        for start in range(0, count, COUNT):
            rows = [make_rows(place) for place in range(start, min(start + COUNT, count))]
            for table, made in zip(TABLES, zip(*rows, strict=True), strict=True):
                connection.execute(insert(table), made)


def make_rows(place: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A run, its attempt and its charge, as the program of that time has written them."""
    identity = asdict(identify(TENANTS[place % 3], f"req-{place}"))
    of_the_run = {name: value for name, value in identity.items() if name != "workflow_id"}
    sent = asdict(describe_attempt(identity["run_id"])) | {"attempt_id": f"att_{place}"}
    del sent["batch_part"]  # a later column
    of_the_attempt = {
        name: sent[name] for name in ("attempt_id", "model", "provider", "simulated", "sent_at")
    }
    attempt = {
        **sent,
        "number": 1,
        "client_request_id": f"c-{place}",
        "outcome": "succeeded",
        "finished_at": FINISHED_AT,
        "response": {"usage": USAGE},
        "error_message": None if place else "half a pair: \ud83d",
    }
    entry = {
        **of_the_run,
        **of_the_attempt,
        **CHARGED,
        "sequence": GAP * (place + 1),
        "entry_id": f"ent_{place}",
        "entry_key": f"{identity['run_id']}#bill",
    }
    return {**identity, "created_at": SENT_AT}, attempt, entry


CHARGED: dict[str, Any] = {
    "kind": "charge",
    "amount_micro_usd": 166_900,
    "basis": "token_usage",
    "flags": [],
    "rate_card": "charge-2026-11-04",
    "rates": {"input": "10.00", "output": "40.00"},
    "line_items": [
        {"token_class": "input", "tokens": 50, "usd_per_million": "10.00", "amount_usd": "0.000500"},
        {"token_class": "output", "tokens": 4160, "usd_per_million": "40.00", "amount_usd": "0.166400"},
    ],
    "list_rates": {},
    "usage": USAGE,
    "images": [],
    "image_count": 0,
    "metadata": {"order": "4711"},
    "created_at": FINISHED_AT,
}


def read_entries(database: Database) -> list[dict[str, Any]]:
    """All entries as they are stored, in the columns of schema 0001."""
    with database.reading() as connection:
        rows = connection.execute(text("SELECT * FROM ledger_entries ORDER BY sequence")).mappings()
        return [{name: value for name, value in row.items() if name not in LATER_COLUMNS} for row in rows]


def test_old_entries_are_linked_as_they_are(old: Database) -> None:
    """A migrated ledger verifies: a chain for each tenant in the order of the entries, none of which has changed."""
    before = read_entries(old)
    assert migrate_to_head(old) == "0001"
    findings, verification = verify(old)
    assert findings == []
    assert read_entries(old) == before
    heads = {head.tenant: head.entries for head in verification.heads}
    assert heads == {"acme": 368, "zoo": 367, "acmé": 366}


def test_a_migrated_ledger_goes_on(old: Database) -> None:
    """New entries join the chains, their numbers go on, and the guards are there again."""
    migrate_to_head(old)
    bill_run(old, identify("acme", "new"))
    with old.reading() as connection:
        numbers = select(ledger_entries.c.sequence).where(ledger_entries.c.request_id == "new")
        assert connection.execute(numbers).scalar_one() == LAST_NUMBER + 1
    assert verify(old)[0] == []
    for change in ("UPDATE ledger_entries SET reason = 'because'", "DELETE FROM ledger_entries"):
        with pytest.raises(LedgerRefused, match="The ledger only grows: "), old.writing() as connection:
            connection.execute(text(change))
