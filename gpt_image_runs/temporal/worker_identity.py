"""Format and read worker identities: the process, and short ids of its ledger and image store.

Temporal shows the identity of every poller of a task queue. A command compares these ids with its own before it
spends, and a worker with those of running workers. An identity looks like
`4711@host ledger:0123456789ab store:ba9876543210`.
"""

import hashlib
import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog
from temporalio.api.enums.v1 import TaskQueueType, WorkerStatus
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, ListWorkersRequest
from temporalio.client import Client
from temporalio.service import RPCError

log = structlog.get_logger("worker")


_SHORT = 12
_ID = re.compile(rf"(?:ldg_)?([0-9a-f]{{{_SHORT}}})[0-9a-f]*")
_IDENTITY = re.compile(
    rf"(?P<process>\S+)(?: ledger:(?P<ledger>[0-9a-f]{{{_SHORT}}}))?(?: store:(?P<store>[0-9a-f]{{{_SHORT}}}))?"
)
_KINDS = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
_ENDS = (WorkerStatus.WORKER_STATUS_SHUTTING_DOWN, WorkerStatus.WORKER_STATUS_SHUTDOWN)
# A worker polls at least every minute, and the server lists it for five minutes after its last poll.
_POLL_INTERVAL = timedelta(seconds=75)
_MAX_PROCESS = 100


class LedgersDiffer(Exception):
    """Another worker of the same task queues uses another ledger; the message says what to do."""


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """A worker as its identity describes it. `ledger` and `store` are None if not given."""

    process: str
    ledger: str | None = None
    store: str | None = None


def shorten_id(long_id: str) -> str:
    """Return the 12 hexadecimal digits that stand for the id of a ledger or a store."""
    if match := _ID.fullmatch(long_id):
        return match[1]
    return hashlib.sha256(long_id.encode()).hexdigest()[:_SHORT]


def format_identity(ledger_id: str, store_id: str | None) -> str:
    """Build the identity of this process as a worker."""
    store = f" store:{shorten_id(store_id)}" if store_id else ""
    return f"{os.getpid()}@{socket.gethostname()} ledger:{shorten_id(ledger_id)}{store}"


def parse_identity(text: str) -> WorkerIdentity:
    """Parse an identity. One that another program chose has neither ledger nor store."""
    if match := _IDENTITY.fullmatch(text):
        return WorkerIdentity(ascii(match["process"])[1:-1][:_MAX_PROCESS], match["ledger"], match["store"])
    return WorkerIdentity(ascii(text)[1:-1][:_MAX_PROCESS])


async def list_live_workers(client: Client, queues: Sequence[str]) -> list[WorkerIdentity]:
    """List the workers that poll any of these task queues, except those that have ended or are shutting down.

    A killed worker may be listed for up to five minutes. Only times of the server's clock are compared.

    Raises:
        RPCError: the server does not list the pollers.
    """
    polls: list[tuple[str, PollerInfo]] = []
    for queue in queues:
        for kind in _KINDS:
            request = DescribeTaskQueueRequest(
                namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
            )
            described = await client.workflow_service.describe_task_queue(request)
            polls += [(queue, poller) for poller in described.pollers]
    if not polls:
        return []
    ended = await _find_ended(client)
    live = [poller for queue, poller in polls if (poller.identity, queue) not in ended]
    newest = max((poller.last_access_time.ToDatetime() for poller in live), default=None)
    identities = {
        poller.identity
        for poller in live
        if newest and newest - poller.last_access_time.ToDatetime() <= _POLL_INTERVAL
    }
    return [parse_identity(identity) for identity in sorted(identities)]


async def refuse_other_ledger(client: Client, queues: Sequence[str], identity: str) -> None:
    """Check that no running worker of these task queues uses another ledger than the worker `identity`.

    Two ledgers behind one task queue would each have only a part of the runs, and a request could be paid in both.

    Raises:
        LedgersDiffer: one does; the message names both.
    """
    own = parse_identity(identity)
    try:
        workers = await list_live_workers(client, queues)
    except RPCError as error:
        log.warning("other_workers_not_known", reason=error.message)
        return
    for worker in workers:
        if worker.ledger and worker.ledger != own.ledger:
            raise LedgersDiffer(
                f"This worker has the ledger {own.ledger}, and the worker {worker.process}, which polls"
                f" {' and '.join(queues)} at {client.service_client.config.target_host}, has the ledger {worker.ledger}."
                " Nothing was polled. Set DATABASE_URL (or DATA_DIR) to the same ledger, or TEMPORAL_ADDRESS and"
                " TEMPORAL_NAMESPACE to the Temporal of this ledger. A worker that was killed is listed for five minutes."
            )


async def _find_ended(client: Client) -> set[tuple[str, str]]:
    """Find the workers, by identity and task queue, that reported to the server that they are shutting down."""
    found: dict[tuple[str, str], bool] = {}
    request = ListWorkersRequest(namespace=client.namespace)
    with suppress(RPCError):  # an older server, or one that denies it: then only polls are known
        while True:
            listed = await client.workflow_service.list_workers(request)
            for info in listed.workers_info:
                worker = info.worker_heartbeat
                key = (worker.worker_identity, worker.task_queue)
                runs = worker.status not in _ENDS
                # A restarted container has the identity of its predecessor.
                found[key] = found.get(key, False) or runs
            if not listed.next_page_token:
                break
            request.next_page_token = listed.next_page_token
    return {key for key, runs in found.items() if not runs}
