"""The delay before `notify` sends an event again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.notify import Notifier
from gpt_image_runs.contracts.notifications import NotificationOrder, RunFailure
from gpt_image_runs.webhooks.allowlist import Destinations
from gpt_image_runs.webhooks.client import WebhookClient
from tests.support.servers.webhook_receiver import SECRET, run_receiver


@pytest.mark.parametrize("ahead", [timedelta(days=-1), timedelta(days=1)])
async def test_retry_after_date_is_read_against_the_date_of_the_answer(ahead: timedelta) -> None:
    """A receiver whose clock differs from the worker's gets the wait that it asked for."""
    moment = datetime.now(UTC).replace(microsecond=0) + ahead
    headers = {
        "date": format_datetime(moment, usegmt=True),
        "retry-after": format_datetime(moment + timedelta(seconds=30), usegmt=True),
    }
    async with run_receiver() as receiver:
        receiver.answers.append(web.Response(status=503, headers=headers))
        destinations = Destinations.read(receiver.host, signed=True, loopback=True)
        notifier = Notifier(WebhookClient(destinations, [SECRET]))
        order = NotificationOrder(
            event="failed",
            event_id=f"evt_{'0' * 32}",
            run_id="image:acme:req-1",
            url=receiver.url,
            time=moment,
            failure=RunFailure(
                run_id="image:acme:req-1", status="failed", type="ContentRefused", message="Refused."
            ),
        )
        with pytest.raises(ApplicationError, match="answered 503") as raised:
            await ActivityEnvironment().run(notifier.notify, order)

    wait = raised.value.next_retry_delay
    assert wait is not None
    assert timedelta(seconds=30) <= wait <= timedelta(seconds=40)
