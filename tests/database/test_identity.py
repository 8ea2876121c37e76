import shutil
from pathlib import Path

from sqlalchemy import text

from gpt_image_runs.billing.hash_chain import hash_row
from gpt_image_runs.billing.seals import FIRST, IDENTITY
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.identity import read_ledger_id
from gpt_image_runs.database.open import open_database


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


def test_seal_of_a_new_identity_is_as_the_ledger_seals(database: Database) -> None:
    """The migration hashes with a copy of the ledger's hash function."""
    with database.reading() as connection:
        identity = dict(connection.execute(text("SELECT * FROM ledger_identity")).mappings().one())
        seal = dict(connection.execute(text("SELECT * FROM seals")).mappings().one())
        head = connection.execute(text("SELECT * FROM seal_heads")).mappings().one()
    assert (seal["chain"], seal["kind"], seal["previous_hash"]) == (IDENTITY, "identity", FIRST)
    assert (seal["subject"], seal["content_hash"]) == (identity["ledger_id"], hash_row(identity))
    assert seal["seal_hash"] == hash_row(seal, left_out=("seal_hash",))
    assert head == {"chain": IDENTITY, "seals": 1, "seal_hash": seal["seal_hash"]}
    assert list(LedgerVerification(database, lambda _checked, _total: None).find()) == []
