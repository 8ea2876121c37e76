"""Store objects as files in a local folder: atomic, durable, and never outside of the folder.

Written with plain system calls because the object store library's local backend follows symbolic links out of the
folder, does not fsync before it reports success, and leaves partial files behind after a crash. Users who may write
to the folder are trusted: symbolic links are checked for, but not guarded against races.
"""

import asyncio
import contextlib
import os
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gpt_image_runs.images.backend import ReferenceRefused, StoreUnavailable, TooLarge

# No write takes a day: older partial files were left by a crash.
_ABANDONED_SECONDS = 24 * 60 * 60


def write_durably(path: Path, data: bytes, *, partials: Path) -> None:
    """Write `data` to `path` atomically. `partials` is an existing folder on the same disk.

    Raises:
        OSError: it was not written; the previous file at `path` is unchanged.
    """
    partial = partials / uuid.uuid4().hex
    try:
        with open_new(partial) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        make_folder(path.parent)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, and fsync each, because a file is only as durable as its folders.

    If the parent is closed to other users, so is a new folder.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o777 & _get_mode_mask(folder.parent), exist_ok=True)
    _sync_folder(folder.parent)


def open_new(path: Path) -> BinaryIO:
    """Open a new file for writing, closed to other users if its folder is."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 & _get_mode_mask(path.parent))
    return os.fdopen(descriptor, "wb")


def _get_mode_mask(folder: Path) -> int:
    return 0o700 if os.name == "posix" and not folder.stat().st_mode & 0o077 else 0o777


def remove_abandoned(partials: Path) -> None:
    """Remove partial files that a crash left behind."""
    found = list(partials.iterdir())
    if not found:
        return
    # Use the file system's clock: on a folder shared by several hosts it differs from this host's.
    probe = partials / uuid.uuid4().hex
    probe.touch()
    now = probe.stat().st_mtime
    for partial in (*found, probe):
        with contextlib.suppress(FileNotFoundError):  # another process has finished or removed it
            if partial == probe or now - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere folders cannot be opened, and need no fsync
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_MAX_READS = 100
_READ_INTERVAL_SECONDS = 0.01


def identify(mark: Path) -> bytes | None:
    """Return the id in a folder's file `mark`, created if missing. Concurrent callers get the same id.

    Raises:
        OSError: it could not be read or created.
    """
    with suppress(FileExistsError), open_new(mark) as file:
        file.write(uuid.uuid4().hex.encode())
        file.flush()
        os.fsync(file.fileno())
    for _ in range(_MAX_READS):  # another process may have created it just now, and not written it yet
        if identity := read_identity(mark):
            return identity
        time.sleep(_READ_INTERVAL_SECONDS)
    return read_identity(mark)  # empty after a crash in between, which also counts as an id


def read_identity(mark: Path) -> bytes | None:
    """Return the id, or None if the folder or the file is missing.

    Raises:
        OSError: it could not be read.
    """
    try:
        return mark.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


# The folder of partial files. Keys never begin with a dot, so nothing reads or lists it. It is created when the store
# is opened, and if it is missing later, so is the whole store: an unmounted volume leaves an empty folder.
_PARTIALS = ".partial"
_MARK = ".store-id"


class LocalObjects:
    """Objects in a folder of this machine. `root` is the folder's URI."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partials = folder / _PARTIALS
        self._mark = folder / _MARK
        self._identity: bytes | None = None
        self.root = folder.as_uri() + "/"

    @classmethod
    def from_url(cls, url: str) -> "LocalObjects":
        """Open the folder of a URL such as file:///data/images, and create it if missing.

        Raises:
            StoreUnavailable: the URL is not that of a local folder, or the folder cannot be written.
        """
        objects = cls.without_opening(url)
        objects.open()
        return objects

    @classmethod
    def without_opening(cls, url: str) -> "LocalObjects":
        """Use the folder of a URL without creating it. Only `find_identity` may be called.

        Raises:
            StoreUnavailable: the URL is not that of a local folder.
        """
        parts = urlsplit(url)
        folder = Path(url2pathname(parts.path).replace("\0", ""))
        is_plain = parts.netloc in {"", "localhost"} and not parts.query and not parts.fragment
        if not is_plain or not folder.is_absolute() or folder == folder.parent or ".." in folder.parts:
            raise StoreUnavailable(
                f"The image store's URL {url!r} is not a valid local folder URL:"
                " use three slashes and an absolute path, such as file:///data/images."
            )
        return cls(folder)

    def path_of(self, key: str) -> Path:
        """Return the file of an object, whether it exists or not."""
        return self._folder / key

    async def add(self, key: str, data: bytes, media_type: str) -> None:
        """Write an object whose key identifies its content, unless it exists undamaged."""
        del media_type  # a file has none
        await asyncio.to_thread(self._add, key, data)

    async def replace(self, key: str, data: bytes, media_type: str) -> None:
        """Write an object, replacing an existing one."""
        del media_type
        await asyncio.to_thread(self._write, key, data)

    async def read(self, key: str, max_bytes: int | None) -> bytes | None:
        """Return an object's bytes, or None if it does not exist. Errors as in `Objects`."""
        return await asyncio.to_thread(self._read, key, max_bytes)

    async def measure(self, key: str) -> int | None:
        """Return an object's size in bytes, or None if it does not exist. Errors as in `Objects`."""
        return await asyncio.to_thread(self._measure, key)

    async def read_piece(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes of an object. Errors as in `Objects`."""
        return await asyncio.to_thread(self._read_piece, key, start, length)

    async def identify(self) -> bytes:
        """Return the content of the folder's mark, which was created when the folder was opened."""
        return self._identity or b""

    async def find_identity(self) -> bytes | None:
        """Return the content of the folder's mark, or None if the folder or the mark is missing."""
        with self._translate_errors("read"):
            return await asyncio.to_thread(read_identity, self._mark)

    async def list_keys(self, folder: str) -> list[str]:
        """Return the keys of all objects below a folder's key, unordered."""
        return await asyncio.to_thread(self._list_keys, folder)

    def open(self) -> None:
        """Create missing parts of the folder, and load its id. Raises StoreUnavailable."""
        with self._translate_errors("used"):
            make_folder(self._partials)
            remove_abandoned(self._partials)
            self._identity = identify(self._mark)
        if not os.access(self._partials, os.W_OK | os.X_OK):
            raise StoreUnavailable(
                f"The image store's folder {self._folder} is not writable: change its permissions"
                " or set another folder in IMAGE_STORE_URL."
            )

    def _add(self, key: str, data: bytes) -> None:
        # Compare the bytes, because a damaged file must be replaced by the picture that was paid for.
        if self._read(key, None) != data:
            self._write(key, data)

    def _write(self, key: str, data: bytes) -> None:
        with self._translate_errors("written"):
            self._check_available()
            write_durably(self._resolve(key), data, partials=self._partials)

    def _read(self, key: str, max_bytes: int | None) -> bytes | None:
        with self._translate_errors("read"):
            path = self._resolve(key)
            try:
                status = path.stat()
                if not stat.S_ISREG(status.st_mode):
                    raise ReferenceRefused(f"{self.root}{key} is a folder or a device, not a file.")
                if max_bytes is not None and status.st_size > max_bytes:
                    raise TooLarge(self.root + key, status.st_size, max_bytes)
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                self._check_available()
                return None

    def _measure(self, key: str) -> int | None:
        with self._translate_errors("read"):
            try:
                status = self._resolve(key).stat()
            except (FileNotFoundError, NotADirectoryError):
                self._check_available()
                return None
        if not stat.S_ISREG(status.st_mode):
            raise ReferenceRefused(f"{self.root}{key} is a folder or a device, not a file.")
        return status.st_size

    def _read_piece(self, key: str, start: int, length: int) -> bytes:
        with self._translate_errors("read"), self._resolve(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def _list_keys(self, folder: str) -> list[str]:
        with self._translate_errors("listed"):
            self._check_available()
            top = self._resolve(folder)
            return [
                (Path(parent) / name).relative_to(self._folder).as_posix()
                for parent, _, names in os.walk(top, onerror=_raise_unless_missing)
                for name in names
            ]

    def _check_available(self) -> None:
        """Raise if the store is missing: its pictures may still exist, and would be bought again.

        Not even a new folder of that name counts as the store, because opening a store creates its folder.
        """
        found = read_identity(self._mark)
        if not self._partials.is_dir() or found != self._identity:
            wrong = f"its {_MARK} is missing" if found is None else "another store is in its place"
            raise StoreUnavailable(
                f"The image store's folder {self._folder} has disappeared since it was opened: {wrong}."
                " Mount or restore it. To continue with what is there now, restart the program."
            )

    def _resolve(self, key: str) -> Path:
        """Return the file of a key. Refuse symbolic links in its path, which may lead out of the store."""
        path = self._folder
        for name in key.split("/"):
            path /= name
            if path.is_symlink():
                raise ReferenceRefused(f"{self.root}{key} leads through a symbolic link.")
        return path

    @contextmanager
    def _translate_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(
                f"The image store's folder {self._folder} cannot be {action}: {error.strerror}."
                " Check its disk and permissions, or set another folder in IMAGE_STORE_URL."
            ) from error


def _raise_unless_missing(error: OSError) -> None:
    """Raise if a folder cannot be listed: it is not empty, and may hold what was paid for."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error
