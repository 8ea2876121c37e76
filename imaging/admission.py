"""Whether a payload may run: all that can be known of it before anything is sent or fetched.

The client asks here before it starts a run, and the worker again, as payloads come from other clients too. What
needs the bytes of a picture is in `imaging.inputs`, what needs a price belongs to billing.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from typing import Any

from contracts.problems import Problem
from contracts.reading import ALLOWED, read_request
from contracts.request import NO_CONTENT, ImageRequest
from imaging.catalogue import Catalogue
from imaging.lifecycle import ResolvedModel, resolve_model
from imaging.rules import check_rules, check_unknown_model

_DECIDED_BY = {"output_compression": "output_format", "input_fidelity": "images"}
"""Whose rule looks at which other field: where that cannot be read, the rule would say something false."""
_FIELD_ORDER = tuple(ALLOWED)


@dataclass(frozen=True, slots=True)
class CheckedPayload:
    """What became of a payload: `request` is None exactly where `problems` has entries, and then nothing may be sent.

    `resolved` is None where no model could be read, and `sound` then too: else it is what of the request could be read. `warnings` are sentences for the operator, whatever the outcome.
    """

    request: ImageRequest | None
    resolved: ResolvedModel | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    sound: ImageRequest | None = None


def check_payload(
    payload: Any, catalogue: Catalogue, today: date, *, replace_retired: bool
) -> CheckedPayload:
    """Everything that is wrong with a payload, in the order of the request's fields. Never raises.

    Args:
        payload: parsed JSON, whatever it holds.
        catalogue: the provider's models.
        today: the day in UTC.
        replace_retired: run a retired model's requests on its replacement, with a warning.
    """
    reading = read_request(payload)
    if reading.sound is None:
        return CheckedPayload(None, None, reading.problems, ())
    resolved = resolve_model(reading.sound.model, catalogue, today, replace_retired=replace_retired)
    sound, entry = reading.sound, resolved.entry
    rules = check_rules(sound, entry) if entry else check_unknown_model(sound)
    problems = _merge(reading.problems, resolved.problems + rules, reading.sound)
    return CheckedPayload(
        None if problems else reading.request, resolved, problems, resolved.warnings, reading.sound
    )


def fingerprint(request: ImageRequest) -> str:
    """What is asked, and by whom, as a SHA-256 in hex: equal where all of that is equal.

    The request_id is left out, whom the run's end is told, and the model that answers where a retired one is replaced: the same request
    submitted again after a shutdown day is still the same. The order of keys makes no difference, nor does null instead
    of an absent field, nor a default that changes nothing (`stream` false, ...: see `ImageRequest`). Any other default
    that is written out does: a size "auto" is not the same as none, as the provider may move its defaults.
    """
    asked = request.model_dump(mode="json", exclude=NO_CONTENT)
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _merge(shape: tuple[Problem, ...], more: tuple[Problem, ...], sound: ImageRequest) -> tuple[Problem, ...]:
    """The problems of both, without what `more` says on a field that has one or that hangs on an unreadable one."""
    wrong = {problem.field.partition(".")[0] for problem in shape}
    unreadable = {field for field in wrong if getattr(sound, field, None) is None}
    kept = (
        problem
        for problem in more
        if problem.field not in wrong and _DECIDED_BY.get(problem.field) not in unreadable
    )
    return tuple(sorted((*shape, *kept), key=_place_of))


def _place_of(problem: Problem) -> int:
    field = problem.field.partition(".")[0]
    return _FIELD_ORDER.index(field) if field in ALLOWED else len(_FIELD_ORDER)
