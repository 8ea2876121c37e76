"""What a submission is told, made of what is known of its run. Pure: nothing is decided here that costs anything."""

from temporalio.exceptions import ApplicationError

from contracts import names
from contracts.calls import Admission
from contracts.problems import Problem, describe_problems
from contracts.request import ImageRequest
from contracts.run_ids import find_request_id
from contracts.submissions import Difference, SubmitReceipt, compare_contents, mark_differences

_NOT_TOLD = (
    "The run was started with another address to tell its end to, or with none, and does not tell yours: await its result, or"
    " submit the request again once the run is over."
)


def find_differences(
    running: ImageRequest, submitted: ImageRequest, workflow_id: str
) -> tuple[Difference, ...]:
    """The fields in which a submission is not the run of this workflow. Tenant and request id belong to it, named or not."""
    ids = [find_request_id(request, workflow_id) or "absent" for request in (running, submitted)]
    other_id = (Difference(field="request_id", earlier=ids[0], submitted=ids[1]),) if ids[0] != ids[1] else ()
    return (*compare_contents(running, submitted), *other_id)


def give_none(workflow_id: str) -> ApplicationError:
    """There is no receipt, as nobody could know what the request id stands for."""
    message = f"The run {workflow_id} ended before it was known whether its request id was used before. Submit it again."
    return ApplicationError(message, type=names.NO_RECEIPT, non_retryable=True)


def give_none_to_owner(workflow_id: str) -> ApplicationError:
    """The request id belongs to this content, and the execution under way was started with other content by a plain start."""
    message = (
        f"The execution of {workflow_id} that is under way was started with other content, ends as {names.RUN_CONFLICT} and has"
        " no result for this request. The request id belongs to this content: submit it again."
    )
    return ApplicationError(message, type=names.NO_RECEIPT, non_retryable=True)


def accept(admission: Admission) -> SubmitReceipt:
    """The run is started by this submission."""
    return SubmitReceipt(
        status="accepted",
        run_id=admission.run_id,
        message="The run is started, and its result is that of the workflow.",
        model=admission.model,
        price_ceiling_usd=admission.price_ceiling_usd,
        warnings=admission.warnings,
    )


def attach(admission: Admission, *, paid_before: bool, is_told: bool = True) -> SubmitReceipt:
    """The run exists, or has existed: it is one run and one bill.

    `is_told` is False where the submission names somebody whom this run does not tell of its end.
    """
    message = (
        "The same request is paid already: the run answers with its pictures and its bill, and pays nothing more."
        if paid_before
        else "The same request is under way: it is one run and one bill, and its result is that of the workflow."
    )
    warnings = admission.warnings if is_told else (*admission.warnings, _NOT_TOLD)
    return accept(admission).model_copy(
        update={"status": "attached", "message": message, "paid_before": paid_before, "warnings": warnings}
    )


def refuse(run_id: str, problems: tuple[Problem, ...], warnings: tuple[str, ...]) -> SubmitReceipt:
    """The submission is wrong, for all of these reasons."""
    return SubmitReceipt(
        status="refused",
        run_id=run_id,
        message=describe_problems(problems),
        problems=problems,
        warnings=warnings,
    )


def tell_conflict_with_run(run_id: str, differences: tuple[Difference, ...]) -> SubmitReceipt:
    """A run of other content is under way."""
    fields = ", ".join(difference.field for difference in differences)
    return SubmitReceipt(
        status="conflict",
        run_id=run_id,
        message=f"The run {run_id} stands for other content already (other in {fields}), and nothing is done for this one."
        " Choose a new request id for a new picture, or submit the first content again for its result.",
        differences=differences,
    )


def tell_conflict_with_start(run_id: str, problems: tuple[Problem, ...]) -> SubmitReceipt:
    """The submission is wrong, and its own start is not: that run goes on and is billed."""
    message = (
        f"The run {run_id} was started with other content than was submitted, and goes on with that: await its result, or cancel it."
        f" Nothing is done for this submission, which could not be run. {describe_problems(problems)}"
    )
    return SubmitReceipt(status="conflict", run_id=run_id, message=message, problems=problems)


def tell_conflict_with_refused(run_id: str) -> SubmitReceipt:
    """A run of other content is under way, and about to end: the request id stays free."""
    message = (
        f"The run {run_id} that is under way is of other content, and is being refused. Nothing is done for this one:"
        " submit it again."
    )
    return SubmitReceipt(status="conflict", run_id=run_id, message=message)


def tell_conflict_with_ledger(
    run_id: str, submitted: ImageRequest, conflict: str, fields: tuple[str, ...]
) -> SubmitReceipt:
    """The request id was used before, for what the ledger remembers by its marks."""
    return SubmitReceipt(
        status="conflict",
        run_id=run_id,
        message=conflict,
        differences=mark_differences(submitted, fields),
    )
