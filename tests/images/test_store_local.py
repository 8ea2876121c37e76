"""The image store's guarantees on a local folder: complete files, durable, and never outside of it."""

import asyncio
import os
import resource
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpt_image_runs.images.backend import CorruptImage, NotFound, ReferenceRefused, StoreUnavailable
from gpt_image_runs.images.store import ImageStore
from tests.support.files.picture_files import make_picture

PICTURE = make_picture("PNG", (8, 6))


def files_of(folder: Path) -> list[str]:
    """Return all files but the mark."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if name != ".store-id")


async def test_local_path_exists_only_for_references_into_this_store(local_store: ImageStore) -> None:
    image = await local_store.put_image(PICTURE)
    path = local_store.local_path(image.uri)
    assert path is not None
    assert path.read_bytes() == PICTURE
    assert local_store.local_path("file:///etc/passwd") is None
    assert local_store.local_path("s3://bucket/cat.png") is None


async def test_picture_is_one_file_and_not_rewritten(local_store: ImageStore, tmp_path: Path) -> None:
    image = await local_store.put_image(PICTURE)
    path = local_store.local_path(image.uri)
    assert path is not None
    first = path.stat()
    await local_store.put_image(PICTURE)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert files_of(tmp_path / "store") == [f"sha256/{image.sha256[:2]}/{image.sha256}.png"]


async def test_damaged_file_is_refused_and_repaired_by_another_put(local_store: ImageStore) -> None:
    image = await local_store.put_image(PICTURE)
    path = local_store.local_path(image.uri)
    assert path is not None
    path.write_bytes(PICTURE[:-1] + b"!")
    with pytest.raises(CorruptImage, match="damaged"):
        await local_store.read(image.uri)
    await local_store.put_image(PICTURE)
    assert await local_store.read(image.uri) == PICTURE


async def test_picture_placed_by_hand_is_readable(local_store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "store/uploads").mkdir()
    (tmp_path / "store/uploads/cat.png").write_bytes(PICTURE)
    assert await local_store.read(local_store.root + "uploads/cat.png") == PICTURE


async def test_reading_symbolic_links_is_refused(local_store: ImageStore, tmp_path: Path) -> None:
    """Covers a link to a file, to a folder, and in a circle, even within the store."""
    (tmp_path / "secret.png").write_bytes(PICTURE)
    root = tmp_path / "store"
    (root / "real.png").write_bytes(PICTURE)
    (root / "file.png").symlink_to(tmp_path / "secret.png")
    (root / "inside.png").symlink_to(root / "real.png")
    (root / "folder").symlink_to(tmp_path)
    (root / "circle.png").symlink_to(root / "circle.png")
    for name in ("file.png", "inside.png", "folder/secret.png", "circle.png"):
        with pytest.raises(ReferenceRefused, match="symbolic link"):
            await local_store.read(local_store.root + name)


async def test_writing_through_a_symbolic_link_is_refused(local_store: ImageStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "store/documents").symlink_to(outside)
    with pytest.raises(ReferenceRefused, match="symbolic link"):
        await local_store.put_document("receipt.json", b"{}")
    assert list(outside.iterdir()) == []


async def test_root_may_be_a_symbolic_link(tmp_path: Path) -> None:
    """Whoever configures it is trusted."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    store = ImageStore.from_url((tmp_path / "link").as_uri())
    image = await store.put_image(PICTURE)
    assert image.uri.startswith((tmp_path / "link").as_uri())
    assert await store.read(image.uri) == PICTURE


async def test_folders_and_pipes_are_refused_without_blocking(
    local_store: ImageStore, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    (root / "folder.png").mkdir()
    (root / "cat.png").write_bytes(PICTURE)
    os.mkfifo(root / "pipe.png")
    for name in ("folder.png", "pipe.png"):
        with pytest.raises(ReferenceRefused, match="not a file"):
            await local_store.read(local_store.root + name)
    with pytest.raises(NotFound):
        await local_store.read(local_store.root + "cat.png/cat.png")


async def test_root_with_quoted_characters_in_its_url_works(tmp_path: Path) -> None:
    store = ImageStore.from_url((tmp_path / "my pictures ä").as_uri())
    image = await store.put_image(PICTURE)
    assert "my%20pictures%20" in image.uri
    assert await store.read(image.uri) == PICTURE


def test_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match=r"folder .*file/store cannot be used: "):
        ImageStore.from_url((tmp_path / "file/store").as_uri())


def test_abandoned_files_are_removed_when_the_store_is_opened(tmp_path: Path) -> None:
    partials = tmp_path / "store/.partial"
    partials.mkdir(parents=True)
    (partials / "old").write_bytes(b"half")
    (partials / "new").write_bytes(b"half")
    two_days_ago = time.time() - 2 * 24 * 60 * 60
    os.utime(partials / "old", (two_days_ago, two_days_ago))
    ImageStore.from_url((tmp_path / "store").as_uri())
    assert files_of(tmp_path / "store") == [".partial/new"]


async def test_open_reader_sees_the_document_from_before_its_replacement(
    local_store: ImageStore, tmp_path: Path
) -> None:
    await local_store.put_document("receipt.json", b"first")
    with (tmp_path / "store/documents/receipt.json").open("rb") as opened:
        await local_store.put_document("receipt.json", b"second")
        assert opened.read() == b"first"
    assert await local_store.read_document("receipt.json") == b"second"


async def test_folder_that_cannot_be_listed_is_a_store_failure(local_store: ImageStore) -> None:
    await local_store.put_document("receipt.json", b"{}")
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, allowed[1]))
    try:
        with pytest.raises(StoreUnavailable, match="cannot be listed: Too many open files"):
            await local_store.list_documents()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


async def test_killed_writer_leaves_only_complete_files(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    url = (tmp_path / "store").as_uri()
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WRITER, url), stdout=asyncio.subprocess.PIPE, cwd=pytestconfig.rootpath
    )
    assert writer.stdout is not None
    try:
        for _ in range(10):
            assert await writer.stdout.readline() == b"wrote\n"
    finally:
        writer.kill()
        await writer.communicate()
    store = ImageStore.from_url(url)
    kept = [path for path in (tmp_path / "store/sha256").rglob("*") if path.is_file()]
    assert len(kept) >= 10
    for path in kept:
        await store.read(path.as_uri())
    assert await store.read_document("receipt.json") in {b"a" * 2_000_000, b"b" * 2_000_000}


_WRITER = """
import asyncio, sys
from gpt_image_runs.images.store import ImageStore
from tests.support.files.picture_files import make_picture

async def write(store):
    for number in range(250):
        await store.put_image(make_picture("PNG", (900, 900), colour=number, compress_level=0))
        await store.put_document("receipt.json", (b"a" if number % 2 else b"b") * 2_000_000)
        print("wrote", flush=True)

asyncio.run(write(ImageStore.from_url(sys.argv[1])))
"""


async def test_failed_write_keeps_the_previous_document(local_store: ImageStore, tmp_path: Path) -> None:
    await local_store.put_document("receipt.json", b"first")
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, largest[1]))
    try:
        with pytest.raises(StoreUnavailable, match="cannot be written: File too large"):
            await local_store.put_document("receipt.json", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, largest)
        signal.signal(signal.SIGXFSZ, handler)
    assert await local_store.read_document("receipt.json") == b"first"
    assert files_of(tmp_path / "store") == ["documents/receipt.json"]


@pytest.mark.parametrize("instead", ["nothing", "a file", "an empty folder", "a new store"])
async def test_missing_store_raises_and_is_not_written_to(
    local_store: ImageStore, tmp_path: Path, instead: str
) -> None:
    """Writing to an unmounted volume's folder would be hidden when the volume is back."""
    await local_store.put_document("receipts/1.json", b"{}")
    root = tmp_path / "store"
    root.rename(tmp_path / "away")
    if instead == "a file":
        root.write_text("in the way")
    elif instead == "an empty folder":
        root.mkdir()
    elif instead == "a new store":  # as `doctor` and every command make one
        ImageStore.from_url(root.as_uri())
    with pytest.raises(StoreUnavailable):
        await local_store.read_document("receipts/1.json")
    with pytest.raises(StoreUnavailable):
        await local_store.list_documents("receipts")
    with pytest.raises(StoreUnavailable):
        await local_store.put_image(PICTURE)
    with pytest.raises(StoreUnavailable):
        await local_store.put_document("receipts/2.json", b"{}")
    assert files_of(root) == []


async def test_restored_copy_is_used_without_restart(local_store: ImageStore, tmp_path: Path) -> None:
    await local_store.put_document("receipts/1.json", b"{}")
    root = tmp_path / "store"
    shutil.copytree(root, tmp_path / "copy")
    shutil.rmtree(root)
    (tmp_path / "copy").rename(root)

    assert await local_store.read_document("receipts/1.json") == b"{}"
    await local_store.put_document("receipts/2.json", b"{}")


def test_concurrently_opened_stores_get_the_same_id(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(lambda _: ImageStore.from_url((tmp_path / "new").as_uri()), range(8)))
    for number, store in enumerate(stores):
        asyncio.run(store.put_document(f"receipts/{number}.json", b"{}"))


async def test_returned_store_is_used_without_restart(local_store: ImageStore, tmp_path: Path) -> None:
    await local_store.put_document("receipts/1.json", b"{}")
    root = tmp_path / "store"
    root.rename(tmp_path / "away")
    ImageStore.from_url(root.as_uri())
    root.rename(tmp_path / "in the way")
    (tmp_path / "away").rename(root)

    assert await local_store.read_document("receipts/2.json") is None
    await local_store.put_document("receipts/2.json", b"{}")
