"""What an operator reads at the top of a run's page."""

from datetime import UTC, datetime

import pytest

from contracts.decisions import OpenDecision, UnknownAttempt
from contracts.images import ImageRef, PartialImage
from contracts.result import RunStatus, Stage
from workflows.details import describe_call, describe_status

PICTURE = ImageRef(
    uri="s3://pictures/sha256/ab/ab.png",
    sha256="ab" * 32,
    media_type="image/png",
    bytes=1_234_567,
    width=1024,
    height=1536,
)


def test_a_finished_run() -> None:
    """A finished run tells its stage, its cost and what that rests on, its billing state, how many requests it took and its
    model in one line, and links its pictures.
    """
    status = RunStatus(
        run_id="image:acme:1",
        stage="completed",
        model="gpt-image-2",
        billing_state="billed",
        cost_usd="0.041200",
    )

    assert describe_status(status, [PICTURE], attempts=2, basis="token_usage") == (
        "**Completed** · 0.041200 USD by the provider's token counts · billed · 2 requests sent · gpt-image-2\n\n"
        "- [1024x1536 image/png](s3://pictures/sha256/ab/ab.png), 1,234,567 bytes"
    )


def test_pictures_that_a_browser_can_show() -> None:
    """Where there are links the pictures are shown by them; links of another number belong to nothing, and are left out."""
    status = RunStatus(run_id="image:acme:1", stage="completed")
    address = "https://images.example.com/ab.png?expires=1&signature=x"

    assert f"- [1024x1536 image/png]({address}), 1,234,567 bytes" in describe_status(
        status, [PICTURE], [address]
    )
    assert PICTURE.uri in describe_status(status, [PICTURE], [address, address])


def test_a_run_without_an_amount_shows_none() -> None:
    """A run whose cost is not known shows no amount, and the reason: never a zero."""
    status = RunStatus(
        run_id="image:acme:1",
        stage="completed",
        model="gpt-image-2",
        billing_state="pending",
        reason="No usage.",
    )

    assert describe_status(status) == "**Completed** · pending · gpt-image-2\n\n**Reason:** No usage."


@pytest.mark.parametrize(("stage", "shown"), [("generating", True), ("held", True), ("completed", False)])
def test_partial_pictures_until_there_is_a_finished_one(stage: Stage, *, shown: bool) -> None:
    """What was drawn so far is linked while there is nothing better, and not beside the result."""
    partial = PartialImage(attempt_id="att_1", index=1, image=PICTURE)
    status = RunStatus(run_id="image:acme:1", stage=stage, partial_images=(partial,))

    line = "- partial picture 2: [1024x1536 image/png](s3://pictures/sha256/ab/ab.png)"
    assert (line in describe_status(status)) == shown


def test_a_held_run() -> None:
    """A held run tells what may have been paid for, an attempt a line, and the two commands that decide."""
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
        "**Waiting for a decision** · m",
        "",
        "**Reason:** 2 requests were sent.",
        "",
        "- att_1, AnswerLost, at most 0.167630 USD; the provider's support knows it as c1",
        "- att_2, no answer, no price known; the provider's support knows it as c2",
        "",
        "**To decide** (or by the Update `decide`):",
        "",
        "- `python starter.py decide image:acme:1 resend --reason TEXT` sends it once more",
        "- `python starter.py decide image:acme:1 give-up --reason TEXT` ends the run as failed",
    ]


def test_words_from_outside_stay_words() -> None:
    """A provider's message cannot put links, tables or headings of its own onto the page."""
    status = RunStatus(run_id="image:acme:1", stage="failed", reason="[pay here](http://bad)\n# Big | `code`")

    assert describe_status(status).endswith("**Reason:** (pay here)(http://bad) # Big / 'code'")


def test_a_call_is_told_without_its_prompt() -> None:
    """The timeline says what is asked of which model."""
    assert describe_call("gpt-image-2", "edit", None, "low", 2) == (
        "edit 2 pictures with gpt-image-2, size auto, quality low"
    )
