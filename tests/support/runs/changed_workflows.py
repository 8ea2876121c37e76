"""`ImageGeneration` as somebody might change it without a thought for the runs that are under way. No test here."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts.calls import Admission, CallResult
    from gpt_image_runs.contracts.request import ImageRequest
    from gpt_image_runs.contracts.result import RunResult
    from workflows.image_generation import ImageGeneration
    from workflows.payloads import NOTHING


@workflow.defn(name=names.WORKFLOW)
class AsksTwice(ImageGeneration):
    """With one more step before the call."""

    @workflow.run
    async def run(self, request_json: RawValue = NOTHING) -> RunResult:
        return await super().run(request_json)

    async def _call(self, request: ImageRequest, admission: Admission) -> CallResult:
        await workflow.execute_local_activity("look_twice", start_to_close_timeout=timedelta(seconds=1))
        return await super()._call(request, admission)


@workflow.defn(name=names.WORKFLOW)
class WaitsFirst(ImageGeneration):
    """With a pause in front of everything."""

    @workflow.run
    async def run(self, request_json: RawValue = NOTHING) -> RunResult:
        await workflow.sleep(1)
        return await super().run(request_json)


@workflow.defn(name=names.WORKFLOW)
class AsksTwiceFromNowOn(ImageGeneration):
    """With one more step before the call, for runs that begin with this code."""

    @workflow.run
    async def run(self, request_json: RawValue = NOTHING) -> RunResult:
        return await super().run(request_json)

    async def _call(self, request: ImageRequest, admission: Admission) -> CallResult:
        if workflow.patched("look-twice"):
            await workflow.execute_local_activity("look_twice", start_to_close_timeout=timedelta(seconds=1))
        return await super()._call(request, admission)


@workflow.defn(name=names.WORKFLOW)
class Breaks(ImageGeneration):
    """With a mistake in it."""

    @workflow.run
    async def run(self, request_json: RawValue = NOTHING) -> Any:
        raise ValueError(f"nobody expected {type(request_json).__name__}")
