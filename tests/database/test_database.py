import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text

from gpt_image_runs.database.engine import Database, parse_url, prepare_sqlite_file
from gpt_image_runs.database.errors import LedgerNotReady, LedgerRefused, LedgerUnavailable
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.schema import HEAD
from gpt_image_runs.database.tables import runs
from tests.support.ledger.ledger_examples import SENT_AT, identify

ROW = {**vars(identify("acme", "req-1")), "created_at": SENT_AT, "run_hash": "unchecked"}

DIES_WITHIN_A_TRANSACTION = """
import sys, time
from datetime import UTC, datetime
from sqlalchemy import insert
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.tables import runs

with open_database(sys.argv[1], create=False).writing() as connection:
    names = ("run_id", "tenant", "request_id", "workflow_id", "fingerprint", "operation", "requested_model", "run_hash")
    connection.execute(insert(runs).values({**dict.fromkeys(names, "x"), "created_at": datetime.now(UTC)}))
    print("written", flush=True)
    time.sleep(600)
"""


def count_runs(database: Database) -> int:
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(runs)).scalar_one()


def test_committed_transaction_is_visible_to_others(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(insert(runs).values(ROW))
    assert count_runs(database) == 1


def test_transaction_that_raises_is_rolled_back(database: Database) -> None:
    def write_and_raise() -> None:
        with database.writing() as connection:
            connection.execute(insert(runs).values(ROW))
            raise KeyError

    with pytest.raises(KeyError):
        write_and_raise()
    assert count_runs(database) == 0


def test_joined_step_that_raises_leaves_the_others(database: Database) -> None:
    def write_and_raise(step: Database) -> None:
        with step.writing() as connection:
            connection.execute(insert(runs).values({**ROW, "run_id": "image:acme:two", "request_id": "two"}))
            connection.execute(insert(runs).values(ROW))

    with database.joining() as joined:
        with joined.writing() as connection:
            connection.execute(insert(runs).values(ROW))
        with pytest.raises(LedgerRefused):
            write_and_raise(joined)
        assert count_runs(joined) == 1
    assert count_runs(database) == 1


def test_killed_process_leaves_no_partial_write_and_no_lock(database: Database, database_url: str) -> None:
    command = [sys.executable, "-c", DIES_WITHIN_A_TRANSACTION, database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()
    with database.writing() as connection:
        connection.execute(insert(runs).values(ROW))
    assert count_runs(database) == 1


def test_sqlite_checks_foreign_keys_syncs_commits_and_uses_wal(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/ledger.db", create=True)
    pragmas = ("foreign_keys", "synchronous", "busy_timeout", "journal_mode")
    with database.reading() as connection:
        found = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in pragmas}
    database.close()
    assert found == {"foreign_keys": 1, "synchronous": 2, "busy_timeout": 30_000, "journal_mode": "wal"}


def test_sqlite_writers_wait_for_each_other(tmp_path: Path) -> None:
    """SQLite's own BEGIN would fail one of two transactions that read and then write."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    first, second = open_database(url, create=True), open_database(url, create=False)
    second_has_begun = threading.Event()
    seen: list[int] = []

    def write_second() -> None:
        second_has_begun.set()
        with second.writing() as connection:
            seen.append(connection.execute(select(func.count()).select_from(runs)).scalar_one())
            row = {**ROW, **vars(identify("acme", "req-2"))}
            connection.execute(insert(runs).values(row))

    thread = threading.Thread(target=write_second)
    with first.writing() as connection:
        connection.execute(select(runs)).all()
        thread.start()
        assert second_has_begun.wait(timeout=30)
        connection.execute(insert(runs).values(ROW))
    thread.join(timeout=30)
    assert seen == [1]
    assert count_runs(first) == 2
    first.close()
    second.close()


def test_reader_does_not_wait_for_a_writer(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(insert(runs).values(ROW))
        assert count_runs(database) == 0


def test_broken_constraint_is_reported_without_customer_data(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(insert(runs).values(ROW))
    with pytest.raises(LedgerRefused) as refusal, database.writing() as connection:
        connection.execute(insert(runs).values({**ROW, "run_id": "other", "requested_model": "secret-model"}))
    assert str(refusal.value).startswith(f"The ledger at {database.location} refused a change. ")
    assert "secret-model" not in str(refusal.value) + str(refusal.value.__cause__)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_unreachable_database_is_reported_without_its_password(scheme: str, unused_tcp_port: int) -> None:
    url = f"{scheme}://finance:hunter2@127.0.0.1:{unused_tcp_port}/books?password=hunter2"
    with pytest.raises(LedgerUnavailable) as failure:
        open_database(url, create=True)
    sentence = str(failure.value)
    location = f"postgresql://finance@127.0.0.1:{unused_tcp_port}/books"
    assert sentence.startswith(f"The ledger at {location} cannot be used. ")
    assert "refused" in sentence
    assert "\n" not in sentence
    assert "hunter2" not in sentence + repr(failure.value.__cause__)


URLS_OF_USE = "use sqlite:///path/to/ledger.db or postgresql://user:password@host:5432/database."
A_FILE = "A ledger in memory would be lost. Use sqlite:///path/to/ledger.db."


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://root:hunter2@localhost/books", f"mysql is not supported for a ledger: {URLS_OF_USE}"),
        ("sqlite://", A_FILE),
        ("sqlite:///:memory:", A_FILE),
        (
            "postgresql://finance:hunter2:x@localhost:y/books",
            f"The ledger's URL cannot be read: {URLS_OF_USE}",
        ),
        (
            "postgresql://finance:hunter@2@localhost/books",
            "The ledger's URL cannot be read: an @ in its password has to be written as %40.",
        ),
        ("hunter2", f"The ledger's URL cannot be read: {URLS_OF_USE}"),
    ],
)
def test_unsupported_url_is_refused_without_repeating_it(url: str, sentence: str) -> None:
    """Any part of it may be the password."""
    with pytest.raises(LedgerUnavailable) as failure:
        open_database(url, create=True)
    assert str(failure.value) == sentence


@pytest.mark.parametrize("where", ["file/ledger.db", "folder"])
def test_unwritable_path_is_reported(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    url = f"sqlite:///{tmp_path}/{where}"
    with pytest.raises(LedgerUnavailable, match=f"^The ledger at {url} cannot be (created|used)"):
        open_database(url, create=True)


def test_file_of_another_kind_is_reported_and_left_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("dear diary, " * 100)
    with pytest.raises(LedgerUnavailable, match="file is not a database"):
        open_database(f"sqlite:///{path}", create=True)
    assert path.read_text() == "dear diary, " * 100


def test_missing_schema_is_refused_without_create(empty_url: str) -> None:
    with pytest.raises(LedgerNotReady) as refusal:
        open_database(empty_url, create=False)
    assert str(refusal.value).endswith(
        f" has no schema yet, this version needs {HEAD}. Run `python -m gpt_image_runs.database.migrate`."
    )
    assert not Path(empty_url.removeprefix("sqlite:///")).exists()


def test_older_schema_is_refused_without_create(database: Database, database_url: str) -> None:
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(LedgerNotReady) as refusal:
        open_database(database_url, create=False)
    assert str(refusal.value) == (
        f"The ledger at {database.location} has schema 0000, this version needs {HEAD}."
        " Run `python -m gpt_image_runs.database.migrate`."
    )


@pytest.mark.parametrize("create", [False, True])
def test_newer_schema_is_refused(database: Database, database_url: str, *, create: bool) -> None:
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerNotReady) as refusal:
        open_database(database_url, create=create)
    assert str(refusal.value) == (
        f"The ledger at {database.location} has schema 9999, newer than {HEAD}, the one that this version knows."
        " Update this program."
    )


def check_it_is_refused_as_unreleased(url: str, location: str, revision: str) -> None:
    for create in (False, True):
        with pytest.raises(LedgerNotReady) as refusal:
            open_database(url, create=create)
        assert str(refusal.value) == (
            f"The ledger at {location} was made by a version before 0.2.0 (schema {revision}), which was never released."
            " Export what you need with that version, then start with an empty ledger."
        )


@pytest.mark.parametrize("revision", ["0002", "0009", "0012"])
def test_ledger_of_an_unreleased_version_is_refused(
    database: Database, database_url: str, revision: str
) -> None:
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
    check_it_is_refused_as_unreleased(database_url, database.location, revision)


def test_unreleased_ledger_with_the_number_of_today_is_refused(empty_url: str) -> None:
    """The first unreleased schema was called 0001 too. It had no identity."""
    database = Database(parse_url(empty_url))
    prepare_sqlite_file(database.url)
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('0001')"))
    check_it_is_refused_as_unreleased(empty_url, database.location, "0001")
    database.close()


def test_database_that_breaks_while_in_use_is_reported(database: Database) -> None:
    with pytest.raises(LedgerUnavailable, match="cannot be used"), database.reading() as connection:
        connection.execute(text("SELECT * FROM no_such_table"))


def test_preparing_a_new_file_waits_for_another_process(tmp_path: Path) -> None:
    """SQLite itself would fail at once when the write-ahead log is turned on under another's lock."""
    path = tmp_path / "ledger.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    failures: list[LedgerUnavailable] = []

    def prepare() -> None:
        try:
            prepare_sqlite_file(parse_url(f"sqlite:///{path}"))
        except LedgerUnavailable as error:
            failures.append(error)

    thread = threading.Thread(target=prepare)
    thread.start()
    thread.join(timeout=0.3)
    other.close()
    thread.join(timeout=30)
    assert failures == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
