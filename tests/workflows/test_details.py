"""The Web UI page of a run."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gpt_image_runs.contracts.decisions import OpenDecision, UnknownAttempt
from gpt_image_runs.contracts.images import ImageRef, PartialImage
from gpt_image_runs.contracts.request import describe_call
from gpt_image_runs.contracts.result import FailedAttempt, RunStatus, Stage
from workflows.run_status import describe_status

PICTURE = ImageRef(
    uri="s3://pictures/sha256/ab/ab.png",
    sha256="ab" * 32,
    media_type="image/png",
    bytes=1_234_567,
    width=1024,
    height=1536,
)


def table(stage: str, **rows: str) -> str:
    """Return the page's table. Names of rows have an underscore for each space."""
    fixed = "\N{NO-BREAK SPACE}"
    lines = [f"| **{name.replace('_', fixed)}**{fixed * 3} | {value} |" for name, value in rows.items()]
    return "\n".join([f"| Stage | {stage} |", "| :--- | :--- |", *lines])


def failed_attempt(**others: Any) -> FailedAttempt:
    moment = datetime(2026, 11, 23, 12, 0, 5, tzinfo=UTC)
    return FailedAttempt(
        **{"error_type": "RateLimited", "message": "Too much. Wait.", "failed_at": moment, **others}
    )


def test_completed_run_shows_requests_cost_billing_state_and_images() -> None:
    status = RunStatus(
        run_id="image:acme:1",
        stage="completed",
        tenant="acme",
        model="gpt-image-2",
        billing_state="billed",
        cost_usd="0.041200",
        basis="token_usage",
        attempts=2,
    )

    assert describe_status(status, [PICTURE]) == table(
        "Completed",
        Attempt="2 requests sent",
        Cost="0.041200 USD",
        Basis="the provider's token counts",
        Billing_state="billed",
        Picture="[1024x1536 image/png](s3://pictures/sha256/ab/ab.png), 1,234,567 bytes",
        Model="gpt-image-2",
        Tenant="acme",
    )


@pytest.mark.parametrize(
    ("attempts", "error", "words"),
    [
        (None, None, "the first is in line or under way"),
        (1, None, "1 request sent; the next is in line or under way"),
        (None, failed_attempt(failures=1), "1 attempt failed"),
        (
            2,
            failed_attempt(failures=16, tried_again_at=datetime(2026, 11, 23, 12, 1, 5, tzinfo=UTC)),
            "2 requests sent; 16 attempts failed; the next is due at 2026-11-23 12:01:05 UTC",
        ),
    ],
)
def test_generating_run_shows_attempts_failures_and_the_next_retry(
    attempts: int | None, error: FailedAttempt | None, words: str
) -> None:
    status = RunStatus(run_id="image:acme:1", stage="generating", attempts=attempts, last_error=error)
    last = {"Last_error": "RateLimited: Too much. Wait. (2026-11-23 12:00:05 UTC)"} if error else {}

    assert describe_status(status) == table("Waiting for the provider", Attempt=words, **last)


def test_failed_run_shows_its_last_error_once() -> None:
    last = failed_attempt(error_type="ContentRefused", message="Refused. Change the prompt.")
    status = RunStatus(
        run_id="image:acme:1", stage="failed", attempts=1, last_error=last, reason=last.message
    )

    assert describe_status(status) == table(
        "Failed",
        Attempt="1 request sent",
        Last_error="ContentRefused: Refused. Change the prompt. (2026-11-23 12:00:05 UTC)",
    )


def test_links_are_shown_for_images_unless_their_number_differs() -> None:
    status = RunStatus(run_id="image:acme:1", stage="completed")
    address = "https://images.example.com/ab.png?expires=1&signature=x"

    assert describe_status(status, [PICTURE], [address]) == table(
        "Completed", Picture=f"[1024x1536 image/png]({address}), 1,234,567 bytes"
    )
    assert PICTURE.uri in describe_status(status, [PICTURE], [address, address])


def test_each_image_has_a_numbered_row_with_an_escaped_uri() -> None:
    odd = PICTURE.model_copy(update={"uri": "file:///a|b.png"})
    status = RunStatus(run_id="image:acme:1", stage="completed")

    assert describe_status(status, [PICTURE, odd]) == table(
        "Completed",
        Picture_1="[1024x1536 image/png](s3://pictures/sha256/ab/ab.png), 1,234,567 bytes",
        Picture_2="[1024x1536 image/png](file:///a%7Cb.png), 1,234,567 bytes",
    )


def test_pending_run_shows_the_reason_and_no_amount() -> None:
    status = RunStatus(
        run_id="image:acme:1",
        stage="completed",
        model="gpt-image-2",
        billing_state="pending",
        reason="No usage.",
        basis="none",
    )

    assert describe_status(status) == table(
        "Completed",
        Reason="No usage.",
        Cost="not known yet",
        Basis="none yet",
        Billing_state="pending",
        Model="gpt-image-2",
    )


@pytest.mark.parametrize(("stage", "shown"), [("generating", True), ("held", True), ("completed", False)])
def test_partial_image_is_shown_until_the_run_completes(stage: Stage, *, shown: bool) -> None:
    partial = PartialImage(attempt_id="att_1", index=1, image=PICTURE)
    status = RunStatus(run_id="image:acme:1", stage=stage, partial_images=(partial,))

    row = table(
        "", Partial_picture_2="[1024x1536 image/png](s3://pictures/sha256/ab/ab.png), 1,234,567 bytes"
    )
    assert (row.splitlines()[-1] in describe_status(status).splitlines()) == shown


def test_held_run_shows_unknown_attempts_and_the_commands_to_decide() -> None:
    sent_at = datetime(2026, 11, 23, tzinfo=UTC)
    lost = UnknownAttempt(
        attempt_id="att_1",
        client_request_id="c1",
        sent_at=sent_at,
        error_type="AnswerLost",
        reserved_usd="0.167630",
    )
    silent = UnknownAttempt(attempt_id="att_2", client_request_id="c2", sent_at=sent_at)
    question = OpenDecision(
        message="2 requests were sent.", attempts=(lost, silent), at_most_usd="0.167630", unpriced=1
    )
    status = RunStatus(
        run_id="image:acme:1", stage="held", model="m", reason=question.message, open_decision=question
    )

    assert describe_status(status).split("\n") == [
        *table("Waiting for a decision", Reason="2 requests were sent.", Model="m").split("\n"),
        "",
        "- att_1, AnswerLost, at most 0.167630 USD; the provider's support knows it as c1",
        "- att_2, no answer, no price known; the provider's support knows it as c2",
        "",
        "**To decide** (or by the Update `decide`):",
        "",
        "- `python starter.py decide image:acme:1 resend --reason TEXT` sends it once more",
        "- `python starter.py decide image:acme:1 give-up --reason TEXT` ends the run as failed",
    ]


def test_text_from_outside_is_not_markdown() -> None:
    words, shown = "[pay here](http://bad)\n# Big | `code`", "(pay here)(http://bad) # Big / 'code'"
    last = failed_attempt(error_type="A|B", message=words)
    status = RunStatus(
        run_id="image:acme:1", stage="failed", reason=f"{words}!", model=words, last_error=last
    )

    assert describe_status(status) == table(
        "Failed",
        Last_error=f"A/B: {shown} (2026-11-23 12:00:05 UTC)",
        Reason=f"{shown}!",
        Model=shown,
    )


def test_summary_of_a_call_has_no_prompt() -> None:
    assert describe_call("gpt-image-2", "edit", None, "low", 2) == (
        "edit 2 pictures with gpt-image-2, size auto, quality low"
    )
