"""What a run hears of an attempt of its call that failed: the argument of the signal `attempt_failed`, and part of its status."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field

from contracts.base import SparseContract

_MANY = 1_000_000_000
"""No run has so many attempts."""


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is before the first or after the last year") from None


class FailedAttempt(SparseContract):
    """An attempt that failed. `failures` is how many have by then, also those that sent nothing; `attempts` how many requests
    were sent by then, absent where the ledger could not say. `attempt_id` is the request that failed, absent where none was sent.

    `tried_again_at` is when the next attempt may begin; absent where there is none.
    """

    error_type: str = Field(min_length=1)
    message: str
    failed_at: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    failures: int | None = Field(default=None, ge=1, le=_MANY)
    attempts: int | None = Field(default=None, ge=0, le=_MANY)
    attempt_id: str | None = None
    tried_again_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = None
