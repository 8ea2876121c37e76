"""Objects as files in a local folder: atomic, durable, and never outside of the folder.

Written with plain system calls because the object store library's local backend promises less: it follows symbolic
links out of the folder, does not force data to the disk before it says that they are written, and leaves what a crash
interrupted beside the objects. Who may write into the folder itself is trusted: links are looked for, not raced against.
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

_ABANDONED_SECONDS = 24 * 60 * 60
"""No write takes a day: what is older was left by a crash."""


def write_durably(path: Path, data: bytes, *, partials: Path) -> None:
    """Writes `data` to `path`; `partials` is a folder that exists, on the same disk, for files that are being written.

    Raises:
        OSError: it was not written; what was at `path` before is there still.
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
    """Makes a folder and those above it, each forced to the disk: a file is no safer than the folders above it.

    Where the folder above is closed to other users, so is a new one.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o777 & _rights_in(folder.parent), exist_ok=True)
    _sync_folder(folder.parent)


def open_new(path: Path) -> BinaryIO:
    """Open a file that is not there yet for writing, closed to other users where its folder is."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 & _rights_in(path.parent))
    return os.fdopen(descriptor, "wb")


def _rights_in(folder: Path) -> int:
    return 0o700 if os.name == "posix" and not folder.stat().st_mode & 0o077 else 0o777


def remove_abandoned(partials: Path) -> None:
    """Removes the files that a crash has left half-written."""
    found = list(partials.iterdir())
    if not found:
        return
    # The file system's own time: a folder that several hosts share has another clock than this one.
    probe = partials / uuid.uuid4().hex
    probe.touch()
    now = probe.stat().st_mtime
    for partial in (*found, probe):
        with contextlib.suppress(
            FileNotFoundError
        ):  # another process has finished it, or removed it, meanwhile
            if partial == probe or now - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened, and needs no forcing
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_MAX_LOOKS = 100
_LOOK_AGAIN_SECONDS = 0.01


def identify(mark: Path) -> bytes | None:
    """The identity in a folder's file `mark`, which is made where there is none; the same for all who open the folder at once.

    Raises:
        OSError: it could not be read or made.
    """
    with suppress(FileExistsError), open_new(mark) as file:
        file.write(uuid.uuid4().hex.encode())
        file.flush()
        os.fsync(file.fileno())
    for _ in range(_MAX_LOOKS):  # another process may have made it just now, and not written it yet
        if identity := read_identity(mark):
            return identity
        time.sleep(_LOOK_AGAIN_SECONDS)
    return read_identity(mark)  # a crash in between has left it empty: that is an identity too


def read_identity(mark: Path) -> bytes | None:
    """The identity, None where the folder or the file is missing.

    Raises:
        OSError: it could not be read.
    """
    try:
        return mark.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


_PARTIALS = ".partial"
"""For files that are being written. A key never begins with a dot, so that nothing reads or lists them. It is made when
the store is opened, and where it is missing later the whole store is: a volume that is not mounted leaves an empty folder."""
_MARK = ".store-id"


class LocalObjects:
    """Objects in a folder of this machine; `root` is the folder's URI."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partials = folder / _PARTIALS
        self._mark = folder / _MARK
        self._identity: bytes | None = None
        self.root = folder.as_uri() + "/"

    @classmethod
    def from_url(cls, url: str) -> "LocalObjects":
        """Opens the folder of a URL such as file:///data/images, and makes it where it is missing.

        Raises:
            StoreUnavailable: the URL names no folder, or one that cannot be written.
        """
        objects = cls.without_opening(url)
        objects.open()
        return objects

    @classmethod
    def without_opening(cls, url: str) -> "LocalObjects":
        """Take the folder of a URL as it is: nothing is created, so nothing but `find_identity` may be called.

        Raises:
            StoreUnavailable: the URL is not that of a local folder.
        """
        parts = urlsplit(url)
        folder = Path(url2pathname(parts.path).replace("\0", ""))
        is_plain = parts.netloc in {"", "localhost"} and not parts.query and not parts.fragment
        if not is_plain or not folder.is_absolute() or folder == folder.parent or ".." in folder.parts:
            raise StoreUnavailable(
                f"The image store's URL {url!r} names no local folder:"
                " write three slashes and an absolute path, such as file:///data/images."
            )
        return cls(folder)

    def path_of(self, key: str) -> Path:
        """The file that holds an object, whether it is there or not."""
        return self._folder / key

    async def add(self, key: str, data: bytes, media_type: str) -> None:
        """Writes an object whose key tells its content, unless it is there already, and unharmed."""
        del media_type  # a file has none
        await asyncio.to_thread(self._add, key, data)

    async def replace(self, key: str, data: bytes, media_type: str) -> None:
        """Writes an object, in place of what was there."""
        del media_type
        await asyncio.to_thread(self._write, key, data)

    async def read(self, key: str, max_bytes: int | None) -> bytes | None:
        """An object's bytes, None where there is none. Errors as in `Objects`."""
        return await asyncio.to_thread(self._read, key, max_bytes)

    async def measure(self, key: str) -> int | None:
        """An object's size in bytes, None where there is none. Errors as in `Objects`."""
        return await asyncio.to_thread(self._measure, key)

    async def read_piece(self, key: str, start: int, length: int) -> bytes:
        """So many bytes of an object. Errors as in `Objects`."""
        return await asyncio.to_thread(self._read_piece, key, start, length)

    async def identify(self) -> bytes:
        """Return the content of the folder's mark, which was created when the folder was opened."""
        return self._identity or b""

    async def find_identity(self) -> bytes | None:
        """Return the content of the folder's mark, None where the folder or the mark is missing."""
        with self._explained("read"):
            return await asyncio.to_thread(read_identity, self._mark)

    async def list_keys(self, folder: str) -> list[str]:
        """The keys of all objects below a folder's key, in no order."""
        return await asyncio.to_thread(self._list_keys, folder)

    def open(self) -> None:
        """Create what is missing of the folder, and note its identity. Raises StoreUnavailable."""
        with self._explained("used"):
            make_folder(self._partials)
            remove_abandoned(self._partials)
            self._identity = identify(self._mark)
        if not os.access(self._partials, os.W_OK | os.X_OK):
            raise StoreUnavailable(
                f"The image store's folder {self._folder} is not writable: change its permissions,"
                " or name another folder in IMAGE_STORE_URL."
            )

    def _add(self, key: str, data: bytes) -> None:
        # Compared byte by byte: a damaged file gives way, as what was paid for has to be kept.
        if self._read(key, None) != data:
            self._write(key, data)

    def _write(self, key: str, data: bytes) -> None:
        with self._explained("written"):
            self._refuse_while_away()
            write_durably(self._inside(key), data, partials=self._partials)

    def _read(self, key: str, max_bytes: int | None) -> bytes | None:
        with self._explained("read"):
            path = self._inside(key)
            try:
                status = path.stat()
                if not stat.S_ISREG(status.st_mode):
                    raise ReferenceRefused(f"{self.root}{key} is no file but a folder or a device.")
                if max_bytes is not None and status.st_size > max_bytes:
                    raise TooLarge(self.root + key, status.st_size, max_bytes)
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                self._refuse_while_away()
                return None

    def _measure(self, key: str) -> int | None:
        with self._explained("read"):
            try:
                status = self._inside(key).stat()
            except (FileNotFoundError, NotADirectoryError):
                self._refuse_while_away()
                return None
        if not stat.S_ISREG(status.st_mode):
            raise ReferenceRefused(f"{self.root}{key} is no file but a folder or a device.")
        return status.st_size

    def _read_piece(self, key: str, start: int, length: int) -> bytes:
        with self._explained("read"), self._inside(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def _list_keys(self, folder: str) -> list[str]:
        with self._explained("listed"):
            self._refuse_while_away()
            top = self._inside(folder)
            return [
                (Path(parent) / name).relative_to(self._folder).as_posix()
                for parent, _, names in os.walk(top, onerror=_raise_unless_missing)
                for name in names
            ]

    def _refuse_while_away(self) -> None:
        """What is not there while the store is away may be there all the same, and would be bought again.

        A folder of the same name is no store that is back: whatever opens a store makes its folder, `doctor` too.
        """
        found = read_identity(self._mark)
        if not self._partials.is_dir() or found != self._identity:
            wrong = f"{_MARK} is missing in it" if found is None else "another one has its name"
            raise StoreUnavailable(
                f"The image store's folder {self._folder} is away: it was there when it was opened, and now {wrong}."
                " Mount or restore it. To go on with what is in its place, start the program again."
            )

    def _inside(self, key: str) -> Path:
        """The file of a key, no part of whose way there is a link: one may lead out of the store."""
        path = self._folder
        for name in key.split("/"):
            path /= name
            if path.is_symlink():
                raise ReferenceRefused(f"{self.root}{key} leads through a symbolic link.")
        return path

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(
                f"The image store's folder {self._folder} cannot be {action}: {error.strerror}."
                " See to its disk and permissions, or name another folder in IMAGE_STORE_URL."
            ) from error


def _raise_unless_missing(error: OSError) -> None:
    """A folder that cannot be listed is not empty: what lies there may have been paid for."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error
