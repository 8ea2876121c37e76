"""Permissions of DATA_DIR: closed to others, without touching other files and stores elsewhere."""

import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.local_stack.data_folder import protect_data_dir
from gpt_image_runs.settings import load_settings
from gpt_image_runs.temporal.stack_file import Stack, claim_stack, publish_stack
from tests.support.files.picture_files import make_picture

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has rights of another kind")


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Set the usual umask: others may read what a program creates."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Create a folder that other users may enter."""
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    return folder


def rights(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def list_open(folder: Path) -> list[str]:
    """Return what other users have any rights to."""
    return [str(path.relative_to(folder)) for path in (folder, *folder.rglob("*")) if rights(path) & 0o077]


def put_picture() -> None:
    asyncio.run(ImageStore.from_url(load_settings().store_url()).put_image(make_picture()))


def fill(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create what a worker and the embedded stack write, and check that it is closed to others while they run."""
    monkeypatch.setenv("DATA_DIR", str(data_dir))
    put_picture()
    stack = Stack(pid=1, temporal_address="a", ui_url="b", provider_base_url=None)
    with claim_stack(data_dir), closing(open_database(load_settings().ledger_url(), create=True)) as database:
        publish_stack(data_dir, stack)
        with database.writing():
            names = {"ledger.db", "ledger.db-wal", "ledger.db-shm", "stack.json", "stack.lock", "stack.pid"}
            assert {path.name for path in data_dir.iterdir()} >= {*names, "images"}
            assert list_open(data_dir) == []


def test_new_data_dir_is_closed_to_others(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = shared / "nested" / "data"

    assert protect_data_dir(data_dir, create=True) is False

    fill(data_dir, monkeypatch)
    assert (rights(data_dir), rights(data_dir / "ledger.db")) == (0o700, 0o600)
    assert rights(shared / "nested") == 0o755


def test_open_data_dir_is_closed_with_its_content(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that somebody created and filled with wider rights: stores, ledgers with their logs, files of the servers."""
    data_dir = shared / "data"
    (data_dir / "images" / "sha256" / "ab").mkdir(parents=True)
    (data_dir / "logs").mkdir()
    for name in ("images/sha256/ab/c.png", "logs/worker.log", "ledger.db-wal", "temporal.db", "stack.json"):
        (data_dir / name).write_bytes(b"")

    assert protect_data_dir(data_dir, create=False) is True
    assert list_open(data_dir) == []
    assert protect_data_dir(data_dir, create=False) is False
    (data_dir / "ledger.db-wal").unlink()
    fill(data_dir, monkeypatch)


def test_folder_with_other_files_keeps_its_rights_and_theirs(shared: Path) -> None:
    """DATA_DIR may be a project or a home directory."""
    (shared / "notes.txt").write_text("mine")
    (shared / "photos").mkdir()
    (shared / "ledger.db").write_bytes(b"")
    (shared / "images").symlink_to(shared / "photos")

    assert protect_data_dir(shared, create=True) is True
    assert rights(shared / "ledger.db") == 0o600
    assert {rights(shared), rights(shared / "photos")} == {0o755}
    assert rights(shared / "notes.txt") == 0o644


def test_store_outside_data_dir_keeps_its_rights(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server or colleagues may read it."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("IMAGE_STORE_URL", (shared / "pictures").as_uri())
    protect_data_dir(tmp_path / "data", create=True)

    put_picture()

    files = [path for path in (shared / "pictures").rglob("*") if path.is_file()]
    assert files
    assert {rights(path) for path in files} == {0o644}
    assert rights(shared / "pictures") == 0o755


def test_missing_data_dir_is_not_created_unless_asked(tmp_path: Path) -> None:
    assert protect_data_dir(tmp_path / "data", create=False) is False
    assert not (tmp_path / "data").exists()
