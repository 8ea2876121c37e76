"""Builds of the worker, against a real server: a run ends on the build that it began on, and new runs go to the current one."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.notifications import event_id_for, notification_id_for
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.local_stack.temporal_server import find_temporal_binary
from gpt_image_runs.settings import Settings, SettingsError
from gpt_image_runs.temporal.versioning import describe_build, explain_idleness, read_current_build
from tests.support.runs.batch_runs import start_site_batch
from tests.support.runs.run_states import decide, until_held
from tests.support.servers.webhook_receiver import SECRET, run_receiver
from tests.support.servers.worker_site import WORST_WAIT_SECONDS, Site, open_site, until

DEPLOYMENT = "image-runs"


async def make_current(site: Site, build: str) -> None:
    """Make a build current, as an operator does. Repeats until the server knows the build."""
    target = ["--deployment-name", DEPLOYMENT, *(("--build-id", build) if build else ("--unversioned",))]
    address = site.client.service_client.config.target_host
    command = [str(find_temporal_binary()), *("worker", "deployment", "set-current-version"), *target]
    async with asyncio.timeout(WORST_WAIT_SECONDS):
        while await read_build_patiently(site) != (build or None):
            await asyncio.to_thread(
                subprocess.run, [*command, "--address", address, "--yes"], capture_output=True, check=False
            )


async def read_build_patiently(site: Site) -> str | None:
    """Read the current build. The server allows only so many requests about a deployment at once."""
    while True:
        try:
            return await read_current_build(site.client, DEPLOYMENT)
        except RPCError as error:
            if error.status != RPCStatusCode.RESOURCE_EXHAUSTED:
                raise
        await asyncio.sleep(0.2)


async def read_build(run: WorkflowHandle[Any, Any]) -> str:
    """Read the build of a workflow's latest run."""
    described = await run.describe()
    return described.raw_description.workflow_execution_info.versioning_info.deployment_version.build_id


async def until_on(build: str, run: WorkflowHandle[Any, Any]) -> None:
    """Wait for a workflow's first task: before it the workflow has no build."""
    async with asyncio.timeout(WORST_WAIT_SECONDS):
        while await read_build(run) != build:
            await asyncio.sleep(0.05)


async def list_processes(run: WorkflowHandle[Any, Any]) -> set[int]:
    """List the processes that ran the regular activities of a run."""
    return {
        int(event.activity_task_started_event_attributes.identity.partition("@")[0])
        for event in (await run.fetch_history()).events
        if event.HasField("activity_task_started_event_attributes")
    }


async def start_until_on(site: Site, build: str, **options: Any) -> WorkflowHandle[Any, Any]:
    """Start runs until one ends on a build: the server's queues learn of the current build one by one."""
    async with asyncio.timeout(WORST_WAIT_SECONDS):
        for number in range(1_000):
            run = await site.start_run(f"new-{build}-{number}", **options)
            await run.result()
            if await read_build(run) == build:
                return run
    raise AssertionError


async def test_run_ends_on_the_build_that_it_began_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Build 1, in two fleets, is followed by build 2. What began on 1 ends there, its calls to the provider too, while new runs
    go to 2. A batch changes over where it goes on in a new run.
    """
    monkeypatch.setenv("WORKER_DEPLOYMENT_NAME", DEPLOYMENT)
    async with open_site(tmp_path) as site:
        monkeypatch.setenv("WORKER_BUILD_ID", "1")
        await site.start_worker("--only", "workflows")
        provider_of_1 = await site.start_worker("--only", "provider")
        await until(lambda: "build_is_not_current" in site.log.read_text())
        waiting = await explain_idleness(site.client, names.RUNS_QUEUE)
        await make_current(site, "1")
        async with asyncio.timeout(WORST_WAIT_SECONDS):
            while await explain_idleness(site.client, names.RUNS_QUEUE):
                await asyncio.sleep(0.05)
        site.simulator.script("reset_after_payment", match="begun-on-1")
        old_run = await site.start_run("begun-on-1", unknown_outcome="hold")
        await until_held(old_run)
        await start_site_batch(site, "versions", lines=4, window=1, step_seconds=1, longest_history=20)
        batch = site.client.get_workflow_handle(names.batch_workflow_id("versions"))
        await batch.signal(names.SIGNAL_PAUSE)
        first = (await batch.describe()).run_id
        await until_on("1", batch)

        monkeypatch.setenv("WORKER_BUILD_ID", "2")
        worker_of_2 = await site.start_worker()
        await make_current(site, "2")
        new_run = await start_until_on(site, "2")
        await decide(old_run)
        result = RunResult.model_validate(await old_run.result())
        await batch.signal(names.SIGNAL_RESUME)
        await batch.result()

        assert waiting == (
            "image-runs is polled by workers of 1 alone, and new runs go to workers without a build: they wait. Start such a worker,"
            " or: temporal worker deployment set-current-version --deployment-name image-runs --build-id BUILD"
        )
        assert result.provider.attempts == 2
        assert await read_build(old_run) == "1"
        assert await list_processes(old_run) == {provider_of_1.pid}
        assert await list_processes(new_run) == {worker_of_2.pid}
        assert await read_build(site.client.get_workflow_handle(batch.id, run_id=first)) == "1"
        assert await read_build(batch) == "2"


async def test_run_without_a_build_goes_on_with_the_current_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that began without builds goes on with the build that is made current, and back again where none is."""
    async with open_site(tmp_path) as site:
        plain = await site.start_worker()
        site.simulator.script("reset_after_payment", match="begun-without")
        run = await site.start_run("begun-without", unknown_outcome="hold")
        await until_held(run)
        monkeypatch.setenv("WORKER_DEPLOYMENT_NAME", DEPLOYMENT)
        monkeypatch.setenv("WORKER_BUILD_ID", "1.0.0+abc")
        await site.start_worker()
        await make_current(site, "1.0.0+abc")
        plain.terminate()
        assert await plain.wait() == 0
        await decide(run)
        await run.result()

        assert await read_build(run) == "1.0.0+abc"
        assert site.log.read_text().count("build_is_current") == 0

        monkeypatch.delenv("WORKER_DEPLOYMENT_NAME")
        monkeypatch.delenv("WORKER_BUILD_ID")
        await site.start_worker()
        await make_current(site, "")
        await start_until_on(site, "")


async def test_notification_moves_to_the_current_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that is away keeps no build from being stopped: what it was to be told goes on and ends on the next one."""
    monkeypatch.setenv("WORKER_DEPLOYMENT_NAME", DEPLOYMENT)
    async with run_receiver() as receiver, open_site(tmp_path) as site:
        monkeypatch.setenv("NOTIFY_HOSTS", receiver.host)
        monkeypatch.setenv("NOTIFY_SECRETS", SECRET)
        monkeypatch.setenv("NOTIFY_LOOPBACK", "true")
        receiver.answers.extend([503] * 100)
        monkeypatch.setenv("WORKER_BUILD_ID", "1")
        worker_of_1 = await site.start_worker()
        await make_current(site, "1")
        run = await start_until_on(site, "1", notify={"url": receiver.url})
        execution = (await run.describe()).run_id
        event_id = event_id_for(run.id, "completed", execution)
        told = site.client.get_workflow_handle(notification_id_for(run.id, event_id, receiver.url))
        await until_on("1", told)
        await receiver.until(1)

        monkeypatch.setenv("WORKER_BUILD_ID", "2")
        await site.start_worker()
        await make_current(site, "2")
        await start_until_on(site, "2")
        worker_of_1.terminate()
        assert await worker_of_1.wait() == 0
        receiver.answers.clear()
        async with asyncio.timeout(WORST_WAIT_SECONDS):
            delivery = await told.result()

        assert delivery["event_id"] == event_id
        assert await read_build(told) == "2"
        assert await read_build(run) == "1"


@pytest.mark.parametrize(
    ("given", "missing"),
    [("worker_deployment_name", "worker_build_id"), ("worker_build_id", "worker_deployment_name")],
)
def test_build_with_one_of_two_settings_is_refused(given: str, missing: str) -> None:
    """One of the two settings without the other is told at the start; without both a worker is of no build."""
    with pytest.raises(SettingsError) as raised:
        describe_build(Settings.model_validate({given: "one"}))

    assert str(raised.value) == (
        f"{given.upper()} is set without {missing.upper()}. A worker of a build needs both; unset both to run without builds."
    )
    assert describe_build(Settings()) is None
