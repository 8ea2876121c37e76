"""What a verification finds wrong, and how a value is shown in it. What is looked at is not known here."""

import json
from dataclasses import dataclass
from typing import Any

_LONGEST_VALUE = 200


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong. `what` is a sentence; `expected` and `found` are values as texts, None where there are none.

    `run_id` and `entry_id` are None where a whole tenant, or the database as such, is concerned.
    """

    what: str
    tenant: str | None = None
    run_id: str | None = None
    entry_id: str | None = None
    expected: str | None = None
    found: str | None = None


def show_value(value: Any) -> str:
    """A value as a person should see it in a finding: a text as it is, all else as JSON, and short."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # Half a surrogate pair, as damaged text is read, can be neither printed nor sent.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}... ({len(text):,} characters)"
