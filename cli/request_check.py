"""What is wrong with a payload, all at once, before a run is started. The worker looks again."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cli.failures import RequestRefused
from cli.session import Session
from contracts import names
from contracts.problems import Problem, describe_problems
from contracts.reading import read_request
from contracts.request import ImageRequest
from imaging.admission import CheckedPayload, check_payload, fingerprint
from imaging.catalogue import Catalogue
from imaging.inputs import InputsRefused, load_inputs
from imaging.ownership import PictureOwners


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A payload that may run, with the id that it runs under. `warnings` are sentences for the person who sent it."""

    payload: dict[str, Any]
    request: ImageRequest
    model: str
    fingerprint: str
    warnings: tuple[str, ...]

    @property
    def run_id(self) -> str:
        """The id of the run, which is that of its workflow."""
        return names.run_id_for(self.request.tenant, self.request.request_id or "")


async def check_request(
    payload: Any, session: Session, problems_before: tuple[Problem, ...] = ()
) -> CheckedRequest:
    """Everything that is wrong with a payload, at once, before anything is started.

    `problems_before` are of fields that the caller could not even fill in.

    Raises:
        RequestRefused: with all problems.
        StoreUnavailable: the pictures to edit could not be read.
    """
    if isinstance(payload, dict) and payload.get("request_id") is None:
        payload = {**payload, "request_id": uuid.uuid4().hex}
    checked = check_content(payload, session)
    known = {problem.field for problem in problems_before}
    problems = (
        *(problem for problem in checked.problems if problem.field not in known),
        *problems_before,
        *(await check_pictures(payload, session, known)),
    )
    if problems or checked.request is None or checked.resolved is None:
        raise RequestRefused(describe_problems(problems), problems)
    return CheckedRequest(
        payload,
        checked.request,
        checked.resolved.model,
        fingerprint(checked.request),
        checked.warnings,
    )


def check_content(payload: Any, session: Session) -> CheckedPayload:
    """What can be known of a payload without its pictures, by the rules of the provider that applies here."""
    return check_payload(
        payload,
        Catalogue.load(session.provider),
        datetime.now(UTC).date(),
        replace_retired=session.settings.retired_models == "replace",
    )


async def check_pictures(payload: Any, session: Session, known: set[str]) -> tuple[Problem, ...]:
    """What is wrong with the pictures that the payload refers to, apart from `known`."""
    sound = read_request(payload).sound
    if sound is None or not sound.inputs():
        return ()
    try:
        owners = PictureOwners(session.open_store(), shared=session.settings.shared_images)
        await load_inputs(sound, owners.store_of(sound.tenant))
    except InputsRefused as refused:
        return tuple(problem for problem in refused.problems if problem.field not in known)
    return ()
