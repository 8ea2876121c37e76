"""What tells one folder from another that is in its place: a small file, made with it and never changed.

By its content and not by the folder's inode, which is another after a restore, and on some mounts at each look.
"""

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

from imaging.durable_files import open_new

_MOST_LOOKS = 100
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
    for _ in range(_MOST_LOOKS):  # another process may have made it just now, and not written it yet
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
