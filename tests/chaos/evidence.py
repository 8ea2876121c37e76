"""What the campaign found at the end, as plain values: what the audit looks at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.races import Answer

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One execution of a run, as Temporal tells it. `status` is Temporal's word: COMPLETED, FAILED, RUNNING, ..."""

    run_id: str
    status: str
    failure_type: str | None = None
    failure: str = ""
    result: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Four witnesses that do not know each other: Temporal, the ledger, the provider's books, the files of the store.

    `executions` are in the order of their start, `attempts`, `entries` and `spend` (what tenants have spent, by month and
    by day) are rows of the ledger, `books` are those of the provider. `pictures` holds the sha256 and the size of each file
    that was promised, None where there is none; `receipts` are the attempts whose pictures came, by what was kept in the
    store; `resends` is how often the operator decided to send again, by run; `answers` are what the callers
    of the races were told.
    """

    executions: tuple[Execution, ...]
    attempts: tuple[Row, ...]
    entries: tuple[Row, ...]
    spend: tuple[Row, ...]
    books: tuple[Row, ...]
    pictures: Mapping[str, tuple[str, int] | None] = field(default_factory=dict)
    receipts: frozenset[str] = frozenset()
    resends: Mapping[str, int] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
