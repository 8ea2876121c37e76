"""What an auditor types: a ledger and its pictures, whole and damaged."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from tests.support.ledger.ledger_examples import identify
from tests.support.ledger.priced_bills import bill_run
from tests.support.ledger.tampering import forge, tamper
from tests.support.runs.command_line import CommandLine
from tests.support.servers.s3_server import BUCKET, s3_client, s3_environment

DAMAGED = "is damaged: its bytes do not match its name."


@pytest.fixture
def database(data_dir: Path) -> Iterator[Database]:
    """The ledger of this DATA_DIR."""
    data_dir.mkdir()
    database = open_database(f"sqlite:///{data_dir / 'ledger.db'}", create=True)
    yield database
    database.close()


@pytest.fixture
def image(data_dir: Path, picture: Path) -> ImageRef:
    """A picture in the store of this DATA_DIR."""
    store = ImageStore.from_url((data_dir / "images").as_uri())
    return asyncio.run(store.put_image(picture.read_bytes()))


@pytest.fixture
def billed(database: Database, image: ImageRef) -> Database:
    """A run with a picture, billed."""
    bill_run(database, images=(image.model_dump(mode="json"),))
    return database


def file_of(image: ImageRef) -> Path:
    return Path(image.uri.removeprefix("file://"))


def test_unchanged_ledger_has_no_findings(run: CommandLine, billed: Database) -> None:
    """With nothing wrong the command says what it has looked at and ends with 0; the head can be noted."""
    ended = run("verify", "--json")
    with billed.reading() as connection:
        last = connection.exec_driver_sql("SELECT entry_hash FROM ledger_entries").scalar()
        seals = connection.exec_driver_sql("SELECT chain, seal_hash FROM seals ORDER BY chain").all()
    assert ended.status == 0
    assert ended.document == {
        "ok": True,
        "entries": 1,
        "pictures": 1,
        "heads": [{"tenant": "acme", "entries": 1, "entry_hash": last}],
        "seal_heads": [{"chain": chain, "seals": 1, "seal_hash": seal_hash} for chain, seal_hash in seals],
        "findings": [],
        "notes": [],
    }
    assert [chain for chain, _ in seals] == ["*ledger", "acme"]
    assert run("verify").out == "✓ Nothing is wrong (checked: entries 1, tenants 1, pictures 1).\n"
    assert run("ledger", "--json").document["entries"][0]["entry_hash"] == last


def test_changed_amount_is_found(run: CommandLine, billed: Database) -> None:
    """A changed amount ends the command with 1, and both amounts are told to people and to programs."""
    forge(billed, "UPDATE ledger_entries SET amount_micro_usd = 166901")
    ended = run("verify", "--json")
    finding, counted = ended.document["findings"]
    assert (ended.status, ended.document["ok"]) == (1, False)
    assert (counted["expected"], counted["found"]) == (
        "0.166901 used, 0.000000 reserved",
        "0.166900 used, 0.000000 reserved",
    )
    assert finding["what"] == "The amount is not what usage and rates come to."
    assert (finding["run_id"], finding["expected"], finding["found"]) == (
        "image:acme:req-1",
        "0.166900",
        "0.166901",
    )
    out = run("verify").out
    assert "image:acme:req-1" in out
    assert "0.166901" in out
    assert "✗ Findings: 2 (checked: entries 1, tenants 1, pictures 1)." in out


def test_flipped_byte_of_an_image_is_found(run: CommandLine, billed: Database, image: ImageRef) -> None:
    """One byte of a picture that is another is found, by the entry that promises the picture."""
    content = bytearray(file_of(image).read_bytes())
    content[-1] ^= 1
    file_of(image).write_bytes(content)
    (finding,) = run("verify", "--json").document["findings"]
    assert finding["run_id"] == "image:acme:req-1"
    assert finding["what"] == f"The picture {image.uri} {DAMAGED}"


def test_pictures_can_be_left_out(run: CommandLine, billed: Database, image: ImageRef) -> None:
    """Without pictures only the ledger is checked, and that is said."""
    file_of(image).unlink()
    ended = run("verify", "--no-pictures")
    assert ended.status == 0
    assert "Nothing is wrong (checked: entries 1, tenants 1)." in ended.out
    assert "The images were not checked" in ended.err
    assert run("verify", "--no-pictures", "--json").document["pictures"] is None


def test_missing_image_is_found(run: CommandLine, billed: Database, image: ImageRef) -> None:
    """A picture that is missing ends the command with 1."""
    file_of(image).unlink()
    ended = run("verify", "--json")
    assert ended.status == 1
    assert [finding["what"] for finding in ended.document["findings"]] == [
        f"There is no picture {image.uri} in the image store."
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"bytes": 5}, " bytes, at most 5 are accepted."),
        ({"bytes": 50_000}, "is not the one that the entry names."),
        ({"sha256": "0" * 64}, "is not the one that the entry names."),
        ({"uri": "file:///elsewhere/1.png"}, "is outside of this image store"),
        ({"width": "wide"}, "The entry's images are not valid image references."),
    ],
)
def test_a_picture_is_the_one_that_was_promised(
    run: CommandLine, database: Database, image: ImageRef, change: dict[str, object], what: str
) -> None:
    """Size, hash and place of a picture are those on the entry, in an entry that is right in itself."""
    bill_run(database, images=({**image.model_dump(mode="json"), **change},))
    (finding,) = run("verify", "--json").document["findings"]
    assert what in finding["what"]


def test_all_pictures_of_all_entries_are_looked_at(
    run: CommandLine, database: Database, image: ImageRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page after page, every picture of every entry is counted."""
    monkeypatch.setattr("cli.ledger.verify._PAGE", 2)
    for number in range(5):
        bill_run(database, identify("acme", f"req-{number}"), images=(image.model_dump(mode="json"),) * 3)
    assert run("verify", "--json").document["pictures"] == 15


def test_a_picture_in_s3_is_checked(
    run: CommandLine, database: Database, picture: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture in a bucket is found to be whole, and found to be another."""
    use_s3(monkeypatch, s3_url, BUCKET)
    store = ImageStore.from_url(f"s3://{BUCKET}/verify")
    image = asyncio.run(store.put_image(picture.read_bytes()))
    bill_run(database, images=(image.model_dump(mode="json"),))
    assert run("verify").status == 0
    key = image.uri.removeprefix(f"s3://{BUCKET}/")
    s3_client(s3_url).put_object(Bucket=BUCKET, Key=key, Body=b"x" * image.bytes)
    (finding,) = run("verify", "--json").document["findings"]
    assert finding["what"] == f"The picture {image.uri} {DAMAGED}"


def test_a_store_that_is_away_does_not_hide_the_ledger(
    run: CommandLine, database: Database, image: ImageRef, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store fails, what is wrong with the ledger is told all the same, and that pictures were not checked."""
    use_s3(monkeypatch, s3_url, "no-such-bucket")
    uri = f"s3://no-such-bucket/verify/sha256/00/{'0' * 64}.png"
    bill_run(database, images=({**image.model_dump(mode="json"), "uri": uri},))
    tamper(database, "DELETE FROM ledger_heads")
    first, second = run("verify", "--json").document["findings"]
    assert first["what"] == "The tenant has entries, and no head that says where its chain ends."
    assert second["what"].startswith("Not all images could be checked. The image store s3://no-such-bucket")


def use_s3(monkeypatch: pytest.MonkeyPatch, s3_url: str, bucket: str) -> None:
    for name, value in s3_environment(s3_url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IMAGE_STORE_URL", f"s3://{bucket}/verify")
