import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select, text

from gpt_image_runs.billing.hash_chain import genesis_hash, hash_entry
from gpt_image_runs.billing.ledger.heads import append_entry
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import LedgerRefused
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.tables import ledger_entries
from tests.billing.ledger.test_ledger import read_entry
from tests.billing.verification.test_verification import verify
from tests.support.ledger.ledger_examples import identify, make_order, pay_attempt
from tests.support.servers.postgres_server import PostgresServer

MOMENT = datetime(2026, 11, 23, 9, 30, 0, 5, tzinfo=timezone(timedelta(hours=1)))


def test_the_form_of_a_hash_is_for_good() -> None:
    """Names in order, numbers as they are, a moment in UTC, a truth value as a number; no NULL, number or own hash."""
    stored = {
        "tenant": "acmé",
        "sequence": 7,
        "amount_micro_usd": 166900,
        "reason": None,
        "simulated": True,
        "sent_at": MOMENT,
        "rates": '{"output": "40"}',
        "previous_hash": "00ff",
        "entry_hash": "not looked at",
    }
    form = (
        r'{"amount_micro_usd":166900,"previous_hash":"00ff","rates":"{\"output\": \"40\"}",'
        r'"sent_at":"2026-11-23 08:30:00.000005","simulated":1,"tenant":"acm\u00e9"}'
    )
    assert hash_entry(stored) == hashlib.sha256(form.encode()).hexdigest()


def test_both_databases_have_one_form() -> None:
    """What SQLite's driver gives for a moment and a truth value has the hash of what PostgreSQL's gives."""
    on_sqlite = {"sent_at": "2026-11-23 08:30:00.000005", "simulated": 0}
    assert hash_entry(on_sqlite) == hash_entry({"sent_at": MOMENT.astimezone(UTC), "simulated": False})


def test_a_chain_begins_with_its_tenant() -> None:
    """The hash before the first entry is made of a text that names the tenant."""
    assert genesis_hash("acme") == hashlib.sha256(b"the first entry of tenant acme").hexdigest()


def test_writers_at_once_keep_one_chain(database: Database) -> None:
    """Eight threads that write forty entries of two tenants leave two chains that are whole."""
    orders = [
        make_order(pay_attempt(database, identify(tenant, f"req-{number}")))
        for number in range(20)
        for tenant in ("acme", "zoo")
    ]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(Ledger(database).record, orders))
    findings, verification = verify(database)
    assert not [finding for finding in findings if "chain" in finding.what or "hash" in finding.what]
    assert [(head.tenant, head.entries) for head in verification.heads] == [("acme", 20), ("zoo", 20)]


def test_tenants_do_not_wait_for_each_other(postgres_server: PostgresServer, postgres_template: str) -> None:
    """On PostgreSQL an entry is written while a transaction of another tenant is open."""
    url = postgres_server.create_database(postgres_template)
    database = open_database(url, create=False)
    Ledger(database).record(make_order(pay_attempt(database)))
    theirs = make_order(pay_attempt(database, identify("zoo", "req-1")))
    row = read_entry(database) | {"entry_id": "ent_open", "entry_key": "open"}
    with ThreadPoolExecutor(1) as thread, database.writing() as connection:
        assert append_entry(connection, row)
        assert thread.submit(Ledger(database).record, theirs).result(timeout=30).state == "billed"
    database.close()
    postgres_server.drop_database(url)


def test_a_key_that_is_taken_leaves_the_head_where_it_is(
    postgres_server: PostgresServer, postgres_template: str
) -> None:
    """An entry that loses the race for its key on PostgreSQL is not written, and its chain does not move on."""
    url = postgres_server.create_database(postgres_template)
    database = open_database(url, create=False)
    Ledger(database).record(make_order(pay_attempt(database)))
    row = read_entry(database) | {"entry_id": "ent_late"}
    with database.writing() as connection:
        assert not append_entry(connection, row)
    assert [head.entries for head in verify(database)[1].heads] == [1]
    database.close()
    postgres_server.drop_database(url)


def test_a_chain_that_went_on_without_its_head_is_not_forked(database: Database) -> None:
    """Where a program has written an entry past the head, the database refuses the next one instead of a fork."""
    Ledger(database).record(make_order(pay_attempt(database)))
    order = make_order(pay_attempt(database, identify("acme", "req-2")))
    row = read_entry(database)
    row |= {"entry_id": "ent_2", "entry_key": "key-2", "previous_hash": row["entry_hash"]}
    with database.writing() as connection:
        connection.execute(insert(ledger_entries).values(row))
    with pytest.raises(LedgerRefused):
        Ledger(database).record(order)
    with database.reading() as connection:
        assert len(connection.execute(select(ledger_entries.c.entry_id)).all()) == 2
        assert connection.execute(text("SELECT entries FROM ledger_heads")).scalar() == 1
