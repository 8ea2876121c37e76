"""Each alteration of each table of the ledger is refused by the database, or found by `verify`: 100 %.

With the guards off: every column of every row changed, every row taken out, every row put in a second time.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.seals import hash_begun
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import LedgerRefused
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.tables import provider_attempts, runs
from tests.billing.attempts.test_attempts import REJECTED, UNKNOWN
from tests.support.ledger.ledger_examples import begin_attempt, identify
from tests.support.ledger.priced_bills import bill_run
from tests.support.ledger.tampering import (
    LEDGER,
    add_decisions,
    delete,
    find_all,
    list_alterations,
    read_rows,
    unguarded,
    write,
)
from tests.support.servers.postgres_server import PostgresServer, name_database


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def prepared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A filled ledger that no test changes: each gets a copy."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("prepared") / "ledger.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        url = f"sqlite:///{path}"
        fill(url)
        yield url
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create_database(request.getfixturevalue("postgres_template"))
    fill(url)
    yield url
    server.drop_database(url)


@pytest.fixture
def ledger(request: pytest.FixtureRequest, prepared_url: str, tmp_path: Path) -> Iterator[Database]:
    """A copy of the prepared ledger."""
    prefix, _, path = prepared_url.partition(":///")
    if prefix == "sqlite":
        copied = shutil.copy(path, tmp_path / "ledger.db")
        database = open_database(f"sqlite:///{copied}", create=False)
        yield database
        database.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create_database(name_database(prepared_url))
    database = open_database(url, create=False)
    yield database
    database.close()
    server.drop_database(url)


def fill(url: str) -> None:
    """Write rows of each kind: an attempt in each state, bills, two budgets of a tenant, two comparisons."""
    database = open_database(url, create=False)
    bill_run(database, identify("acme", "billed"))
    bill_run(database, identify("acme", "estimated"), usage=None)
    log = AttemptLog(database)
    for request_id, outcome in (("rejected", REJECTED), ("unknown", UNKNOWN)):
        log.finish(begin_attempt(database, identify("acme", request_id)).attempt_id, outcome)
    settled = begin_attempt(database, identify("acme", "settled"))
    log.finish(settled.attempt_id, replace(UNKNOWN, response={"a": [0.1, 10**30]}))
    log.finish(settled.attempt_id, REJECTED)
    begin_attempt(database, identify("acme", "under-way"))
    add_decisions(database)
    assert find_all(database) == []
    database.close()


@pytest.mark.parametrize("table", LEDGER)
def test_each_alteration_of_each_table_is_found(ledger: Database, table: str) -> None:
    rows = read_rows(ledger, table)
    assert rows
    done, missed = 0, []
    with unguarded(ledger) as execute:
        for what, out, put in list_alterations(table, rows):
            for statement, values in [delete(table, row) for row in out] + [write(table, row) for row in put]:
                execute(statement, values)
            if not find_all(ledger):
                missed.append(what)
            for statement, values in [delete(table, row) for row in put] + [write(table, row) for row in out]:
                execute(statement, values)
            done += 1
    assert missed == []
    assert done >= len(rows) * 5
    assert find_all(ledger) == []


def execute_guarded(database: Database, statement: str, **values: Any) -> None:
    with database.writing() as connection:
        connection.execute(text(statement), values)


GUARDED = (
    "UPDATE provider_attempts SET outcome = 'rejected', finished_at = '2026-11-23 09:00:00.000000' WHERE {unknown}",
    "UPDATE provider_attempts SET outcome = 'not_sent', finished_at = '2026-11-23 09:00:00.000000' WHERE {open}",
    "UPDATE provider_attempts SET http_status = 429, error_type = 'RateLimited' WHERE {unknown}",
    "UPDATE provider_attempts SET error_message = NULL WHERE {unknown}",
    "UPDATE provider_attempts SET simulated = NOT simulated WHERE {open}",
    "UPDATE provider_attempts SET batch_part = 'autumn/1/1/1' WHERE {open}",
    "UPDATE provider_attempts SET begun_hash = 'forged' WHERE {open}",
    "INSERT INTO runs SELECT 'forged', tenant, 'forged', 'w', 'f', 'generate', 'm', created_at, NULL FROM runs",
    "UPDATE seals SET content_hash = 'forged'",
    "DELETE FROM seals",
    "UPDATE seal_heads SET seal_hash = 'forged'",
    "DELETE FROM seal_heads",
)


def test_plain_statements_that_hide_an_exposure_are_refused_by_the_database(ledger: Database) -> None:
    """All guards are on."""
    where = {
        "unknown": "run_id = 'image:acme:unknown'",
        "open": "run_id = 'image:acme:under-way'",
    }
    for statement in GUARDED:
        with pytest.raises(LedgerRefused, match="The ledger only grows: "):
            execute_guarded(ledger, statement.format(**where))
    assert find_all(ledger) == []


@pytest.mark.parametrize("request_id", ["unknown", "under-way"])
def test_an_outcome_with_an_invented_seal_is_found(ledger: Database, request_id: str) -> None:
    """All guards are on, and what a worker writes is imitated but for the chain. The counters are put right too."""
    execute_guarded(
        ledger,
        "UPDATE provider_attempts SET outcome = 'rejected', finished_at = '2026-11-23 09:00:00.000000',"
        " http_status = 400, error_type = 'BadRequest', seal = 'forged' WHERE run_id = :run_id",
        run_id=f"image:acme:{request_id}",
    )
    execute_guarded(ledger, "UPDATE tenant_spend SET reserved_micro_usd = reserved_micro_usd - 250000")
    found = find_all(ledger)
    assert len(found) == 1
    assert "is not the one that was sealed" in found[0]


def test_a_budget_that_nobody_decided_is_found(ledger: Database) -> None:
    """All guards are on: a row in `budgets` is a plain INSERT."""
    execute_guarded(
        ledger,
        "INSERT INTO budgets (budget_key, tenant, period, limit_micro_usd, reason, actor, created_at)"
        " VALUES ('forged', 'acme', 'month', 1000000000, 'why not', 'ada', '2026-11-23 09:00:00.000000')",
    )
    assert find_all(ledger) == ["The budget forged is not as it was sealed."]


def test_a_forged_attempt_with_the_right_hash_is_counted_or_sealed(ledger: Database) -> None:
    """An attempt that was put in whole, with its hash made anew and an outcome that costs nothing, has no seal."""
    with ledger.reading() as connection:
        query = provider_attempts.select().where(provider_attempts.c.run_id == "image:acme:rejected")
        row = dict(connection.execute(query).mappings().one())
        row |= {"attempt_id": "att_forged", "number": 2, "client_request_id": "forged", "seal": "forged"}
        row["begun_hash"] = hash_begun(row, connection)
    with ledger.writing() as connection:
        connection.execute(provider_attempts.insert(), row)
    assert find_all(ledger) == ["The outcome of attempt att_forged is not the one that was sealed."]


def test_a_run_with_another_workflow_is_found(ledger: Database) -> None:
    """Whoever may bill a run is on its row."""
    with unguarded(ledger) as execute:
        execute(f"UPDATE {runs.name} SET workflow_id = ? WHERE request_id = ?", ("evil", "under-way"))
    assert find_all(ledger) == ["The run was changed after it was written: its hash is another."]
