"""`verify`: check that the ledger and its images are unchanged, and that every amount is right."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated

from pydantic import TypeAdapter, ValidationError
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typer import Option

from cli import options
from cli.output import Output, make_table
from cli.session import open_session
from gpt_image_runs.billing.ledger.queries import find_unbilled
from gpt_image_runs.billing.recovery.recovery import find_losses
from gpt_image_runs.billing.verification.snapshot import (
    Finding,
    PromisedPictures,
    read_promised_pictures,
    show_value,
)
from gpt_image_runs.billing.verification.spend import find_wrong_spend
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.database.engine import Database
from gpt_image_runs.images.backend import StoreFailure, StoreUnavailable
from gpt_image_runs.images.store import ImageStore

# Images in memory, some 2 MB each and at most as large as their entry says.
_AT_ONCE = 8
_PAGE = 200
_REFS = TypeAdapter(list[ImageRef])


class PictureCheck:
    """Checks the images of a ledger once. `checked` is how many were checked so far."""

    def __init__(self, database: Database, store: ImageStore, tell: Callable[[int], None]) -> None:
        self._database = database
        self._store = store
        self._tell = tell
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.checked = 0

    async def find(self) -> AsyncIterator[Finding]:
        """Yield a finding for every image that is missing or not what its entry says. Ends if the store stops answering.

        Raises:
            LedgerUnavailable: the ledger does not answer.
        """
        after = -1
        while page := await asyncio.to_thread(
            read_promised_pictures, self._database, after=after, limit=_PAGE
        ):
            try:
                checked = await asyncio.gather(*(self._check_entry(entry) for entry in page))
            except StoreUnavailable as error:
                yield Finding(what=f"Not all images could be checked. {error}")
                return
            for finding in chain.from_iterable(checked):
                yield finding
            after = page[-1].sequence

    async def _check_entry(self, entry: PromisedPictures) -> list[Finding]:
        try:
            images = _REFS.validate_json(entry.images)
        except ValidationError:
            return [
                _stored_pictures_describe(
                    entry,
                    "The entry's images are not valid image references.",
                    found=show_value(entry.images),
                )
            ]
        checks = (self._check_picture(image, entry) for image in images)
        return [finding for finding in await asyncio.gather(*checks) if finding]

    async def _check_picture(self, image: ImageRef, entry: PromisedPictures) -> Finding | None:
        async with self._slots:
            try:
                data = await self._store.read(image.uri, max_bytes=image.bytes)
            except StoreUnavailable:
                raise
            except StoreFailure as failure:
                return _stored_pictures_describe(entry, str(failure), expected=f"sha256 {image.sha256}")
            finally:
                self.checked += 1
                self._tell(self.checked)
            sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        if (sha256, len(data)) == (image.sha256, image.bytes):
            return None
        return _stored_pictures_describe(
            entry,
            f"The image {image.uri} is not the one that the entry names.",
            expected=f"sha256 {image.sha256}, {image.bytes:,} bytes",
            found=f"sha256 {sha256}, {len(data):,} bytes",
        )


def _stored_pictures_describe(
    entry: PromisedPictures, what: str, *, expected: str | None = None, found: str | None = None
) -> Finding:
    return Finding(
        what=what,
        tenant=entry.tenant,
        run_id=entry.run_id,
        entry_id=entry.entry_id,
        expected=expected,
        found=found,
    )


# Findings in a table; JSON has them all.
_SHOWN = 50


def verify(
    *,
    no_pictures: Annotated[
        bool, Option("--no-pictures", help="Check only the ledger, not the images.")
    ] = False,
    as_json: options.AsJson = False,
) -> int:
    """Check the ledger's hash chains, every amount and every image.

    Each amount is computed again from the usage and the rates on its entry, and each tenant's spend is added up again. Exit status
    1 if anything is wrong. Store the heads that --json prints somewhere else: with them, a ledger that was rewritten as a whole
    can be detected later.
    """
    session, output = open_session(), Output(as_json=as_json)
    store = None if no_pictures else session.open_store()
    with session.open_ledger() as database:
        ledger, findings = _check_ledger(database, output)
        findings += find_wrong_spend(database)
        notes = _note_unbilled(database)
        pictures = None
        if store:
            lost, told = asyncio.run(_find_lost(database, store))
            findings += lost
            notes += told
            pictures, damaged = asyncio.run(_check_pictures(database, store, output))
            findings += damaged
    document = {
        "ok": not findings,
        "entries": ledger.entries,
        "pictures": pictures,
        "heads": [head._asdict() for head in ledger.heads],
        "seal_heads": [head._asdict() for head in ledger.seal_heads],
        "findings": [asdict(finding) for finding in findings],
        "notes": notes,
    }
    output.answer(document, *_describe(ledger, pictures, findings))
    for note in notes:
        output.warn(note)
    if no_pictures:
        output.say("The images were not checked, nor whether the ledger is older than its image store.")
    return 1 if findings else 0


async def _find_lost(database: Database, store: ImageStore) -> tuple[list[Finding], list[str]]:
    """Find what the image store knows and the ledger lacks: a ledger restored from an older copy is consistent in itself."""
    try:
        losses = await find_losses(database, store)
    except StoreFailure as failure:
        return [], [f"It is not known whether the ledger is older than its image store. {failure}"]
    accepted = f"{losses.accepted:,} attempts that the ledger does not have were accepted as lost."
    return [Finding(what=losses.describe())] if losses else [], [accepted] if losses.accepted else []


def _note_unbilled(database: Database) -> list[str]:
    """Return notes on paid requests without a bill. They are complete in the ledger, but need attention."""
    count = len(find_unbilled(database, datetime.now(UTC)).attempts)
    if not count:
        return []
    what = "1 request was paid and is" if count == 1 else f"{count:,} requests were paid and are"
    return [f"{what} on no entry. `python starter.py pending` shows what to do."]


def _check_ledger(database: Database, output: Output) -> tuple[LedgerVerification, list[Finding]]:
    with _counting(output, "entries") as tell:
        ledger = LedgerVerification(database, tell)
        return ledger, list(ledger.find())


async def _check_pictures(database: Database, store: ImageStore, output: Output) -> tuple[int, list[Finding]]:
    with _counting(output, "pictures") as tell:
        pictures = PictureCheck(database, store, lambda checked: tell(checked, None))
        findings = [finding async for finding in pictures.find()]
        return pictures.checked, findings


@contextmanager
def _counting(output: Output, things: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show progress: on a terminal a transient bar, otherwise one line."""
    if not output.talk.is_terminal:
        output.say(f"checking {things}")
        yield lambda _checked, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.talk, transient=True) as progress:
        task = progress.add_task(f"checking {things}", total=None)
        yield lambda checked, total: progress.update(task, completed=checked, total=total)


def _describe(
    ledger: LedgerVerification, pictures: int | None, findings: list[Finding]
) -> Iterator[RenderableType]:
    checked = f"checked: entries {ledger.entries:,}, tenants {len(ledger.heads):,}"
    if pictures is not None:
        checked += f", pictures {pictures:,}"
    if not findings:
        yield Text(f"✓ Nothing is wrong ({checked}).", style="bold green")
        return
    yield _tabulate(findings[:_SHOWN])
    if len(findings) > _SHOWN:
        yield Text(f"The first {_SHOWN}; --json lists all.")
    yield Text(f"✗ Findings: {len(findings):,} ({checked}).", style="bold red")


def _tabulate(findings: list[Finding]) -> Table:
    table = make_table("Where", "What is wrong", "Expected", "Found")
    for finding in findings:
        where = "\n".join(part for part in (finding.run_id or finding.tenant, finding.entry_id) if part)
        table.add_row(*map(Text, (where, finding.what, finding.expected or "", finding.found or "")))
    return table
