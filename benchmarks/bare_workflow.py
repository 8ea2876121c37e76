"""The baseline: a workflow of three activities that do nothing. It costs what the engine itself costs."""

from datetime import timedelta

from temporalio import activity, workflow

QUEUE = "bare"
_ATTEMPT = timedelta(seconds=30)


@activity.defn
async def first_noop(given: str) -> str:
    return given


@activity.defn
async def second_noop(given: str) -> str:
    return given


@activity.defn
async def third_noop(given: str) -> str:
    return given


@workflow.defn
class BareRun:
    @workflow.run
    async def run(self, given: str) -> str:
        for noop in (first_noop, second_noop, third_noop):
            given = await workflow.execute_activity(noop, given, start_to_close_timeout=_ATTEMPT)
        return given
