"""The queue of requests to receivers of notifications, with slots of its own: one that hangs keeps no bill waiting."""

from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from activities.notify import Notifier
from contracts import names
from runtime.settings import Settings
from runtime.webhook_client import TIMEOUT_SECONDS, WebhookClient

NOTIFICATIONS_AT_ONCE = 50


def build_notify_worker(client: Client, settings: Settings) -> Worker:
    """The requests to receivers of notifications."""
    webhooks = WebhookClient(settings.notify_destinations(), settings.notify_keys())
    return Worker(
        client,
        task_queue=names.NOTIFY_QUEUE,
        activities=[Notifier(webhooks).notify],
        max_concurrent_activities=NOTIFICATIONS_AT_ONCE,
        graceful_shutdown_timeout=timedelta(seconds=TIMEOUT_SECONDS),
    )
