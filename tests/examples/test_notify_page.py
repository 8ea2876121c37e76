"""docs/how-to/notify.md: its receiver is carried out as it stands, and its documents are what is sent."""

import asyncio
import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from gpt_image_runs.contracts.request_parsing import read_request
from gpt_image_runs.contracts.schemas.generate import PUBLISHED
from gpt_image_runs.local_stack.processes import choose_port
from gpt_image_runs.settings import Settings
from gpt_image_runs.webhooks.allowlist import Destinations
from gpt_image_runs.webhooks.client import NotificationRejected, WebhookClient
from tests.support.servers.webhook_receiver import OTHER_SECRET, SECRET

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "notify.md").read_text(encoding="utf-8")


async def until_it_listens(url: str) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(url):
                    return
            await asyncio.sleep(0.05)


async def test_documented_receiver_accepts_signed_events_once(tmp_path: Path) -> None:
    """The receiver on the page takes what is ours once, knows what came before, and turns down what others have signed."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "receiver.py").write_text(program)
    port = choose_port()
    url = f"http://127.0.0.1:{port}/"
    receiver = await asyncio.create_subprocess_exec(
        *(sys.executable, "receiver.py", str(port)),
        cwd=tmp_path,
        env={**os.environ, "WEBHOOK_SECRET": SECRET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until_it_listens(url)
        destinations = Destinations.read(f"127.0.0.1:{port}", signed=True, loopback=True)
        ours = WebhookClient(destinations, [OTHER_SECRET, SECRET])
        for number in (1, 1, 2):
            event = {
                "id": f"evt_{number}",
                "type": "gpt-image-runs.run.completed",
                "subject": f"run {number}",
            }
            assert await ours.send(url, event["id"], json.dumps(event), "application/json") == 204
        with pytest.raises(NotificationRejected, match="answered 400"):
            await WebhookClient(destinations, [OTHER_SECRET]).send(url, "evt_3", "{}", "application/json")
    finally:
        receiver.terminate()
        printed, _ = await receiver.communicate()

    assert printed.decode().splitlines() == [
        "gpt-image-runs.run.completed run 1",
        "gpt-image-runs.run.completed run 2",
    ]


def test_page_matches_settings_and_schemas() -> None:
    """Its request is one, its settings are settings, and its schemas are published."""
    (request, event) = re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)
    assert read_request(json.loads(request)).problems == ()
    assert json.loads(event)["dataschema"].removeprefix("urn:gpt-image-runs:") in PUBLISHED
    told = {name.lower() for name in re.findall(r"^\| `(NOTIFY_\w+)` \|", PAGE, re.MULTILINE)}
    assert told == {name for name in Settings.model_fields if name.startswith("notify_")}
