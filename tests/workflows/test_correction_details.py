"""What an operator reads of a correction."""

from gpt_image_runs.contracts.corrections import Correction, Settlement
from workflows.reconciliation import describe_correction, describe_end, describe_settlement

CORRECTION = Correction(
    action="reverse", run_id="image:acme:req-1", reason="| see [this](http://x)", actor="ada\nlovelace"
)


def test_a_settled_run() -> None:
    """The outcome, both amounts and the state are one line; who decided it and why follows, without links of others."""
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


def test_a_run_that_waits_on() -> None:
    """What is still missing is said, and no amount is shown."""
    settlement = Settlement(
        run_id="image:acme:req-1", outcome="pending", state="pending", total_usd=None, reason="No price."
    )

    assert describe_settlement(CORRECTION, settlement) == (
        "**Still pending: nothing was written** · pending\n\n"
        "reverse image:acme:req-1 by ada lovelace: / see (this)(http://x)\n\n"
        "**Reason:** No price."
    )


def test_a_correction_that_was_corrected() -> None:
    """An older correction that is asked for again names the entry that counts."""
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


def test_lines_for_the_timeline() -> None:
    """A summary is one line, and a refusal says that nothing was written."""
    assert describe_correction(CORRECTION) == "reverse image:acme:req-1 by ada lovelace"
    assert describe_end("No.\nReally") == "**Refused: nothing was written**\n\n**Reason:** No. Really"
