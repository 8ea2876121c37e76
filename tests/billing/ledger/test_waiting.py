"""Which runs wait for somebody, and since when."""

from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.ledger.queries import list_waiting
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts.corrections import Correction
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import identify
from tests.support.ledger.priced_bills import USAGE, bill_run


def fill(database: Database) -> None:
    """Bill a charge, two holds without usage (one settled), an estimate, and another tenant's hold without a price."""
    bill_run(database, identify("acme", "charged"))
    bill_run(database, identify("acme", "held"), usage=None, missing_usage="hold")
    bill_run(database, identify("acme", "estimated"), usage=None)
    bill_run(database, identify("zoo", "unpriced"), model="gpt-image-9")
    bill_run(database, identify("acme", "settled"), usage=None, missing_usage="hold")
    Corrections(database, RateCards.load()).settle(
        Correction(
            action="reconcile", run_id="image:acme:settled", usage={**USAGE}, reason="told", actor="ada"
        )
    )


def test_waiting_list_has_unsettled_holds_oldest_first(database: Database) -> None:
    """Holds that nobody has settled are listed, the oldest first, with what they wait for."""
    fill(database)

    held, unpriced = list_waiting(database)

    assert (held.run_id, held.state, held.amount_usd) == ("image:acme:held", "pending", None)
    assert (held.usage_is_kept, unpriced.usage_is_kept) == (False, True)
    assert held.reason is not None
    assert held.reason.startswith("The provider returned no usage")
    assert (unpriced.run_id, unpriced.model) == ("image:zoo:unpriced", "gpt-image-9")
    assert unpriced.reason == "No price is known for model gpt-image-9 at provider openai on 2026-11-23."
    assert held.waiting_since <= unpriced.waiting_since


def test_waiting_list_has_estimates_where_asked_for(database: Database) -> None:
    """With `estimates` a bill by estimate is listed with its amount, 40 * 4160 micro-USD."""
    fill(database)

    runs = list_waiting(database, estimates=True)

    assert [(run.run_id, run.state, run.amount_usd) for run in runs] == [
        ("image:acme:held", "pending", None),
        ("image:acme:estimated", "estimated", "0.166400"),
        ("image:zoo:unpriced", "pending", None),
    ]


def test_waiting_list_is_filtered_by_tenant_and_limit(database: Database) -> None:
    """A tenant sees its own, and a limit keeps the oldest."""
    fill(database)

    assert [run.run_id for run in list_waiting(database, tenant="zoo")] == ["image:zoo:unpriced"]
    assert [run.run_id for run in list_waiting(database, limit=1)] == ["image:acme:held"]
    assert list_waiting(database, tenant="nobody") == ()
