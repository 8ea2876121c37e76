"""What can go wrong with the image store. Every message is a sentence for a person.

StoreFailure
  StoreUnavailable    it cannot be reached, read or written: trying again may help
  ReferenceRefused    the reference points at nothing that may be read: trying again never helps
  NotFound            there is no such picture
  CorruptImage        the picture's bytes are not those that were stored
  TooLarge            the picture is larger than the caller can take
"""


class StoreFailure(Exception):
    """Anything that the image store could not do."""


class StoreUnavailable(StoreFailure):
    """The store is not configured well, cannot be reached, or refuses to read or write."""


class ReferenceRefused(StoreFailure, ValueError):
    """The reference leaves the store, or is no reference to a picture at all."""


class NotFound(StoreFailure):
    """There is no such picture in the store."""


class CorruptImage(StoreFailure):
    """The bytes of a picture do not match the hash that is its name."""


class TooLarge(StoreFailure):
    """The picture has more bytes than the caller takes; nothing was read. `size` is in bytes."""

    def __init__(self, uri: str, size: int, max_bytes: int) -> None:
        super().__init__(f"The picture {uri} has {size:,} bytes, at most {max_bytes:,} are accepted.")
        self.size = size
