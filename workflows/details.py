"""What an operator reads at the top of a run's page in the Web UI: markdown made from a run's status. Pure."""

from collections.abc import Sequence

from contracts.billing import Basis
from contracts.decisions import OpenDecision
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
    "token_usage": " by the provider's token counts",
    "size_quality_estimate": " estimated by size and quality",
    "none": "",
}
_WITHOUT_PICTURES = ("generating", "held")
"""Until there are finished ones, what was drawn so far is worth a look."""


def describe_status(
    status: RunStatus,
    pictures: Sequence[ImageRef] = (),
    addresses: Sequence[str] = (),
    *,
    attempts: int | None = None,
    basis: Basis = "none",
) -> str:
    """The run in one line (stage, cost, billing state, requests sent, model), its pictures, and what an operator should know.

    `addresses` are where a browser finds the pictures, where there are such: else the store's own references are shown.
    `attempts` and `basis` are how many requests were sent until one was paid, and what the cost rests on, once known.
    """
    cost = f"{status.cost_usd} USD{_BASES[basis]}" if status.cost_usd else None
    sent = f"{attempts} request{'' if attempts == 1 else 's'} sent" if attempts else None
    facts = [f"**{_STAGES[status.stage]}**", cost, status.billing_state, sent, status.model]
    places = addresses if len(addresses) == len(pictures) else [picture.uri for picture in pictures]
    links = [
        f"- [{picture.width}x{picture.height} {picture.media_type}]({address}), {picture.bytes:,} bytes"
        for picture, address in zip(pictures, places, strict=True)
    ]
    if status.stage in _WITHOUT_PICTURES:
        links += [
            f"- partial picture {partial.index + 1}: [{partial.image.width}x{partial.image.height}"
            f" {partial.image.media_type}]({partial.image.uri})"
            for partial in status.partial_images
        ]
    notes = [f"**Reason:** {quote(status.reason)}"] if status.reason else []
    notes += [_describe_question(status.open_decision, status.run_id)] if status.open_decision else []
    notes += [f"**Note:** {quote(warning)}" for warning in status.warnings]
    return "\n\n".join(filter(None, [" · ".join(filter(None, facts)), "\n".join(links), *notes]))


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
