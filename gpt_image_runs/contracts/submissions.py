"""The answer of the Update `submit`, and the comparison of two requests' content that it is made from."""

from typing import Any, Literal

from pydantic import Field

from gpt_image_runs.contracts.base import Contract
from gpt_image_runs.contracts.money import Usd
from gpt_image_runs.contracts.problems import Problem, describe_value
from gpt_image_runs.contracts.request import NO_CONTENT, ImageRequest

ReceiptStatus = Literal["accepted", "attached", "conflict", "refused"]


class Difference(Contract):
    """A field in which two contents of one request id differ, with both values as in a `Problem`: never a prompt or a picture.

    `earlier` is null where the first content is known by its marks alone (`gpt_image_runs.contracts.fingerprints`).
    """

    field: str = Field(description="The field that differs.")
    earlier: str | None = Field(
        description="Its first value, shortened, never a prompt or a picture; null where only a mark of it was kept."
    )
    submitted: str = Field(description="Its value in this submission, likewise.")


class SubmitReceipt(Contract):
    """What became of a submission, before anything is sent for it.

    `accepted`: the run was started by it. `attached`: the same content is under way, or with `paid_before` is paid already. In
    both cases the workflow's result is the result. `conflict`: the request id stands for other content, which `differences`
    tell. `refused`: for all of `problems`. After these two nothing is done for the submission.

    `price_ceiling_usd` is the worst case of one request to the provider; null where no price is known, or nothing is done.
    """

    status: ReceiptStatus = Field(
        description="accepted: the run was started by this submission. attached: the same content is under way, or paid already. conflict: the request id stands for other content. refused: for all of problems. After the last two nothing is done for the submission."
    )
    run_id: str = Field(description="The run's id; of a refused one without a request id the workflow's.")
    message: str = Field(description="The same in a sentence.")
    model: str | None = Field(
        default=None,
        description="The model that is called, and whose price applies; null where nothing is done.",
    )
    price_ceiling_usd: Usd | None = Field(
        default=None,
        description="The worst case of one request to the provider, a decimal string with 6 places; null where the model has no price, or nothing is done.",
    )
    paid_before: bool = Field(
        default=False,
        description="Whether a picture of it is paid already: the result is that one, and nothing more is paid.",
    )
    differences: tuple[Difference, ...] = Field(
        default=(),
        description="Of a conflict: the fields that differ. Empty where not even their marks are known.",
    )
    problems: tuple[Problem, ...] = Field(default=(), description="Of a refusal: everything that is wrong.")
    warnings: tuple[str, ...] = Field(default=(), description="Sentences for the person who submits.")


class EarlierRunInput(Contract):
    """A run that may start, as the ledger would know it: what `find_earlier_run` looks for."""

    run_id: str
    tenant: str
    request_id: str
    workflow_id: str
    fingerprint: str
    operation: str
    requested_model: str


class EarlierRun(Contract):
    """What the ledger knows of a run id. `conflict` is a sentence where it stands for something else, `differences` the fields.

    `is_owner`: the ledger has the run, with this content. `paid`: a picture of it was paid for, and is found instead of bought.
    """

    conflict: str | None = None
    differences: tuple[str, ...] = ()
    is_owner: bool = False
    paid: bool = False


def compare_contents(earlier: ImageRequest, submitted: ImageRequest) -> tuple[Difference, ...]:
    """Return the fields in which two requests differ, in order, apart from request_id and notify."""
    before, now = _content(earlier), _content(submitted)
    return tuple(
        Difference(field=field, earlier=_describe(field, before), submitted=_describe(field, now))
        for field in sorted(before.keys() | now.keys())
        if before.get(field) != now.get(field)
    )


def mark_differences(submitted: ImageRequest, fields: tuple[str, ...]) -> tuple[Difference, ...]:
    """Return the differences where only the marks of the earlier content are known, which named these fields."""
    now = _content(submitted)
    return tuple(Difference(field=field, earlier=None, submitted=_describe(field, now)) for field in fields)


def _content(request: ImageRequest) -> dict[str, Any]:
    return request.model_dump(mode="json", exclude=NO_CONTENT)


def _describe(field: str, content: dict[str, Any]) -> str:
    return describe_value(field, content[field]) if field in content else "absent"
