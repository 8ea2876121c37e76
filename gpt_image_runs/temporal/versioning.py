"""Support Worker Deployment Versioning: a worker's build, and whether new runs use it. Off unless both settings are set.

A run stays on the build that it started on. The operator decides which build new runs use (`docs/how-to/change.md`).
"""

import structlog
from temporalio.api.enums.v1 import TaskQueueType, WorkerVersioningMode
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeWorkerDeploymentRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from gpt_image_runs.settings import Settings, SettingsError

log = structlog.get_logger("versions")


def describe_build(settings: Settings) -> WorkerDeploymentConfig | None:
    """Return the build of this process's workers, for all task queues, or None without one.

    Raises:
        SettingsError: one of the two settings is set without the other.
    """
    name, build = settings.worker_deployment_name, settings.worker_build_id
    if not name and not build:
        return None
    if not name or not build:
        given, missing = "WORKER_DEPLOYMENT_NAME", "WORKER_BUILD_ID"
        if not name:
            given, missing = missing, given
        raise SettingsError(
            f"{given} is set without {missing}. A worker of a build needs both; unset both to run without builds."
        )
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=name, build_id=build),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


async def read_current_build(client: Client, deployment_name: str) -> str | None:
    """Return the build that new runs use, or None if they go to workers without a build."""
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=deployment_name)
    try:
        described = await client.workflow_service.describe_worker_deployment(request)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:  # none of its workers has ever polled
            return None
        raise
    routing = described.worker_deployment_info.routing_config
    return routing.current_deployment_version.build_id or None


async def log_build(client: Client, build: WorkerDeploymentConfig) -> None:
    """Log whether new runs use this build, and what to do if not, because nothing else reports it."""
    version = build.version
    try:
        current = await read_current_build(client, version.deployment_name)
    except RPCError as error:
        log.warning("current_build_unknown", reason=error.message)
        return
    if current == version.build_id:
        log.info("build_is_current", build_id=current)
        return
    log.warning(
        "build_is_not_current",
        reason="New runs go to another build until this one is made current.",
        build_id=version.build_id,
        current_build_id=current,
        command="temporal worker deployment set-current-version"
        f" --deployment-name {version.deployment_name} --build-id {version.build_id}",
    )


async def explain_idleness(client: Client, queue: str) -> str | None:
    """Explain why new runs wait although workers poll a queue: none of them has the current build.

    Returns None if one has it, or if nobody polls. The sentence has the command to type.
    """
    kinds = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
    idle: dict[str, str] = {}
    current = ""
    for kind in kinds:
        request = DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
        )
        described = await client.workflow_service.describe_task_queue(request)
        current = described.versioning_info.current_deployment_version.build_id
        for poller in described.pollers:
            build = _read_build(poller)
            if build == current:
                return None
            idle[build] = poller.deployment_options.deployment_name
    if not idle:
        return None
    builds = ", ".join(sorted(build or "no build" for build in idle))
    name = next(filter(None, idle.values()), "NAME")
    return (
        f"{queue} is polled by workers of {builds} alone, and new runs go to {current or 'workers without a build'}: they wait."
        f" Start such a worker, or: temporal worker deployment set-current-version --deployment-name {name} --build-id BUILD"
    )


def _read_build(poller: PollerInfo) -> str:
    options = poller.deployment_options
    versioned = options.worker_versioning_mode == WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED
    return options.build_id if versioned else ""
