"""Set the dispatch rate of a task queue: enforced by the server, for all workers together.

It is stored with the task queue (Temporal's task queue config), so it is one number for any number of workers, and
survives restarts of workers and server. The alternative, a limit that workers send with their polls, is lifted by any
worker that polls without one, and jumps between two workers that disagree.
"""

import math

import structlog
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import RateLimit, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, UpdateTaskQueueConfigRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.client.errors import TemporalUnavailable

log = structlog.get_logger("dispatch_rates")


_WINDOW_SECONDS = 60.0
# The server catches up on up to a second's dispatches, so a queue that was idle can be a second ahead of its rate. Half a
# second more is for calls that need different times from their dispatch to the provider.
_AHEAD_SECONDS = 1.5
_UNSUPPORTED_STATUSES = {RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED}
_ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


async def hold_limit(client: Client, queue: str, limit_per_minute: int | None) -> int | None:
    """Have the server enforce a limit for a queue (0: none). Return the limit in force, or None.

    If it is unset, the server's limit stays: a worker without the setting must not lift it for all others.

    Raises:
        TemporalUnavailable: the server refuses; the message has the command for its operator.
    """
    if limit_per_minute is not None:
        rate = rate_within(limit_per_minute) if limit_per_minute else None
        if await hold_dispatch_rate(client, queue, rate, reason=f"IMAGES_PER_MINUTE={limit_per_minute}"):
            log.info("rate_limit_set", task_queue=queue, images_per_minute=limit_per_minute)
        return limit_per_minute or None
    held = await read_dispatch_rate(client, queue)
    if held is None:
        return None
    log.warning(
        "rate_limit_kept",
        reason="IMAGES_PER_MINUTE is not set, so the server's limit stays. IMAGES_PER_MINUTE=0 removes it.",
        task_queue=queue,
        images_per_minute=limit_within(held),
    )
    return limit_within(held)


def rate_within(limit_per_minute: int) -> float:
    """Return the dispatches per second, slightly below (0.976 of) the limit, that keep any 60 seconds within it."""
    return limit_per_minute / (_WINDOW_SECONDS + _AHEAD_SECONDS)


def limit_within(per_second: float) -> int:
    """Return the limit per minute of a rate from `rate_within`."""
    return round(per_second * (_WINDOW_SECONDS + _AHEAD_SECONDS))


async def read_dispatch_rate(client: Client, queue: str) -> float | None:
    """Return the server's rate for a queue's activities, per second, or None if there is none or it is hidden."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=queue),
        task_queue_type=_ACTIVITIES,
        report_config=True,
    )
    try:
        described = await client.workflow_service.describe_task_queue(request)
    except RPCError as error:
        if error.status in _UNSUPPORTED_STATUSES:
            return None
        raise
    limit = described.config.queue_rate_limit
    return limit.rate_limit.requests_per_second if limit.HasField("rate_limit") else None


async def hold_dispatch_rate(client: Client, queue: str, per_second: float | None, *, reason: str) -> bool:
    """Have the server enforce this rate (None: no rate). Return whether that changed it.

    Raises:
        TemporalUnavailable: the server refuses; the message has the command for its operator.
    """
    held = await read_dispatch_rate(client, queue)
    if held == per_second or (held and per_second and math.isclose(held, per_second, rel_tol=1e-6)):
        return False
    limit = None if per_second is None else RateLimit(requests_per_second=per_second)
    request = UpdateTaskQueueConfigRequest(
        namespace=client.namespace,
        identity=client.identity,
        task_queue=queue,
        task_queue_type=_ACTIVITIES,
        update_queue_rate_limit=UpdateTaskQueueConfigRequest.RateLimitUpdate(rate_limit=limit, reason=reason),
    )
    try:
        await client.workflow_service.update_task_queue_config(request)
    except RPCError as error:
        wanted = "default" if per_second is None else f"{per_second:.6f}"
        raise TemporalUnavailable(
            f"The server does not let this worker set the rate of the task queue {queue} ({error.message.rstrip('.')})."
            f" Ask its operator to run:\ntemporal task-queue config set --namespace {client.namespace} --task-queue {queue}"
            f" --task-queue-type activity --queue-rps-limit {wanted}"
        ) from error
    return True
