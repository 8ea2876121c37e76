"""Child processes of the embedded stack."""

import asyncio
import sys
from pathlib import Path

from gpt_image_runs.local_stack.processes import ChildProcess


async def test_failure_shows_only_the_log_since_this_start(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("a run of yesterday\n")
    child = ChildProcess(
        "worker", [sys.executable, "-c", "exit('the port is taken')"], log=log, environment={}
    )
    await child.start()
    async with asyncio.timeout(60):
        while child.pid:
            await asyncio.sleep(0.02)

    assert str(child.failure()) == f"The worker did not start (exit status 1). From {log}:\nthe port is taken"
    assert log.read_text().startswith("a run of yesterday")
