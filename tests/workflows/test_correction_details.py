"""The Web UI page of a correction."""

from gpt_image_runs.contracts.corrections import Correction, Settlement
from workflows.reconciliation import describe_correction, describe_end, describe_settlement

CORRECTION = Correction(
    action="reverse", run_id="image:acme:req-1", reason="| see [this](http://x)", actor="ada\nlovelace"
)


def test_settled_correction_shows_amounts_actor_and_reason_without_links() -> None:
    settlement = Settlement(
        run_id="image:acme:req-1",
        outcome="settled",
        state="reconciled",
        total_usd="0.000000",
        difference_usd="-0.166900",
        entry_id="ent_2",
        corrects="ent_1",
    )

    assert describe_settlement(CORRECTION, settlement) == (
        "**Settled** · total 0.000000 USD · difference -0.166900 USD · reconciled\n\n"
        "reverse image:acme:req-1 by ada lovelace: / see (this)(http://x)"
    )


def test_pending_correction_shows_the_reason_and_no_amount() -> None:
    settlement = Settlement(
        run_id="image:acme:req-1", outcome="pending", state="pending", total_usd=None, reason="No price."
    )

    assert describe_settlement(CORRECTION, settlement) == (
        "**Still pending: nothing was written** · pending\n\n"
        "reverse image:acme:req-1 by ada lovelace: / see (this)(http://x)\n\n"
        "**Reason:** No price."
    )


def test_superseded_correction_names_the_entry_that_counts() -> None:
    settlement = Settlement(
        run_id="image:acme:req-1",
        outcome="already_settled",
        state="reconciled",
        total_usd="0.250600",
        difference_usd="0.166900",
        entry_id="ent_2",
        superseded_by="ent_3",
    )

    assert describe_settlement(CORRECTION, settlement).endswith(
        "\n\n**Note:** corrected again since, by entry ent_3"
    )


def test_summary_and_refusal_are_one_line() -> None:
    assert describe_correction(CORRECTION) == "reverse image:acme:req-1 by ada lovelace"
    assert describe_end("No.\nReally") == "**Refused: nothing was written**\n\n**Reason:** No. Really"
