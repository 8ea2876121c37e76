"""Saves a history of each shape that has none yet: `python -m tests.e2e.save_histories`, after a change that adds a shape.

A saved history is never written again: it stands for the runs that are under way when a new version is deployed.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e.stack import CONTRACT, Stack, run_stack, sqlite_url
from tests.imaging.picture_files import make_picture
from tests.s3_server import BUCKET, run_s3_server, s3_environment

HISTORIES = Path(__file__).parent / "histories"
SHAPES: dict[str, dict[str, Any]] = {
    "generated": CONTRACT,
    "edited": CONTRACT,
    "four": {**CONTRACT, "n": 4},
    "estimated": {**CONTRACT, "prompt": "A cup [simulate:missing_usage]"},
    "held": {**CONTRACT, "prompt": "A cup [simulate:missing_usage]", "missing_usage": "hold"},
    "refused": {**CONTRACT, "n": 11},
    "rejected": {**CONTRACT, "prompt": "A cup [simulate:moderation_blocked]"},
    "resent": {**CONTRACT, "prompt": "A cup that is sent again"},
}


def history_path(name: str) -> Path:
    """Where the history of a shape is."""
    return HISTORIES / f"{name}.json"


async def save_missing() -> None:
    """Runs the shapes that have no history, on an S3 store so that no history names a folder of this machine."""
    HISTORIES.mkdir(exist_ok=True)
    with run_s3_server() as s3, tempfile.TemporaryDirectory() as folder:
        os.environ.update(s3_environment(s3))
        async with run_stack(sqlite_url(Path(folder)), f"s3://{BUCKET}") as stack:
            stack.simulator.script("server_error", match="sent again")
            for name, payload in SHAPES.items():
                if not history_path(name).exists():
                    await _save(stack, name, payload)


async def _save(stack: Stack, name: str, payload: dict[str, Any]) -> None:
    if name == "edited":
        image = await stack.store.put_image(make_picture("PNG", (1024, 1024)))
        payload = {**payload, "images": [image.uri]}
    handle = await stack.start(payload, run_id=f"image:default:history-{name}")
    await asyncio.gather(handle.result(), return_exceptions=True)
    history = json.loads((await handle.fetch_history()).to_json())
    history_path(name).write_text(json.dumps(_without_machine(history), indent=1) + "\n")
    sys.stdout.write(f"{history_path(name).name} is saved.\n")


def _without_machine(part: Any) -> Any:
    """A history without the names of processes and the paths of stack traces: replaying needs neither."""
    if isinstance(part, dict):
        return {
            key: "" if key in {"identity", "stackTrace"} else _without_machine(value)
            for key, value in part.items()
        }
    return [_without_machine(item) for item in part] if isinstance(part, list) else part


if __name__ == "__main__":
    asyncio.run(save_missing())
    sys.stdout.flush()
    os._exit(0)
