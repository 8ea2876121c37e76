"""Whether an entry says the same as the rows of its run and of the attempt that was paid, from which it was copied. Pure."""

import json
from collections.abc import Iterator
from typing import Any

from billing.findings import Finding, show_value
from billing.stored_entries import StoredEntry
from contracts.content_marks import strip_marks

_OF_THE_RUN = ("tenant", "request_id", "fingerprint", "operation", "requested_model")
_OF_THE_ATTEMPT = (
    "run_id",
    "model",
    "provider",
    "provider_request_id",
    "simulated",
    "sent_at",
    "size",
    "quality",
)


def check_agreement(entry: StoredEntry) -> Iterator[Finding]:
    """Where an entry differs from its run or its attempt."""
    for row, known in (("run", entry.run["run_id"]), ("attempt", entry.attempt["attempt_id"])):
        if known is None:
            yield entry.find(f"The entry's {row} is not in the ledger.")
            return
    of_the_run = {name: entry.run[name] for name in _OF_THE_RUN}
    of_the_run["fingerprint"] = strip_marks(of_the_run["fingerprint"])
    yield from _compare(entry, "run", of_the_run)
    yield from _compare(entry, "attempt", {name: entry.attempt[name] for name in _OF_THE_ATTEMPT})
    if entry.attempt["outcome"] != "succeeded":
        found = show_value(entry.attempt["outcome"])
        yield entry.find("The attempt that was paid has another outcome.", expected="succeeded", found=found)
    yield from _compare(entry, "attempt", _tell_pictures(entry.attempt))
    if entry.columns["corrects"] is None:  # a correction may know of another usage
        yield from _compare(entry, "attempt", {"usage": _tell_usage(entry.attempt)})


def _tell_pictures(attempt: dict[str, Any]) -> dict[str, Any]:
    images = _parse(attempt["images"])
    count = len(images) if isinstance(images, list) else 0
    return {"images": attempt["images"] if images else "[]", "image_count": count}


def _tell_usage(attempt: dict[str, Any]) -> str | None:
    response = _parse(attempt["response"])
    usage = response.get("usage") if isinstance(response, dict) else None
    return None if usage is None else json.dumps(usage, separators=(",", ":"))


def _compare(entry: StoredEntry, row: str, expected: dict[str, Any]) -> Iterator[Finding]:
    for name, value in expected.items():
        found = entry.columns[name]
        if found != value:
            what = f"The entry's {name} is not that of its {row}."
            yield entry.find(what, expected=show_value(value), found=show_value(found))


def _parse(stored: Any) -> Any:
    """What a column of JSON holds, None where it is damaged: then whatever should be the same differs."""
    try:
        return json.loads(stored) if isinstance(stored, str) else None
    except (ValueError, RecursionError):
        return None
