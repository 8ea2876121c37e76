"""Corrections of bills. By our contract gpt-image-1 costs 10 micro-USD for a token in and 40 for one out."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.reports.entries import EntryView, list_entries, total
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.contracts.billing import Cost
from gpt_image_runs.contracts.corrections import Correction, Settlement
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import CorrectionRefused
from tests.support.ledger.ledger_examples import IDENTITY, SENT_AT, identify, make_order, pay_attempt
from tests.support.ledger.priced_bills import bill_run

USAGE = {"input_tokens": 50, "output_tokens": 4160}
"""10 * 50 + 40 * 4160 = 166,900 micro-USD; at list price, all input as text, 5 * 50 + 40 * 4160 = 166,650."""
LARGER = {"input_tokens": 100, "output_tokens": 6240}
"""10 * 100 + 40 * 6240 = 250,600 micro-USD; at list price 250,100."""
RUN_ID = IDENTITY.run_id
OWN_CARD = """
id = "ours-1"
[[prices]]
provider = "*"
models = ["gpt-image-9"]
valid_from = 2026-11-01
source = "a letter"
checked_on = 2026-11-25
usd_per_million = { input = "20.00", output = "50.00" }
[[prices]]
provider = "*"
models = ["gpt-image-9"]
valid_from = 2026-11-24
source = "a letter"
checked_on = 2026-11-25
usd_per_million = { input = "1.00", output = "1.00" }
"""
"""Dearer on the day on which the example was sent than afterwards."""


@pytest.fixture
def own_cards(tmp_path: Path) -> RateCards:
    card = tmp_path / "own.toml"
    card.write_text(OWN_CARD)
    return RateCards.load(card)


def settle(database: Database, order: Correction, cards: RateCards | None = None) -> Settlement:
    return Corrections(database, cards or RateCards.load()).settle(order)


def reconcile(usage: Any, run_id: str = RUN_ID) -> Correction:
    return Correction(
        action="reconcile",
        run_id=run_id,
        usage=usage,
        reason="The provider's answer to ticket 7",
        actor="ada",
    )


def decide(action: Any, run_id: str = RUN_ID) -> Correction:
    return Correction(action=action, run_id=run_id, reason="As agreed", actor="grace")


def entries_of(database: Database, run_id: str = RUN_ID) -> tuple[EntryView, ...]:
    """List the entries of a run, oldest first."""
    return tuple(reversed(list_entries(database, run_id=run_id)))


def hold(database: Database, **details: Any) -> EntryView:
    bill_run(database, usage=None, missing_usage="hold", **details)
    return entries_of(database)[-1]


def check_sound(database: Database) -> None:
    assert list(LedgerVerification(database, lambda *_: None).find()) == []


def test_a_held_run_is_billed_by_its_usage(database: Database) -> None:
    """A held run gets its whole amount as an adjustment that points at the hold and says who, why and by which usage."""
    held = hold(database)

    settlement = settle(database, reconcile(USAGE))

    first, adjustment = entries_of(database)
    assert first == held
    assert (adjustment.kind, adjustment.amount_usd, adjustment.basis) == (
        "adjustment",
        "0.166900",
        "token_usage",
    )
    assert (adjustment.corrects, adjustment.usage) == (held.entry_id, USAGE)
    assert (adjustment.reason, adjustment.actor) == ("The provider's answer to ticket 7", "ada")
    assert adjustment.entry_key == "image:acme:req-1#usage:d4c3600472f498eb"
    assert (adjustment.rate_card, adjustment.rates) == (
        "charge-2026-11-04",
        {"input": "10.00", "output": "40.00"},
    )
    assert [(item.token_class, item.amount_usd) for item in adjustment.line_items] == [
        ("input", "0.000500"),
        ("output", "0.166400"),
    ]
    assert adjustment.list_cost_usd == "0.166650"
    assert (adjustment.attempt_id, adjustment.sent_at, adjustment.images) == (
        held.attempt_id,
        SENT_AT,
        held.images,
    )
    assert settlement == Settlement(
        run_id=RUN_ID,
        outcome="settled",
        state="reconciled",
        total_usd="0.166900",
        difference_usd="0.166900",
        entry_id=adjustment.entry_id,
        corrects=held.entry_id,
        rate_card="charge-2026-11-04",
        reason="The provider's answer to ticket 7",
    )
    state = Ledger(database).state_of(RUN_ID)
    assert state is not None
    assert (state.state, state.entry_id) == ("reconciled", adjustment.entry_id)
    check_sound(database)


@pytest.mark.parametrize(
    ("usage", "difference", "owed"),
    [
        ({"input_tokens": 50, "output_tokens": 4160}, "0.000500", "0.166900"),
        ({"output_tokens": 4160, "input_tokens": None}, "0.000000", "0.166400"),
        ({"input_tokens": 50, "output_tokens": 1056}, "-0.123660", "0.042740"),
    ],
)
def test_an_estimate_is_adjusted_by_the_difference(
    database: Database, usage: Any, difference: str, owed: str
) -> None:
    """Of an estimate of 40 * 4160 micro-USD only the difference is entered: more, nothing, or less than nothing."""
    bill_run(database, usage=None)

    settlement = settle(database, reconcile(usage))

    estimate, adjustment = entries_of(database)
    assert (estimate.kind, estimate.amount_usd) == ("estimate", "0.166400")
    assert (adjustment.amount_usd, settlement.difference_usd, settlement.total_usd) == (
        difference,
        difference,
        owed,
    )
    totals = total(database).real
    assert (totals.charged_usd, totals.estimated_usd, totals.total_usd) == (
        owed,
        "0.000000",
        owed,
    )


def test_the_same_correction_again_finds_its_entry(database: Database) -> None:
    """Neither order of names nor another reason makes a usage another one: it is entered once."""
    hold(database)
    first = settle(database, reconcile(USAGE))

    again = settle(
        database,
        Correction(
            action="reconcile",
            run_id=RUN_ID,
            usage={"output_tokens": 4160, "input_tokens": 50},
            reason="Once more",
            actor="grace",
        ),
    )

    assert again == first.model_copy(update={"outcome": "already_settled"})
    assert len(entries_of(database)) == 2


def test_twenty_at_once_are_one_entry(database: Database) -> None:
    """Twenty threads that settle one run by the same usage write one entry, and all are told of it."""
    hold(database)

    async def settle_together() -> list[Settlement]:
        return await asyncio.gather(
            *(asyncio.to_thread(settle, database, reconcile(USAGE)) for _ in range(20))
        )

    settlements = asyncio.run(settle_together())

    assert len(entries_of(database)) == 2
    assert {settlement.entry_id for settlement in settlements} == {entries_of(database)[1].entry_id}
    assert sorted(settlement.outcome for settlement in settlements) == ["already_settled"] * 19 + ["settled"]
    check_sound(database)


def test_different_usages_at_once_add_up_to_the_last(database: Database) -> None:
    """Ten threads with ten usages: each entry holds the difference to all before it, so that the sum is the last one's cost."""
    hold(database)

    async def settle_together() -> list[Settlement]:
        return await asyncio.gather(
            *(
                asyncio.to_thread(settle, database, reconcile({"output_tokens": 1000 * number}))
                for number in range(1, 11)
            )
        )

    asyncio.run(settle_together())

    entries = entries_of(database)
    assert len(entries) == 11
    assert isinstance(entries[-1].usage, dict)
    tokens = entries[-1].usage["output_tokens"]
    assert isinstance(tokens, int)
    assert total(database).real.charged_usd == f"0.{40 * tokens:06d}"
    assert [entry.corrects for entry in entries[1:]] == [entry.entry_id for entry in entries[:-1]]
    check_sound(database)


def test_another_usage_is_another_adjustment(database: Database) -> None:
    """A later, different usage corrects the correction: 0.166900 and 0.083700 are 0.250600, and the list cost follows."""
    hold(database)
    first = settle(database, reconcile(USAGE))

    second = settle(database, reconcile(LARGER))

    assert (second.difference_usd, second.total_usd, second.corrects) == (
        "0.083700",
        "0.250600",
        first.entry_id,
    )
    totals = total(database).real
    assert (totals.charged_usd, totals.list_cost_usd, totals.list_cost_unknown) == ("0.250600", "0.250100", 0)
    assert (totals.runs, totals.pending) == (1, 0)


def test_a_usage_that_was_corrected_since_says_so(database: Database) -> None:
    """The first of two usages, asked for again, is found, together with the entry that came after it."""
    hold(database)
    first, second = settle(database, reconcile(USAGE)), settle(database, reconcile(LARGER))

    again = settle(database, reconcile(USAGE))

    assert (again.outcome, again.entry_id, again.superseded_by) == (
        "already_settled",
        first.entry_id,
        second.entry_id,
    )
    assert again.total_usd == "0.250600"


def test_charge_is_corrected_by_a_new_usage(database: Database) -> None:
    """A bill by a usage that the provider takes back is corrected like any other."""
    bill_run(database, usage=LARGER)

    settlement = settle(database, reconcile(USAGE))

    assert (settlement.difference_usd, settlement.total_usd) == ("-0.083700", "0.166900")


def test_prices_are_those_of_the_day_of_sending(database: Database, own_cards: RateCards) -> None:
    """A run sent on 23 November is settled two days later at that day's prices, 20 and 50, though they fell on the 24th."""
    hold(database, model="gpt-image-9")
    later = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)

    settlement = Corrections(database, own_cards, clock=lambda: later).settle(reconcile(USAGE))

    assert settlement.total_usd == "0.209000"
    assert entries_of(database)[1].created_at == later


def test_held_usage_is_billed_once_a_card_has_a_price(database: Database, own_cards: RateCards) -> None:
    """A model without a price is billed by its kept usage once a card has one, and the card is part of the entry's key."""
    bill_run(database, model="gpt-image-9")
    (held,) = entries_of(database)
    assert (held.kind, held.usage) == ("hold", USAGE)

    unpriced = settle(database, decide("reprice"))
    assert (unpriced.outcome, unpriced.state, unpriced.total_usd) == ("pending", "pending", None)
    assert unpriced.reason == "No price is known for model gpt-image-9 at provider openai on 2026-11-23."
    assert entries_of(database) == (held,)

    priced = settle(database, decide("reprice"), own_cards)
    again = settle(database, decide("reprice"))

    _, adjustment = entries_of(database)
    assert (adjustment.amount_usd, adjustment.usage, adjustment.actor) == ("0.209000", USAGE, "grace")
    assert own_cards.own_card is not None
    assert adjustment.entry_key == f"{RUN_ID}#reprice:{own_cards.own_card.id}"
    assert (priced.outcome, again.outcome, again.entry_id) == ("settled", "already_settled", priced.entry_id)
    totals = total(database).real
    assert (totals.charged_usd, totals.pending, totals.list_cost_unknown) == ("0.209000", 0, 1)
    check_sound(database)


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        ({"input_tokens": -1}, "usage.input_tokens is -1: a token count has to be a whole number"),
        ({"rounds": 3}, "usage names neither input_tokens nor output_tokens."),
        ([[["deep"]]] * 2, "usage is a list of 2: it has to be an object."),
    ],
)
def test_a_kept_usage_that_cannot_be_priced_stays_pending(
    database: Database, usage: Any, reason: str
) -> None:
    """Repricing does not bill what is no usage: the run waits on, and why is said."""
    bill_run(database, usage=usage, missing_usage="hold")

    settlement = settle(database, decide("reprice"))

    assert settlement.outcome == "pending"
    assert (settlement.reason or "").startswith(reason)
    assert len(entries_of(database)) == 1


def test_a_usage_nested_without_measure_stays_pending(database: Database) -> None:
    """Repricing a usage that a provider has nested 150 levels deep ends with a sentence."""
    nested: Any = 1
    for _ in range(150):
        nested = [nested]
    usage = {"input_tokens": 1, "output_tokens": 1, "extra": nested}
    attempt = pay_attempt(database, response={"usage": usage})
    Ledger(database).record(make_order(attempt, Cost(basis="none", reason="It is too deep.")))

    assert settle(database, decide("reprice")).reason == "usage has more than 100 levels."


def test_a_reversal_takes_everything_back(database: Database) -> None:
    """After a charge and an adjustment the reversal holds minus their sum, once, and the run owes nothing."""
    bill_run(database, usage=USAGE)
    adjusted = settle(database, reconcile(LARGER))

    reversed_once = settle(database, decide("reverse"))
    again = settle(database, decide("reverse"))

    reversal = entries_of(database)[-1]
    assert (reversal.kind, reversal.amount_usd, reversal.corrects) == (
        "reversal",
        "-0.250600",
        adjusted.entry_id,
    )
    assert (reversal.reason, reversal.actor, reversal.usage, reversal.line_items) == (
        "As agreed",
        "grace",
        None,
        (),
    )
    assert reversal.entry_key == f"{RUN_ID}#reversal"
    assert (reversed_once.total_usd, again.outcome, again.entry_id) == (
        "0.000000",
        "already_settled",
        reversed_once.entry_id,
    )
    totals = total(database).real
    assert (totals.charged_usd, totals.list_cost_usd) == ("0.000000", "0.000000")
    assert len(entries_of(database)) == 3
    check_sound(database)


def test_a_hold_is_written_off(database: Database) -> None:
    """The reversal of a run that never had an amount is zero, and the run waits no more."""
    hold(database)

    settlement = settle(database, decide("reverse"))

    assert (settlement.difference_usd, settlement.total_usd) == ("0.000000", "0.000000")
    totals = total(database).real
    assert (totals.pending, totals.list_cost_unknown) == (0, 0)


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (reconcile(USAGE, "image:acme:nobody"), "has no entry in the ledger"),
        (
            reconcile({"input_tokens": 1.5}),
            "usage.input_tokens is 1.5: a token count has to be a whole number",
        ),
        (reconcile({"input_tokens": True}), "usage.input_tokens is true"),
        (reconcile({"output_tokens": 10**12 + 1}), "usage.output_tokens is 1000000000001"),
        (reconcile({}), "usage names neither input_tokens nor output_tokens"),
        (reconcile("4160"), "it has to be an object"),
        (decide("reprice"), "It has no usage that could be priced"),
        (decide("reverse", "image:acme:nobody"), "has no entry in the ledger"),
    ],
)
def test_correction_without_bill_or_valid_usage_is_refused(
    database: Database, order: Correction, why: str
) -> None:
    """A run without entries, a malformed usage and a reprice without usage are refused with a sentence; nothing is written."""
    held = hold(database)

    with pytest.raises(CorrectionRefused, match=why.replace(".", r"\.")) as refused:
        settle(database, order)

    assert "othing was written" in str(refused.value)
    assert entries_of(database) == (held,)


def test_a_usage_without_a_price_is_refused(database: Database) -> None:
    """Reconciling a model that no card has a price for writes nothing and says what to add."""
    hold(database, model="gpt-image-9")

    with pytest.raises(CorrectionRefused) as refused:
        settle(database, reconcile(USAGE))

    assert str(refused.value) == (
        "The run image:acme:req-1 is not reconciled, nothing was written: No price is known for model gpt-image-9 at"
        " provider openai on 2026-11-23. Add it to the RATE_CARD of the worker, and reconcile again."
    )
    assert len(entries_of(database)) == 1


@pytest.mark.parametrize("order", [reconcile(USAGE), decide("reprice")])
def test_reversed_run_is_not_corrected_again(database: Database, order: Correction) -> None:
    """After a reversal a run is neither reconciled nor repriced."""
    hold(database)
    settle(database, decide("reverse"))

    with pytest.raises(CorrectionRefused, match="It was reversed by entry ent_"):
        settle(database, order)

    assert len(entries_of(database)) == 2


def test_run_with_an_amount_is_not_repriced(database: Database) -> None:
    """A charge is not repriced, whatever the cards say now."""
    bill_run(database)

    with pytest.raises(
        CorrectionRefused, match=r"It does not wait for a price: entry ent_[0-9a-f]+ is its charge"
    ):
        settle(database, decide("reprice"))

    assert len(entries_of(database)) == 1


def test_a_correction_concerns_its_run_alone(database: Database) -> None:
    """Settling one run leaves another on hold, and both tenants' chains hold."""
    hold(database)
    bill_run(database, identify("zoo", "req-1"), usage=None, missing_usage="hold")

    settle(database, reconcile(USAGE))

    state = Ledger(database).state_of("image:zoo:req-1")
    assert state is not None
    assert state.state == "pending"
    check_sound(database)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (
            {"usage": {"input_tokens": 0, "output_tokens": 0}},
            "usage.input_tokens is 0 and usage.output_tokens is 0, although a picture was delivered",
        ),
        ({"usage": {"input_tokens": 9, "completion_tokens": 4160}}, "usage.completion_tokens is 4,160"),
        ({"usage": USAGE, "svg_usage": {"output_tokens": 900}}, "svg_usage.output_tokens is 900"),
    ],
)
def test_a_reprice_leaves_a_usage_that_was_held_as_it_is(
    database: Database, response: Any, reason: str
) -> None:
    """What a bill leaves out is no matter of prices: the run waits on until somebody says what was used."""
    hold_for_usage = Cost(basis="none", reason=reason)
    Ledger(database).record(make_order(pay_attempt(database, response=response), hold_for_usage))

    settlement = settle(database, decide("reprice"))

    assert (settlement.outcome, settlement.total_usd) == ("pending", None)
    assert (settlement.reason or "").startswith(reason)
    assert settle(database, reconcile(USAGE)).total_usd == "0.166900"
    check_sound(database)


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 0, "output_tokens": 0},
        {"input_tokens": 50, "output_tokens": 0},
        {"input_tokens": 9, "completion_tokens": 4160},
    ],
)
def test_a_usage_that_would_be_held_does_not_reconcile(database: Database, usage: Any) -> None:
    hold(database)

    with pytest.raises(CorrectionRefused, match=r"is not reconciled, nothing was written: usage\."):
        settle(database, reconcile(usage))
