"""Which model is called when a model is asked for: models come and go.

Days are days in UTC, and a model on its shutdown day counts as gone: the provider names no hour.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from contracts.problems import Problem, describe_value
from imaging.catalogue import Catalogue, ModelEntry

Lifecycle = Literal["live", "deprecated", "retired"]

_NOTICE_WHERE_NONE_IS_NAMED = timedelta(days=90)
"""What OpenAI promises for image models. Dates that are only planned, a year ahead, are nothing to warn of."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The model that a request comes to.

    `model` is the one to call, `entry` what the catalogue knows of it: where the requested one is retired, both are
    of its live replacement (if there is one), so that the rules checked are those of the model that will have to do.
    It may be called only if `problems` is empty. `warnings` are sentences for the operator.
    """

    model: str
    entry: ModelEntry | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def lifecycle_of(entry: ModelEntry, today: date) -> Lifecycle:
    """Whether a model is live, announced to go (deprecated), or gone (retired)."""
    if entry.shutdown is None:
        return "live"
    if today >= entry.shutdown:
        return "retired"
    notice = entry.notice or entry.shutdown - _NOTICE_WHERE_NONE_IS_NAMED
    return "deprecated" if today >= notice else "live"


def resolve_model(
    requested: str, catalogue: Catalogue, today: date, *, replace_retired: bool
) -> ResolvedModel:
    """The model to call. A retired one is a problem, or with `replace_retired` a warning and its replacement."""
    entry = catalogue.find(requested)
    if entry is None:
        warning = (
            f"The catalogue does not know {describe_value('model', requested)} at {catalogue.provider}: "
            "it may run, its usage is kept and waits for a price."
        )
        return ResolvedModel(requested, None, warnings=(warning,))
    if lifecycle_of(entry, today) != "retired":
        return ResolvedModel(requested, entry, warnings=_warn_of_shutdown(requested, entry, today))
    live = _find_live_replacement(entry, catalogue, today)
    if live is None or not replace_retired:
        return ResolvedModel(
            live.model if live else requested, live, (_describe_retired(requested, entry, live),)
        )
    replaced = (
        f"{requested} was shut down at {entry.provider} on {entry.shutdown}: "
        f"requested {requested}, runs on {live.model}."
    )
    return ResolvedModel(live.model, live, warnings=(replaced, *_warn_of_shutdown(live.model, live, today)))


def _find_live_replacement(entry: ModelEntry, catalogue: Catalogue, today: date) -> ModelEntry | None:
    """Follows the replacements, which go in no circle, past those that are gone themselves."""
    current: ModelEntry | None = entry
    while current is not None and lifecycle_of(current, today) == "retired":
        current = catalogue.find(current.replacement) if current.replacement else None
    return current


def _describe_retired(requested: str, entry: ModelEntry, live: ModelEntry | None) -> Problem:
    way_out = (
        f"{live.model}, its replacement; or set RETIRED_MODELS=replace to run old requests on it"
        if live
        else "a model that is live: no replacement is known"
    )
    return Problem(
        field="model",
        value=describe_value("model", requested),
        allowed=f"{way_out} ({requested} was shut down at {entry.provider} on {entry.shutdown})",
    )


def _warn_of_shutdown(name: str, entry: ModelEntry, today: date) -> tuple[str, ...]:
    if entry.shutdown is None or lifecycle_of(entry, today) != "deprecated":
        return ()
    days = (entry.shutdown - today).days
    left = "tomorrow" if days == 1 else f"in {days} days"
    move = f": move to {entry.replacement}" if entry.replacement else ""
    return (f"{name} will be shut down at {entry.provider} on {entry.shutdown}, {left}{move}.",)
