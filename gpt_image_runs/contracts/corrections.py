"""Corrections of a bill: input and output of the workflow `Reconciliation` and its activity `settle_run`."""

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, model_validator

from gpt_image_runs.contracts.base import NOT_BLANK, Contract, JsonPattern, SparseContract
from gpt_image_runs.contracts.billing import BillingState
from gpt_image_runs.contracts.money import Usd
from gpt_image_runs.contracts.request import REQUEST_ID_PATTERN, TENANT_PATTERN, PlainText

Action = Literal["reconcile", "reprice", "reverse"]
Outcome = Literal["settled", "already_settled", "pending"]

RUN_ID_PATTERN = f"^image:{TENANT_PATTERN[1:-1]}:{REQUEST_ID_PATTERN[1:-1]}$"
# Characters of a usage as JSON: 50 times the real one.
MAX_USAGE = 16 * 1024


Reason = Annotated[
    PlainText,
    JsonPattern(NOT_BLANK),
    StringConstraints(strip_whitespace=True),
    Field(
        min_length=1,
        max_length=500,
        description="a text of 1 to 500 characters, not blank, without control characters",
    ),
]
Actor = Annotated[
    PlainText,
    JsonPattern(NOT_BLANK),
    StringConstraints(strip_whitespace=True),
    Field(
        min_length=1,
        max_length=128,
        description="who decides: a text of 1 to 128 characters, not blank, without control characters",
    ),
]


class Correction(SparseContract):
    """What somebody decides about a run's bill, and why.

    `reconcile` settles it by `usage`, the provider's object, verbatim; `reprice` by the usage that waited for a price;
    `reverse` takes back all that was billed. Only the first has a `usage`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    action: Action = Field(description="reconcile, reprice or reverse")
    run_id: Annotated[str, StringConstraints(pattern=RUN_ID_PATTERN)] = Field(
        description="the id of a run, such as image:acme:req-1"
    )
    usage: JsonValue = Field(
        default=None, description=f"the provider's usage object, up to {MAX_USAGE:,} characters"
    )
    reason: Reason
    actor: Actor

    @model_validator(mode="after")
    def _check_usage(self) -> Self:
        if (self.usage is not None) != (self.action == "reconcile"):
            raise ValueError("usage belongs to reconcile, and to that alone")
        if not _can_be_written(self.usage):
            raise ValueError("usage holds half a surrogate pair, which can be neither sent nor stored")
        if len(canonical_json(self.usage)) > MAX_USAGE:
            raise ValueError(f"usage is longer than {MAX_USAGE:,} characters")
        return self

    @property
    def tenant(self) -> str:
        """The tenant of the run."""
        return self.run_id.split(":")[1]

    @property
    def workflow_id(self) -> str:
        """The id of its workflow, so that the same correction is carried out only once at a time."""
        return f"reconcile:{self.run_id}:{self.mark}"

    @property
    def mark(self) -> str:
        """The part of the id that tells corrections of a run apart: the digest of a usage, else the action."""
        return digest_usage(self.usage) if self.action == "reconcile" else self.action


class Settlement(Contract):
    """Where a run stands after a correction.

    `outcome` is "pending" where nothing was written, `reason` then says what is still missing. Else `entry_id` is the
    entry of this very correction, `difference_usd` its amount, and `superseded_by` the run's latest entry where others came after it.
    `total_usd` is what is owed for the run now, null while that is not known.
    """

    run_id: str = Field(description="The run's id.")
    outcome: Outcome = Field(
        description="settled, already_settled (by the same correction before), or pending: nothing was written."
    )
    state: BillingState = Field(description="The run's billing state now.")
    total_usd: Usd | None = Field(
        description="What is owed for the run now, a decimal string with 6 places; null while that is not known."
    )
    difference_usd: Usd | None = Field(default=None, description="The amount of this correction's entry.")
    entry_id: str | None = Field(default=None, description="This correction's entry.")
    corrects: str | None = Field(default=None, description="The entry that it corrects.")
    rate_card: str | None = Field(default=None, description="The id of the prices that it was worked out by.")
    reason: str | None = Field(
        default=None, description="What is still missing, where the outcome is pending."
    )
    superseded_by: str | None = Field(
        default=None, description="The run's latest entry, where others came after this one."
    )


def canonical_json(usage: JsonValue) -> str:
    """Format a usage as JSON with sorted names and without spaces."""
    return json.dumps(usage, ensure_ascii=True, separators=(",", ":"), sort_keys=True)


def digest_usage(usage: JsonValue) -> str:
    """Return 16 hex digits of the SHA-256 of a usage's canonical JSON."""
    return hashlib.sha256(canonical_json(usage).encode("ascii")).hexdigest()[:16]


def _can_be_written(usage: JsonValue) -> bool:
    try:
        json.dumps(usage, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
