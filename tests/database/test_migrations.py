import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect, text

from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.reconciliation.compare import compare_day
from gpt_image_runs.billing.reconciliation.history import ComparisonLog
from gpt_image_runs.contracts.budgets import BudgetDecision
from gpt_image_runs.contracts.provider_reconciliation import ComparisonOrder, ProviderDay
from gpt_image_runs.database import migrate
from gpt_image_runs.database.engine import Database, parse_url
from gpt_image_runs.database.errors import LedgerRefused
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.schema import HEAD, UNRELEASED, read_revision
from gpt_image_runs.database.tables import batches, ledger_entries, metadata, provider_attempts
from tests.support.ledger.ledger_examples import SENT_AT, begin_attempt, identify, make_order, pay_attempt
from tests.support.servers.ledger_processes import run_at_once

OPEN_WHEN_TOLD = """
import sys
from gpt_image_runs.database.open import open_database
print("ready", flush=True)
sys.stdin.readline()
open_database(sys.argv[1], create=True).close()
print("alembic" in sys.modules)
"""


@pytest.fixture
def grown(database: Database) -> Database:
    """Create a ledger with a run, an attempt that succeeded, one that is under way, an entry, a comparison, and a budget."""
    Ledger(database).record(make_order(pay_attempt(database)))
    begin_attempt(database, identify("acme", "under-way"))
    ComparisonLog(database).record("key", COMPARISON)
    Budgets(database).decide("key", BUDGET)
    return database


def execute(database: Database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(text(statement))


def read_all(database: Database) -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        return [
            tuple(row)
            for table in metadata.tables.values()
            for row in connection.execute(table.select().order_by(*table.primary_key))
        ]


def test_tables_match_the_migrated_schema(database: Database) -> None:
    """Names of constraints included."""
    assert batches.metadata is metadata
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        for table in metadata.sorted_tables:
            made = inspect(connection).get_check_constraints(table.name)
            believed = {str(rule.name) for rule in table.constraints if str(rule.name).startswith("ck_")}
            assert {rule["name"] for rule in made} == believed


def test_head_is_the_newest_migration() -> None:
    """`HEAD` is known without loading Alembic."""
    config = Config()
    config.set_main_option("script_location", "gpt_image_runs/database/migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_no_migration_has_the_number_of_an_unreleased_schema() -> None:
    config = Config()
    config.set_main_option("script_location", "gpt_image_runs/database/migrations")
    revisions = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    assert revisions & UNRELEASED == set()


def test_migrate_command_refuses_an_unreleased_schema(
    database: Database, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(database, "UPDATE alembic_version SET version_num = '0009'")
    assert migrate.main(["--url", database_url]) == 1
    assert "was made by a version before 0.2.0 (schema 0009)" in capsys.readouterr().err


def test_create_makes_a_ledger_of_the_newest_schema(empty_url: str) -> None:
    database = open_database(empty_url, create=True)
    with database.reading() as connection:
        assert read_revision(connection) == HEAD
    database.close()


def test_processes_that_start_together_create_one_ledger(empty_url: str) -> None:
    done = run_at_once(OPEN_WHEN_TOLD, empty_url, count=4)
    assert [(process.stderr, process.returncode) for process in done] == [("", 0)] * 4


def test_current_ledger_is_opened_without_alembic(database_url: str) -> None:
    (done,) = run_at_once(OPEN_WHEN_TOLD, database_url, count=1)
    assert done.stdout == "False\n"


def test_failed_migration_is_rolled_back(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = command.upgrade

    def break_in_the_end(config: Config, revision: str) -> None:
        upgrade(config, revision)
        raise KeyError

    monkeypatch.setattr(command, "upgrade", break_in_the_end)
    with pytest.raises(KeyError):
        open_database(empty_url, create=True)
    database = Database(parse_url(empty_url))
    with database.reading() as connection:
        assert inspect(connection).get_table_names() == []
    database.close()


WORKING_TABLES = {"batches", "batch_lines"}
"""No part of the ledger's truth: they change while a batch runs."""
REFUSED = (
    "UPDATE ledger_entries SET amount_micro_usd = 1",
    "UPDATE ledger_entries SET reason = 'because'",
    "DELETE FROM ledger_entries",
    "UPDATE ledger_heads SET entry_hash = 'other'",
    "UPDATE ledger_heads SET entries = entries + 2",
    "UPDATE ledger_heads SET tenant = 'other', entries = entries + 1",
    "DELETE FROM ledger_heads",
    "UPDATE provider_comparisons SET verdict = 'equal'",
    "DELETE FROM provider_comparisons",
    "UPDATE budgets SET limit_micro_usd = 1",
    "DELETE FROM budgets",
    "UPDATE tenant_spend SET tenant = 'other'",
    "UPDATE tenant_spend SET span = '2026-12' WHERE span = '2026-11'",
    "DELETE FROM tenant_spend",
    "UPDATE ledger_identity SET ledger_id = 'other'",
    "DELETE FROM ledger_identity",
    "INSERT INTO ledger_identity (number, ledger_id, created_at) VALUES (2, 'other', '2026-01-01 00:00:00.000000')",
    "UPDATE runs SET fingerprint = 'other'",
    "DELETE FROM runs WHERE request_id = 'under-way'",
    "DELETE FROM provider_attempts WHERE outcome = 'unknown'",
    "UPDATE provider_attempts SET latency_ms = 1 WHERE outcome = 'succeeded'",
    "UPDATE provider_attempts SET outcome = 'not_sent' WHERE outcome = 'succeeded'",
)
COMPARISON = compare_day(
    ComparisonOrder(), date(2026, 11, 22), "openai", (), ProviderDay(counts=(), lines=())
)
BUDGET = BudgetDecision(tenant="acme", limits={"month": "1.00"}, reason="a trial", actor="ada")
LATER = {"sequence": 99, "entry_id": "ent_2", "entry_key": "key-2", "previous_hash": "hash-1"}
CHANGES_OF_WHAT_WAS_SENT = (
    "attempt_id = 'other'",
    "run_id = 'image:acme:req-1'",
    "number = 7",
    "client_request_id = 'other'",
    "workflow_run_id = 'other'",
    "model = 'other'",
    "provider = 'other'",
    "reserved_micro_usd = NULL",
    "sent_at = '2026-01-01 00:00:00.000000'",
)


def test_database_refuses_to_change_or_delete_rows(grown: Database) -> None:
    before = read_all(grown)
    for statement in REFUSED:
        with pytest.raises(LedgerRefused, match="The ledger only grows: "):
            execute(grown, statement)
    assert read_all(grown) == before


def test_sent_attempt_cannot_be_changed(grown: Database) -> None:
    before = read_all(grown)
    for change in CHANGES_OF_WHAT_WAS_SENT:
        with pytest.raises(LedgerRefused, match="only grows: an attempt is written before it is sent"):
            execute(grown, f"UPDATE provider_attempts SET {change} WHERE outcome = 'unknown'")
    assert read_all(grown) == before


def test_postgresql_truncate_is_refused(grown: Database) -> None:
    """Row triggers do not see TRUNCATE. SQLite has none."""
    before = read_all(grown)
    empty = "DELETE FROM {}" if grown.dialect == "sqlite" else "TRUNCATE {} CASCADE"
    for table in metadata.tables.keys() - WORKING_TABLES:
        with pytest.raises(LedgerRefused, match="The ledger only grows: "):
            execute(grown, empty.format(table))
    assert read_all(grown) == before


@pytest.mark.parametrize("table", sorted(metadata.tables.keys() - WORKING_TABLES))
def test_sqlite_insert_or_replace_is_refused(table: str, sqlite_ledger: Database) -> None:
    """It deletes rows without firing DELETE triggers."""
    before = read_all(sqlite_ledger)
    with pytest.raises(LedgerRefused, match="The ledger only grows: "):
        execute(sqlite_ledger, f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
    assert read_all(sqlite_ledger) == before


@pytest.fixture
def sqlite_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Create a ledger with a row of each kind, without foreign keys, which would refuse some replacements by themselves."""
    path = tmp_path_factory.mktemp("replaced") / "ledger.db"
    database = open_database(f"sqlite:///{path}", create=True)
    Ledger(database).record(make_order(pay_attempt(database)))
    ComparisonLog(database).record("key", COMPARISON)
    Budgets(database).decide("key", BUDGET)
    yield database
    database.close()


def test_entry_without_amount_or_reason_is_refused(grown: Database) -> None:
    """Only a hold is without an amount, and it always says why; a correction names its entry, and all are linked once."""
    with grown.reading() as connection:
        row: dict[str, Any] = dict(connection.execute(ledger_entries.select()).mappings().one())
    for broken in (
        {"kind": "charge", "amount_micro_usd": None},
        {"kind": "hold", "amount_micro_usd": 0, "reason": "because"},
        {"kind": "hold", "amount_micro_usd": None, "reason": None},
        {"kind": "adjustment", "corrects": None},
        {"kind": "charge", "corrects": row["entry_id"]},
        {"kind": "gift"},
        {"basis": "guess"},
        {"run_id": "nobody's"},
        {"attempt_id": "nobody's"},
        {"previous_hash": row["previous_hash"]},
        {"entry_hash": None},
    ):
        another = {**row, **LATER, **broken}
        with pytest.raises(LedgerRefused), grown.writing() as connection:
            connection.execute(insert(ledger_entries).values(another))
    with grown.writing() as connection:
        sound = {**row, **LATER}
        connection.execute(insert(ledger_entries).values(sound))


def test_outcome_is_one_of_four_words_with_its_time(grown: Database) -> None:
    with grown.reading() as connection:
        row = dict(connection.execute(provider_attempts.select().limit(1)).mappings().one())
    another = {**row, "attempt_id": "att_9", "client_request_id": "c-9", "number": 9}
    for broken in (
        {"outcome": "lost"},
        {"outcome": "succeeded", "finished_at": None},
        {"number": 0},
        {"run_id": "nobody's"},
    ):
        with pytest.raises(LedgerRefused), grown.writing() as connection:
            connection.execute(insert(provider_attempts).values({**another, **broken}))
    with grown.writing() as connection:
        connection.execute(insert(provider_attempts).values({**another, "sent_at": SENT_AT}))


def test_migrate_command_says_what_it_did(empty_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert migrate.main(["--url", empty_url]) == 0
    assert capsys.readouterr().out.endswith(f" was migrated from nothing to schema {HEAD}.\n")
    assert migrate.main(["--url", empty_url]) == 0
    assert capsys.readouterr().out.endswith(f" already has schema {HEAD}.\n")


def test_migrate_command_reads_database_url(empty_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "gpt_image_runs.database.migrate"],
        env={"DATABASE_URL": empty_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_migrate_command_fails_without_showing_the_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert migrate.main([]) == 1
    assert capsys.readouterr().err == "Which ledger? Set DATABASE_URL, or give --url.\n"
    assert migrate.main(["--url", f"postgres://finance:hunter2@127.0.0.1:{unused_tcp_port}/books"]) == 1
    sentence = capsys.readouterr().err
    assert sentence.startswith("The ledger at postgresql://finance@127.0.0.1:")
    assert "hunter2" not in sentence
