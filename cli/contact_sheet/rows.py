"""The content of a contact sheet: a row for each line of a batch, totals, thumbnails, and the file they are written to."""

import asyncio
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from cli.files import make_room, replace_whole, tell_unwritable
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.money import format_usd, parse_usd
from gpt_image_runs.images.backend import NotFound, ReferenceRefused, StoreFailure, StoreUnavailable
from gpt_image_runs.images.formats import NotAPicture
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.images.thumbnails import Thumbnail, make_thumbnail

# Shown for a row without a billing state: nothing was charged yet, or ever.
NO_BILL = "no bill"


@dataclass(frozen=True)
class SheetRow:
    """One line of a batch and what became of it.

    `line` is its number in the batch, `state` is done, failed, waiting or any other word, `charge_usd` a decimal
    string with at most 6 places; None is an amount that is not known, never zero. `error` is a sentence.
    """

    line: int
    run_id: str
    prompt: str
    model: str
    size: str | None
    quality: str | None
    state: str
    billing_state: str | None
    charge_usd: str | None
    error: str | None
    pictures: tuple[ImageRef, ...]

    @property
    def charge_micro_usd(self) -> int | None:
        """The charge in micro-USD.

        Raises:
            ValueError: the charge is not a valid amount in USD.
        """
        return None if self.charge_usd is None else parse_usd(self.charge_usd)

    @property
    def bill(self) -> str:
        """The billing state as the sheet names it."""
        return self.billing_state or NO_BILL


@dataclass
class SheetTotals:
    """The sums of the rows added so far. Pending bills are counted apart: their amounts are not known."""

    lines: int = 0
    pictures: int = 0
    pictures_lost: int = 0
    charged_lines: int = 0
    charged_micro_usd: int = 0
    estimated_micro_usd: int = 0
    states: Counter[str] = field(default_factory=Counter)
    bills: Counter[str] = field(default_factory=Counter)

    def add(self, row: SheetRow, *, pictures_lost: int) -> None:
        """Count a row; `pictures_lost` of its pictures could not be shown."""
        self.lines += 1
        self.pictures += len(row.pictures)
        self.pictures_lost += pictures_lost
        self.states[row.state] += 1
        self.bills[row.bill] += 1
        charge = row.charge_micro_usd
        if charge is not None:
            self.charged_lines += 1
            self.charged_micro_usd += charge
            self.estimated_micro_usd += charge if row.billing_state == "estimated" else 0

    @property
    def pending_lines(self) -> int:
        """Lines whose bill waits; what they cost is not in the total."""
        return self.bills["pending"]

    @property
    def charged_usd(self) -> str:
        """The sum of all charges that are known."""
        return format_usd(self.charged_micro_usd)


# Measured: 4.4 KB of page for a large thumbnail of the simulator's and 1.4 KB for a small one, two to three times that
# for pictures as rough as photographs. A thousand lines are a page of 6 MB, ten thousand one of 32 MB, which a browser
# opens in some seconds; beyond that pictures are named, not shown.
LARGE_UP_TO, SMALL_UP_TO = 1_000, 10_000
_LARGE_EDGE, _LARGE_QUALITY = 240, 60
_SMALL_EDGE, _SMALL_QUALITY = 112, 50
# Pictures in memory at once: a decoded one takes up to 33 MB.
_AT_ONCE = 4
# Failures in a row after which the store counts as unavailable and is not tried again.
_MAX_UNANSWERED = 3

# Characters of cards that are copied into the page at once.
_CHUNK = 1024 * 1024

Fault = Literal["missing", "damaged", "not read"]


class Shot(NamedTuple):
    """A picture as the sheet shows it. Without a thumbnail, `fault` and the sentence `why` say what is wrong.

    A picture beyond the last that is embedded has no fault, and no thumbnail either.
    """

    image: ImageRef
    thumbnail: Thumbnail | None = None
    fault: Fault | None = None
    why: str | None = None


class Thumbnailer:
    """Make the thumbnails of one sheet: the first ones large, then small ones, then none."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._started = 0
        self._unanswered = 0

    async def make_shot(self, image: ImageRef) -> Shot:
        """Load a picture as it is shown. Never raise: a picture that cannot be shown must not stop the sheet."""
        self._started += 1
        place = self._started
        if place > SMALL_UP_TO:
            return Shot(image)
        async with self._slots:
            if self._unanswered >= _MAX_UNANSWERED:
                return Shot(image, fault="not read", why="The image store did not answer any more.")
            try:
                thumbnail = await self._make(image, large=place <= LARGE_UP_TO)
            except StoreUnavailable as error:
                self._unanswered += 1
                return Shot(image, fault="not read", why=str(error))
            except (NotFound, ReferenceRefused) as error:
                return Shot(image, fault="missing", why=str(error))
            except (StoreFailure, NotAPicture) as error:
                return Shot(image, fault="damaged", why=str(error))
            self._unanswered = 0
            return Shot(image, thumbnail)

    async def _make(self, image: ImageRef, *, large: bool) -> Thumbnail:
        data = await self._store.read(image.uri, max_bytes=image.bytes)
        edge, quality = (_LARGE_EDGE, _LARGE_QUALITY) if large else (_SMALL_EDGE, _SMALL_QUALITY)
        return await asyncio.to_thread(_make_checked, data, image, edge, quality)


def _make_checked(data: bytes, image: ImageRef, edge: int, quality: int) -> Thumbnail:
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != image.sha256:
        raise NotAPicture(f"The picture {image.uri} is another one: its sha256 is {sha256}.")
    return make_thumbnail(data, longest_edge=edge, quality=quality)


class SheetFile:
    """Collect cards on disk, since the totals, which come before them, are known last. Blocking.

    All methods raise CommandFailed where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._what = f"The contact sheet {path}"
        with tell_unwritable(self._what):
            make_room(path)
            self._cards = tempfile.TemporaryFile("w+", encoding="utf-8", newline="", dir=path.parent)  # noqa: SIM115 - closed in `close`

    def add(self, card: str) -> None:
        """Append a card."""
        with tell_unwritable(self._what):
            self._cards.write(card)

    def finish(self, render: Callable[[Iterator[str]], Iterable[str]]) -> int:
        """Replace the file with the page that `render` makes of the cards, and return its bytes."""
        with tell_unwritable(self._what):
            self._cards.seek(0)
            cards = iter(lambda: self._cards.read(_CHUNK), "")
            with replace_whole(self._path) as page:
                page.writelines(part.encode() for part in render(cards))
                return page.tell()

    def close(self) -> None:
        """Delete the collected cards."""
        with suppress(OSError):
            self._cards.close()
