"""Runs that wait are settled later, once: by a workflow that anybody can see, on both ledgers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError

from gpt_image_runs.billing.reports.entries import total
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.corrections import Settlement
from simulator.models import MODELS
from tests.support.runs.correction_runs import (
    USAGE,
    describe_reconciliation,
    run_without_usage,
    settle,
    start_correction,
    state_of,
)
from tests.support.servers.stack import CONTRACT, Stack, new_run_id, run_stack

pytestmark = pytest.mark.asyncio(loop_scope="session")

OWN_CARD = """
id = "ours-1"
[[prices]]
provider = "*"
models = ["gpt-image-9"]
valid_from = 2025-01-01
source = "a letter"
checked_on = 2026-11-23
usd_per_million = { input = "20.00", output = "50.00" }
"""


async def fail(stack: Stack, correction: object, workflow_id: str) -> ApplicationError:
    """Run a correction that must fail, and return its error."""
    handle = await start_correction(stack, correction, workflow_id)
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()
    cause = raised.value.cause
    assert isinstance(cause, ApplicationError), cause
    return cause


async def test_held_run_is_reconciled_at_its_usage(any_stack: Stack) -> None:
    """A held run becomes reconciled at the exact amount of its usage, by an entry that points at the hold."""
    tenant = f"held-{any_stack.database.dialect}"
    run_id = await run_without_usage(any_stack, tenant=tenant)
    assert state_of(any_stack, run_id) == "pending"

    settlement = await settle(any_stack, describe_reconciliation(run_id))

    hold, adjustment = any_stack.entries(run_id)
    assert (hold.kind, adjustment.kind, adjustment.corrects) == ("hold", "adjustment", hold.entry_id)
    assert (adjustment.amount_usd, adjustment.usage, adjustment.actor) == ("0.166900", USAGE, "ada")
    assert (settlement.outcome, settlement.entry_id) == ("settled", adjustment.entry_id)
    assert state_of(any_stack, run_id) == "reconciled"
    totals = total(any_stack.database, tenant=tenant).simulated
    assert (totals.charged_usd, totals.total_usd, totals.pending) == ("0.166900", "0.166900", 0)


async def test_estimate_is_adjusted_by_the_difference(any_stack: Stack) -> None:
    """An estimate of 0.166400 whose usage comes to 0.166900 gets an adjustment of 0.000500; confirmed again, nothing more."""
    tenant = f"estimated-{any_stack.database.dialect}"
    run_id = await run_without_usage(any_stack, missing_usage="estimate", tenant=tenant)

    first = await settle(any_stack, describe_reconciliation(run_id))
    second = await settle(any_stack, describe_reconciliation(run_id))

    assert (first.difference_usd, first.total_usd) == ("0.000500", "0.166900")
    assert second == first.model_copy(update={"outcome": "already_settled"})
    assert len(any_stack.entries(run_id)) == 2
    totals = total(any_stack.database, tenant=tenant).simulated
    assert (totals.charged_usd, totals.estimated_usd) == ("0.166900", "0.000000")


async def test_same_correction_under_twenty_ids_is_one_entry(any_stack: Stack) -> None:
    """The same correction under twenty ids at once, from anybody who does not know of the others, is one entry."""
    run_id = await run_without_usage(any_stack)

    settlements = await asyncio.gather(
        *(settle(any_stack, describe_reconciliation(run_id)) for _ in range(20))
    )

    assert len(any_stack.entries(run_id)) == 2
    assert {settlement.entry_id for settlement in settlements} == {any_stack.entries(run_id)[1].entry_id}
    assert sum(settlement.outcome == "settled" for settlement in settlements) == 1


async def test_unpriced_usage_is_billed_after_a_rate_card_is_added(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model without a price is held with its usage; after a rate card of our own is there, reprice bills it by that card."""
    monkeypatch.setitem(MODELS, "gpt-image-9", MODELS["gpt-image-1"])
    result = await stack.run({**CONTRACT, "model": "gpt-image-9"})
    reprice = {
        "action": "reprice",
        "run_id": result.run_id,
        "reason": "The price came by letter.",
        "actor": "ada",
    }
    card = tmp_path / "own.toml"
    card.write_text(OWN_CARD)

    waiting = await settle(stack, reprice)
    async with run_stack(
        stack.settings.ledger_url(), stack.settings.store_url(), rate_card=card
    ) as with_own_card:
        priced = await settle(with_own_card, reprice)

    assert (waiting.outcome, waiting.state) == ("pending", "pending")
    assert (waiting.reason or "").startswith("No price is known for model gpt-image-9")
    hold, adjustment = stack.entries(result.run_id)
    assert isinstance(hold.usage, dict)
    counts = hold.usage["input_tokens"], hold.usage["output_tokens"]
    assert counts == (23, 4160)
    assert (priced.outcome, priced.total_usd) == ("settled", "0.208460")
    assert (adjustment.usage, adjustment.rate_card) == (hold.usage, priced.rate_card)
    assert adjustment.entry_key == f"{result.run_id}#reprice:{priced.rate_card}"
    assert (priced.rate_card or "").startswith("ours-1+")


async def test_reversed_charge_owes_nothing_and_stays(stack: Stack) -> None:
    """A charge that is reversed owes nothing; the charge stays, and says what it said."""
    result = await stack.run(CONTRACT)
    (charge,) = stack.entries(result.run_id)

    settlement = await settle(
        stack, {"action": "reverse", "run_id": result.run_id, "reason": "A gift", "actor": "grace"}
    )

    kept, reversal = stack.entries(result.run_id)
    assert kept == charge
    assert (reversal.kind, reversal.amount_usd) == ("reversal", f"-{charge.amount_usd}")
    assert (settlement.total_usd, state_of(stack, result.run_id)) == ("0.000000", "reconciled")


async def test_correction_of_unknown_run_or_malformed_usage_is_not_retried(stack: Stack) -> None:
    """A correction of a run that is not in the ledger, or by a malformed usage, is refused and not tried again."""
    run_id = await run_without_usage(stack)

    unknown = await fail(stack, describe_reconciliation("image:acme:nobody"), "reconcile:image:acme:nobody:1")
    malformed = await fail(
        stack, describe_reconciliation(run_id, {"input_tokens": -1}), f"reconcile:{run_id}:1"
    )

    assert (unknown.type, malformed.type) == (names.CORRECTION_REFUSED, names.CORRECTION_REFUSED)
    assert "has no entry in the ledger" in unknown.message
    assert "usage.input_tokens is -1" in malformed.message
    assert len(stack.entries(run_id)) == 1


@pytest.mark.parametrize("correction", [None, "reconcile", {"action": "forgive"}, {"usage": "0x"}])
async def test_correction_workflow_with_invalid_input_is_refused(stack: Stack, correction: object) -> None:
    """A workflow that was started with something else than a correction ends as refused, and says what is allowed."""
    failure = await fail(stack, correction, f"reconcile:wrong-{new_run_id()}")

    assert failure.type == names.REQUEST_REFUSED
    assert failure.message.startswith(("The correction is ", "action is "))


async def test_correction_shows_who_what_and_why_in_the_web_ui(stack: Stack) -> None:
    """A correction is found by tenant and billing state, and its page says what, who, why and how much."""
    run_id = await run_without_usage(stack)
    handle = await start_correction(stack, describe_reconciliation(run_id), f"reconcile:{run_id}:seen")
    await handle.result()

    described = await handle.describe()
    assert described.typed_search_attributes.get(names.TENANT) == "default"
    assert described.typed_search_attributes.get(names.BILLING_STATE) == "reconciled"
    metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    details = metadata.current_details
    assert details == (
        "**Settled** · total 0.166900 USD · difference 0.166900 USD · reconciled\n\n"
        f"reconcile {run_id} by ada: The provider's answer to ticket 7"
    )
    events = await stack.events(handle.id)
    assert len(events) <= 15
    assert sum(event.ByteSize() for event in events) <= 6_000


async def test_cancelled_correction_completes_with_its_entry(stack: Stack) -> None:
    """A correction that is cancelled while the ledger is busy completes all the same, with the entry that it wrote."""
    run_id = await run_without_usage(stack)
    with stack.database.writing():  # whoever else wants to write waits
        handle = await start_correction(stack, describe_reconciliation(run_id), f"reconcile:{run_id}:late")
        while not await has_started(handle):
            await asyncio.sleep(0.05)
        await handle.cancel()

    settlement = Settlement.model_validate(await handle.result())

    assert settlement.entry_id == stack.entries(run_id)[1].entry_id
    assert settlement.outcome == "settled"


async def has_started(handle: WorkflowHandle[Any, Any]) -> bool:
    """Return whether the activity has been started."""
    pending = (await handle.describe()).raw_description.pending_activities
    return any(activity.attempt and activity.last_started_time.seconds for activity in pending)
