import shutil
from pathlib import Path

from alembic import command
from sqlalchemy import text

from gpt_image_runs.database.engine import Database, parse_url, prepare_sqlite_file
from gpt_image_runs.database.identity import read_ledger_id
from gpt_image_runs.database.migrate import _configure_alembic, migrate_to_head
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.schema import HEAD


def read_id(database: Database) -> str:
    with database.reading() as connection:
        return read_ledger_id(connection)


def open_and_read_id(url: str) -> str:
    database = open_database(url, create=True)
    try:
        return read_id(database)
    finally:
        database.close()


def test_ledger_id_is_the_same_at_each_opening(empty_url: str) -> None:
    first = open_and_read_id(empty_url)
    assert first.startswith("ldg_")
    assert open_and_read_id(empty_url) == first


def test_ledger_id_differs_between_ledgers(empty_url: str, tmp_path: Path) -> None:
    assert open_and_read_id(empty_url) != open_and_read_id(f"sqlite:///{tmp_path}/other.db")


def test_ledger_id_survives_a_copy(tmp_path: Path) -> None:
    original = open_and_read_id(f"sqlite:///{tmp_path}/ledger.db")
    shutil.copy(tmp_path / "ledger.db", tmp_path / "restored.db")
    assert open_and_read_id(f"sqlite:///{tmp_path}/restored.db") == original


def test_ledger_of_an_older_schema_gets_one_id(empty_url: str) -> None:
    database = Database(parse_url(empty_url))
    prepare_sqlite_file(database.url)
    with database.writing() as connection:
        command.upgrade(_configure_alembic(connection), "0009")
    assert migrate_to_head(database) == "0009"
    with database.reading() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM ledger_identity")).scalar() == 1
    first = read_id(database)
    assert migrate_to_head(database) == HEAD
    assert read_id(database) == first
    database.close()
