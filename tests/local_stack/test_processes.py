"""Child processes of the embedded stack."""

import asyncio
import sys
from pathlib import Path

from gpt_image_runs.local_stack.processes import ChildProcess


async def test_a_failure_tells_of_this_start_alone(tmp_path: Path) -> None:
    """Why a program did not come up is what it said since it was started, not what earlier ones said."""
    log = tmp_path / "worker.log"
    log.write_text("a run of yesterday\n")
    child = ChildProcess(
        "worker", [sys.executable, "-c", "exit('the port is taken')"], log=log, environment={}
    )
    await child.start()
    async with asyncio.timeout(60):
        while child.pid:
            await asyncio.sleep(0.02)

    assert (
        str(child.failure()) == f"The worker did not come up (exit status 1). From {log}:\nthe port is taken"
    )
    assert log.read_text().startswith("a run of yesterday")
