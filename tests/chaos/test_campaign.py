"""A short campaign: everything dies once, nothing is lost. `make chaos` is the long one."""

import asyncio
from pathlib import Path

from tests.chaos.audit import completed_runs, find_violations
from tests.chaos.campaign import Campaign
from tests.chaos.figures import list_figures
from tests.chaos.opening import open_site
from tests.chaos.plan import Numbers, make_plan
from tests.chaos.tampering import tamper_with_copy

WORST_WAIT_SECONDS = 240
SHORT = Numbers(
    runs=40,
    worker_kills=0,  # the one that comes with the second outage is enough: each costs half a minute
    worker_stops=1,
    temporal_kills=1,
    temporal_stops=0,
    ledger_outages=1,
    store_outages=1,
    repeats=4,
    outage_seconds=2.0,
    races=2,
)
# Alterations that are tried; tests/billing/verification tries all of them.
ALTERATIONS = 20
# One whose worker is killed early, so that the half minute until it is missed overlaps with the rest.
SEED = 12


async def test_short_campaign_keeps_every_promise(tmp_path: Path) -> None:
    """Forty runs with faults, two dead workers, a dead Temporal server, a ledger and a store that are away: each run has one
    end, each payment is billed once or listed as unknown, and every promised picture is there."""
    plan = make_plan(SEED, SHORT)
    async with open_site(tmp_path, ledger_kind="postgresql", skews=plan.skews) as site:
        campaign = Campaign(plan, site, lambda _: None)
        evidence = await campaign.carry_out(seconds=WORST_WAIT_SECONDS)
        tampering = await asyncio.to_thread(
            tamper_with_copy,
            await asyncio.to_thread(site.ledger.copy),
            SEED,
            rows_of_each=1,
            most=ALTERATIONS,
        )

    assert find_violations(plan, evidence) == []
    assert campaign.progress.happened == {
        "worker SIGKILL": 1,
        "worker SIGTERM": 1,
        "Temporal SIGKILL": 1,
        "ledger away": 1,
        "store away": 1,
        "again": 4,
        "race": 2,
    }
    figures = dict(list_figures(plan, evidence, {}, {}))
    assert figures["lost"] == "0"
    assert len(completed_runs(evidence)) >= 30
    assert len(evidence.attempts) > 40
    assert sum(evidence.resends.values()) >= 1
    assert len(evidence.answers) >= 2 * 6
    assert ": 0 of" not in figures["clocks"]
    assert tampering.find_violations() == []
    assert tampering.tried == ALTERATIONS
