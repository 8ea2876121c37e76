"""What comes into a batch: every line of its file checked as `submit` would, before the first is started."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from billing.ceilings import price_ceiling
from billing.rate_cards import RateCards
from cli.batch_files import FileLine
from cli.batch_pages import PageSpool
from cli.failures import RequestRefused
from cli.request_check import check_pictures
from cli.session import Session
from contracts import names
from contracts.batch_pages import BatchLine
from contracts.batches import MOST_LINES
from contracts.billing import PriceMode
from contracts.problems import Problem, describe_value
from contracts.request import ImageRequest
from imaging.admission import check_payload
from imaging.catalogue import Catalogue

_MOST_TOLD = 50
_MOST_PICTURES_REMEMBERED = 1_000


@dataclass(slots=True)
class Intake:
    """What was found in a file. `worst_case_micro_usd` adds up the lines whose price is known, `unpriced` counts the others."""

    spool: PageSpool
    digest: str = ""
    sound: int = 0
    wrong: int = 0
    told: list[str] = field(default_factory=list)
    worst_case_micro_usd: int = 0
    unpriced: int = 0

    def refuse_wrong_lines(self, source: str) -> None:
        """Raises RequestRefused with the lines that are wrong, if there are any."""
        if self.wrong:
            more = [f"and {self.wrong - len(self.told):,} more"] if self.wrong > len(self.told) else []
            raise RequestRefused(
                "\n".join([f"{source} is refused, nothing was started:", *self.told, *more])
                + "\n--skip-invalid runs the other lines.",
                lines=self.told,
                wrong=self.wrong,
                sound=self.sound,
            )


class BatchIntake:
    """Checks the lines of one batch. `defaults` are request fields for lines that do not say otherwise."""

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
        self._catalogue = Catalogue.load(session.provider)
        self._cards = RateCards.load(session.settings.rate_card)
        self._now = datetime.now(UTC)
        self._lines_by_run: dict[str, int] = {}
        self._pictures: dict[str, tuple[Problem, ...]] = {}

    async def take_in(self, lines: Iterable[FileLine], source: str, folder: Path) -> Intake:
        """Reads all lines into pages in that folder.

        Raises:
            RequestRefused: there is no line, there are too many, or the file cannot be read.
            StoreUnavailable: the pictures to edit could not be read.
        """
        intake, digest = Intake(PageSpool(folder)), hashlib.sha256()
        for line in lines:
            if intake.spool.lines == MOST_LINES:
                raise RequestRefused(
                    f"{source} has more than {MOST_LINES:,} lines: split it up. Nothing was started."
                )
            payload = None if line.payload is None else self._complete(line.payload)
            digest.update(_canonical(line, payload))
            await self._take_line(line, payload, intake)
        if not intake.spool.lines:
            raise RequestRefused(f"{source} holds no line; nothing was started.")
        intake.spool.close_page()
        intake.digest = digest.hexdigest()
        return intake

    async def _take_line(self, line: FileLine, payload: dict[str, Any] | None, intake: Intake) -> None:
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
        if len(intake.told) < _MOST_TOLD:
            intake.told.append(f"line {line.number}: {problem}")
        intake.spool.add(BatchLine(line=line.number, problem=problem))

    def _complete(self, payload: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in payload.items() if value is not None}
        whole = self._defaults | given
        both = (self._defaults.get("metadata"), given.get("metadata"))
        if all(isinstance(metadata, dict) for metadata in both):
            whole["metadata"] = both[0] | both[1]  # type: ignore[operator]  # both are, as was just asked
        return whole

    async def _check(self, number: int, payload: dict[str, Any], intake: Intake) -> str | None:
        """What is wrong with a line, as one text; None where it may run."""
        checked = check_payload(
            payload,
            self._catalogue,
            self._now.date(),
            replace_retired=self._session.settings.retired_models == "replace",
        )
        problems = [*checked.problems, *(await self._check_pictures(payload))]
        request = checked.request
        if request is not None and checked.resolved is not None:
            problems += self._check_price(request, checked.resolved.model, intake)
            problems += self._check_twice(request, number)
        return "; ".join(map(str, problems)) or None

    def _check_price(self, request: ImageRequest, model: str, intake: Intake) -> list[Problem]:
        ceiling = price_ceiling(
            self._catalogue.provider, model, request, self._now, self._cards, mode=self._mode
        )
        if ceiling is not None:
            intake.worst_case_micro_usd += ceiling
            return []
        intake.unpriced += 1
        if not self._needs_price:
            return []
        allowed = "with --max-cost, a model whose price is known, as no limit could be kept otherwise"
        return [Problem(field="model", value=describe_value("model", model), allowed=allowed)]

    def _check_twice(self, request: ImageRequest, number: int) -> list[Problem]:
        run_id = names.run_id_for(request.tenant, request.request_id or "")
        first = self._lines_by_run.setdefault(run_id, number)
        if first == number:
            return []
        value = describe_value("request_id", request.request_id)
        allowed = f"an id that no other line of the tenant has: line {first} has it already"
        return [Problem(field="request_id", value=value, allowed=allowed)]

    async def _check_pictures(self, payload: dict[str, Any]) -> tuple[Problem, ...]:
        """Looks at the pictures to edit; a set of them that many lines share is looked at once."""
        if not (payload.get("images") or payload.get("mask")):
            return ()
        key = json.dumps([payload.get("images"), payload.get("mask")], sort_keys=True)
        if key not in self._pictures:
            if len(self._pictures) >= _MOST_PICTURES_REMEMBERED:
                self._pictures.clear()
            self._pictures[key] = await check_pictures(payload, self._session, set())
        return self._pictures[key]


def _canonical(line: FileLine, payload: dict[str, Any] | None) -> bytes:
    """What makes a line another one: what it asks, whatever the order of names and the blanks between them."""
    if payload is None:
        return b"%d %b\n" % (line.number, hashlib.sha256(line.source).hexdigest().encode())
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return b"%d %b\n" % (line.number, text.encode())
