"""What an operator reads at the top of a run's page in the Web UI: markdown made from a run's status. Pure."""

from collections.abc import Sequence
from datetime import datetime

from contracts.billing import Basis
from contracts.decisions import OpenDecision
from contracts.failed_attempts import FailedAttempt
from contracts.images import ImageRef
from contracts.result import RunStatus

_STAGES = {
    "checking": "Checking the request",
    "generating": "Waiting for the provider",
    "held": "Waiting for a decision",
    "pricing": "Computing the cost",
    "recording": "Recording the bill",
    "completed": "Completed",
    "refused": "Refused: nothing was sent",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
_BASES: dict[Basis, str] = {
    "token_usage": "the provider's token counts",
    "size_quality_estimate": "an estimate by size and quality",
    "none": "none yet",
}
_Row = tuple[str, str | None]
_FIXED = "\N{NO-BREAK SPACE}"
_WITHOUT_PICTURES = ("generating", "held")
"""Until there are finished ones, what was drawn so far is worth a look."""


def describe_status(
    status: RunStatus, pictures: Sequence[ImageRef] = (), addresses: Sequence[str] = ()
) -> str:
    """The run as a table of what is known of it, how to decide where somebody has to, and what an operator should know.

    `addresses` are where a browser finds the pictures, where there are such: else the store's own references are shown.
    """
    rows = [
        ("Attempt", describe_trying(status)),
        *_describe_errors(status),
        *_describe_money(status),
        *_link_pictures(status, pictures, addresses),
        ("Model", quote(status.model or "")),
        ("Tenant", status.tenant),
    ]
    notes = [_describe_question(status.open_decision, status.run_id)] if status.open_decision else []
    notes += [f"**Note:** {quote(warning)}" for warning in status.warnings]
    return "\n\n".join([_tabulate(_STAGES[status.stage], rows), *notes])


def _tabulate(stage: str, rows: Sequence[_Row]) -> str:
    """A row for each answer that there is. The first one is the table's heading: the Web UI draws an empty heading as a gap."""
    # A name stays on one line, and away from its value: the Web UI draws columns without a space.
    lines = [f"| **{name.replace(' ', _FIXED)}**{_FIXED * 3} | {value} |" for name, value in rows if value]
    return "\n".join([f"| Stage | {stage} |", "| :--- | :--- |", *lines])


def _describe_errors(status: RunStatus) -> list[_Row]:
    error = status.last_error
    is_told = error is not None and error.message == status.reason
    return [
        ("Last error", quote(describe_error(error)) if error else None),
        ("Reason", quote(status.reason) if status.reason and not is_told else None),
    ]


def _describe_money(status: RunStatus) -> list[_Row]:
    if status.basis is None:
        return []
    return [
        ("Cost", f"{status.cost_usd} USD" if status.cost_usd else "not known yet"),
        ("Basis", _BASES[status.basis]),
        ("Billing state", status.billing_state),
    ]


def _link_pictures(status: RunStatus, pictures: Sequence[ImageRef], addresses: Sequence[str]) -> list[_Row]:
    places = addresses if len(addresses) == len(pictures) else [picture.uri for picture in pictures]
    rows: list[_Row] = [
        (f"Picture {number}" if len(pictures) > 1 else "Picture", _link(picture, place))
        for number, (picture, place) in enumerate(zip(pictures, places, strict=True), 1)
    ]
    if status.stage in _WITHOUT_PICTURES:
        rows += [
            (f"Partial picture {partial.index + 1}", _link(partial.image, partial.image.uri))
            for partial in status.partial_images
        ]
    return rows


def _link(picture: ImageRef, address: str) -> str:
    kind = f"{picture.width}x{picture.height} {picture.media_type}"
    return f"[{kind}]({address.replace('|', '%7C')}), {picture.bytes:,} bytes"


def describe_trying(status: RunStatus) -> str | None:
    """How many requests were sent, and while a call is tried how many failed and when it goes on; None where nothing is known."""
    error, count = status.last_error, status.attempts
    sent = f"{count} request{'' if count == 1 else 's'} sent" if count is not None else None
    if status.stage != "generating":
        return sent
    if error is None:
        return f"{sent}; the next is in line or under way" if sent else "the first is in line or under way"
    count = error.failures or 1
    failed = f"{count} attempt{'' if count == 1 else 's'} failed"
    due = f"the next is due at {_describe_moment(error.tried_again_at)}" if error.tried_again_at else None
    return "; ".join(filter(None, [sent, failed, due]))


def describe_error(error: FailedAttempt) -> str:
    """What was wrong, by its type and in words, and when."""
    return f"{error.error_type}: {error.message} ({_describe_moment(error.failed_at)})"


def _describe_moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _describe_question(question: OpenDecision, run_id: str) -> str:
    """What may have been paid for, and how to decide."""
    attempts = [
        f"- {attempt.attempt_id}, {attempt.error_type or 'no answer'},"
        f" {f'at most {attempt.reserved_usd} USD' if attempt.reserved_usd else 'no price known'};"
        f" the provider's support knows it as {attempt.client_request_id}"
        for attempt in question.attempts
    ]
    commands = [
        f"- `python starter.py decide {run_id} resend --reason TEXT` sends it once more",
        f"- `python starter.py decide {run_id} give-up --reason TEXT` ends the run as failed",
    ]
    return "\n".join([*attempts, "", "**To decide** (or by the Update `decide`):", "", *commands])


def quote(text: str) -> str:
    """Words from outside on one line, shown as they are: not as headings, links or tables of ours."""
    return " ".join(text.split()).replace("[", "(").replace("]", ")").replace("|", "/").replace("`", "'")


def describe_call(model: str, operation: str, size: str | None, quality: str | None, count: int) -> str:
    """One line for the timeline: what is asked of the provider, without the prompt."""
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    return f"{operation} {pictures} with {model}, size {size or 'auto'}, quality {quality or 'auto'}"
