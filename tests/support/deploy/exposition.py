"""What a worker shows to Prometheus: scraped from the real thing after runs of every kind. No test here."""

import contextlib
import re
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from temporalio.client import ActivityFailureError, WorkflowFailureError
from temporalio.common import RetryPolicy

from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.budgets import BudgetDecision
from gpt_image_runs.local_stack.processes import choose_port
from tests.support.ledger.ledger_examples import HOLD, identify, make_order, pay_attempt
from tests.support.servers.webhook_receiver import SECRET, Receiver, run_receiver
from tests.support.servers.worker_site import Site, open_site, until

_LINE = re.compile(r"(?P<name>[a-z_:]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
_SDK_OWN = {"service_name", "le"}


class Sample(NamedTuple):
    """One line of the exposition."""

    name: str
    labels: dict[str, str]
    value: float


class Exposition:
    """Everything that a worker shows at one moment."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [*_read_samples(text)]

    def find(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Find a metric's values above zero with these labels, by the values of its other labels in order."""
        return {
            tuple(
                value
                for label, value in sorted(sample.labels.items())
                if label not in labels.keys() | _SDK_OWN
            ): sample.value
            for sample in self.samples
            if sample.name == name and sample.value and labels.items() <= sample.labels.items()
        }


def _read_samples(text: str) -> Iterator[Sample]:
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found:
            yield Sample(found["name"], dict(_LABEL.findall(found["labels"] or "")), float(found["value"]))


def scrape(address: str) -> Exposition:
    """Scrape a worker as Prometheus does."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return Exposition(answer.read().decode())


async def show_runs(folder: Path) -> Exposition:
    """What a worker shows after a run that succeeded, one whose answer was lost first, one that was refused, one without usage, a bill
    that was on hold before it began, a tenant near its budget, two notifications of which one was rejected, and a workflow and an
    activity that are defects.
    """
    async with run_receiver() as receiver, open_site(folder) as site:
        address = f"127.0.0.1:{choose_port()}"  # only now: Temporal and the simulator have theirs
        _hold_a_bill(site)
        site.simulator.script("reset_after_payment", match="lost once")
        site.simulator.script("moderation_blocked", match="refused")
        site.simulator.script("missing_usage", match="no usage")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("METRICS_ADDRESS", address)
            patch.setenv("NOTIFY_HOSTS", receiver.host)
            patch.setenv("NOTIFY_SECRETS", SECRET)
            patch.setenv("NOTIFY_LOOPBACK", "true")
            await site.start_worker()
        for name in ("plain", "lost once", "refused", "no usage"):
            run = await site.start_run(name.replace(" ", "-"), name, model="gpt-image-1")
            with contextlib.suppress(WorkflowFailureError):
                await run.result()
        run = await site.start_run("unheard-of", model="my-own-image-model")
        with contextlib.suppress(WorkflowFailureError):
            await run.result()
        await _tell_of_refused_runs(site, receiver)
        await _fail_in_every_way(site)
        await until(lambda: "temporal_workflow_task_execution_failed_total" in scrape(address).text)
        await until(lambda: _has_told(scrape(address)))
        return scrape(address)


async def _tell_of_refused_runs(site: Site, receiver: Receiver) -> None:
    """Run two refused runs: the receiver rejects the first notification and takes the second. Nothing is sent to the provider."""
    receiver.answers.append(404)
    for name in ("told-in-vain", "told"):
        run = await site.start_run(name, n=11, notify=receiver.url)
        with contextlib.suppress(WorkflowFailureError):
            await run.result()


def _has_told(shown: Exposition) -> bool:
    ended = ("temporal_workflow_failed_total", "temporal_workflow_completed_total")
    return all(shown.find(metric, workflow_type=names.NOTIFICATION) for metric in ended)


def _hold_a_bill(site: Site) -> None:
    paid = pay_attempt(site.database, identify("acme", "held-before"))
    Ledger(site.database).record(make_order(paid, HOLD))
    decision: dict[str, Any] = {"tenant": "acme", "limits": {"month": "0.00"}, "reason": "a", "actor": "ada"}
    Budgets(site.database).decide("first", BudgetDecision.model_validate(decision))


async def _fail_in_every_way(site: Site) -> None:
    """Cause what only a defect causes: an unknown workflow and an activity with invalid input."""
    await site.client.start_workflow("Unheard", id="unheard", task_queue=names.RUNS_QUEUE)
    with contextlib.suppress(ActivityFailureError):
        await site.client.execute_activity(
            names.RECORD_BILLING,
            "nonsense",
            id="nonsense",
            task_queue=names.RUNS_QUEUE,
            start_to_close_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
