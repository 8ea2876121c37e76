"""Checks every line of a batch as `submit` checks a request, and writes the lines into pages."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.batches.request_files import FileLine
from cli.errors import RequestRefused
from cli.runs.start import check_pictures
from cli.session import Session
from gpt_image_runs.billing.pricing.quotes import price_ceiling
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import (
    LINES_A_PAGE,
    MAX_LINES,
    MAX_PAGE,
    BatchLine,
    page_key,
    write_line,
)
from gpt_image_runs.contracts.billing import PriceMode
from gpt_image_runs.contracts.problems import Problem, describe_value
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.provider.request_rules import check_payload

_MAX_PROBLEMS = 50
_MAX_PICTURES_REMEMBERED = 1_000


class PageSpool:
    """Writes lines into pages, and pages into a store. `pages` and `lines` count them so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._page = b""
        self._lines_on_page = 0
        self.pages = 0
        self.lines = 0

    def add(self, line: BatchLine) -> None:
        """Append a line."""
        self._page += write_line(line)
        self._lines_on_page += 1
        self.lines += 1
        if self._lines_on_page == LINES_A_PAGE or len(self._page) >= MAX_PAGE:
            self.close_page()

    def close_page(self) -> None:
        """Write the current page, if it has lines."""
        if self._page:
            self._path(self.pages).write_bytes(self._page)
            self.pages += 1
            self._page, self._lines_on_page = b"", 0

    async def upload(self, store: ImageStore, batch_id: str, digest: str) -> None:
        """Write all pages into the store. Raises StoreUnavailable."""
        for page in range(self.pages):
            await store.put_document(page_key(batch_id, digest, page), self._path(page).read_bytes())

    def _path(self, page: int) -> Path:
        return self._folder / f"{page:05d}"


@dataclass(slots=True)
class Intake:
    """The result of checking a file.

    `worst_case_micro_usd` is the sum over lines whose price is known; `unpriced` counts the others. `problems` has the first
    `_MAX_PROBLEMS` of the wrong lines.
    """

    spool: PageSpool
    digest: str = ""
    sound: int = 0
    wrong: int = 0
    problems: list[str] = field(default_factory=list)
    worst_case_micro_usd: int = 0
    unpriced: int = 0

    def check_lines(self, source: str) -> None:
        """Check that no line is wrong. Raises RequestRefused with those that are."""
        if self.wrong:
            more = (
                [f"and {self.wrong - len(self.problems):,} more"] if self.wrong > len(self.problems) else []
            )
            raise RequestRefused(
                "\n".join([f"{source} is refused, nothing was started:", *self.problems, *more])
                + "\n--skip-invalid runs the other lines.",
                lines=self.problems,
                wrong=self.wrong,
                sound=self.sound,
            )


class BatchIntake:
    """Checks the lines of one batch. `defaults` are request fields for lines that do not set them."""

    def __init__(
        self,
        session: Session,
        batch_id: str,
        defaults: dict[str, Any],
        *,
        needs_price: bool,
        mode: PriceMode = "standard",
    ) -> None:
        self._mode: PriceMode = mode
        self._session = session
        self._batch_id = batch_id
        self._defaults = defaults
        self._needs_price = needs_price
        self._catalog = Catalog.load(session.provider)
        self._cards = RateCards.load(session.settings.rate_card)
        self._now = datetime.now(UTC)
        self._lines_by_run: dict[str, int] = {}
        self._pictures: dict[str, tuple[Problem, ...]] = {}

    async def read_all(self, lines: Iterable[FileLine], source: str, folder: Path) -> Intake:
        """Check all lines and write them into pages in a folder.

        Raises:
            RequestRefused: there is no line, there are too many, or the file cannot be read.
            StoreUnavailable: the images to edit could not be read.
        """
        intake, digest = Intake(PageSpool(folder)), hashlib.sha256()
        for line in lines:
            if intake.spool.lines == MAX_LINES:
                raise RequestRefused(
                    f"{source} has more than {MAX_LINES:,} lines: split it up. Nothing was started."
                )
            payload = None if line.payload is None else self._complete(line.payload)
            digest.update(_canonical(line, payload))
            await self._add_line(line, payload, intake)
        if not intake.spool.lines:
            raise RequestRefused(f"{source} has no lines; nothing was started.")
        intake.spool.close_page()
        intake.digest = digest.hexdigest()
        return intake

    async def _add_line(self, line: FileLine, payload: dict[str, Any] | None, intake: Intake) -> None:
        problem = line.problem
        if payload is not None:
            payload = payload | {
                "request_id": payload.get("request_id") or f"{self._batch_id}-{line.number:06d}"
            }
            problem = await self._check(line.number, payload, intake)
        if problem is None:
            intake.sound += 1
            intake.spool.add(BatchLine(line=line.number, request=payload))
            return
        intake.wrong += 1
        if len(intake.problems) < _MAX_PROBLEMS:
            intake.problems.append(f"line {line.number}: {problem}")
        intake.spool.add(BatchLine(line=line.number, problem=problem))

    def _complete(self, payload: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in payload.items() if value is not None}
        whole = self._defaults | given
        both = (self._defaults.get("metadata"), given.get("metadata"))
        if all(isinstance(metadata, dict) for metadata in both):
            whole["metadata"] = both[0] | both[1]  # type: ignore[operator]  # both are dicts by the check above
        return whole

    async def _check(self, number: int, payload: dict[str, Any], intake: Intake) -> str | None:
        """Check a line, and return its problems as one text, None without any."""
        checked = check_payload(
            payload,
            self._catalog,
            self._now.date(),
            replace_retired=self._session.settings.retired_models == "replace",
        )
        problems = [*checked.problems, *(await self._check_pictures(payload))]
        request = checked.request
        if request is not None and checked.resolved is not None:
            problems += self._check_price(request, checked.resolved.model, intake)
            problems += self._check_unique(request, number)
        return "; ".join(map(str, problems)) or None

    def _check_price(self, request: ImageRequest, model: str, intake: Intake) -> list[Problem]:
        ceiling = price_ceiling(
            self._catalog.provider, model, request, self._now, self._cards, mode=self._mode
        )
        if ceiling is not None:
            intake.worst_case_micro_usd += ceiling
            return []
        intake.unpriced += 1
        if not self._needs_price:
            return []
        allowed = "with --max-cost, a model whose price is known, as the limit could not be kept otherwise"
        return [Problem(field="model", value=describe_value("model", model), allowed=allowed)]

    def _check_unique(self, request: ImageRequest, number: int) -> list[Problem]:
        run_id = names.run_id_for(request.tenant, request.request_id or "")
        first = self._lines_by_run.setdefault(run_id, number)
        if first == number:
            return []
        value = describe_value("request_id", request.request_id)
        allowed = f"an id that no other line of the tenant has: line {first} has it already"
        return [Problem(field="request_id", value=value, allowed=allowed)]

    async def _check_pictures(self, payload: dict[str, Any]) -> tuple[Problem, ...]:
        """Check the images to edit. A set of images that many lines share is checked once."""
        if not (payload.get("images") or payload.get("mask")):
            return ()
        key = json.dumps([payload.get("images"), payload.get("mask")], sort_keys=True)
        if key not in self._pictures:
            if len(self._pictures) >= _MAX_PICTURES_REMEMBERED:
                self._pictures.clear()
            self._pictures[key] = await check_pictures(payload, self._session, set())
        return self._pictures[key]


def _canonical(line: FileLine, payload: dict[str, Any] | None) -> bytes:
    """Return what the digest has of a line, independent of field order and whitespace."""
    if payload is None:
        return b"%d %b\n" % (line.number, hashlib.sha256(line.source).hexdigest().encode())
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return b"%d %b\n" % (line.number, text.encode())
