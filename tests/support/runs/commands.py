"""Commands typed beside a running worker, each in a process of its own. No test here."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.support.runs.command_line import Ended
from tests.support.servers.forked_program import ROOT, run_command
from tests.support.servers.stack import Stack


async def type_command(stack: Stack, folder: Path, *arguments: str, stdin: bytes = b"") -> Ended:
    """Run `python starter.py` to its end, in a process of its own on the stack's servers."""
    return await run_command(arguments, _environment(stack, folder), stdin)


async def start_command(stack: Stack, folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start `python starter.py`, and leave its end to the caller."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "starter.py"),
        *arguments,
        env=_environment(stack, folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def await_end(process: asyncio.subprocess.Process, stdin: bytes = b"") -> Ended:
    """Wait for a command's end; what was read of its output before is not in it."""
    out, err = await process.communicate(stdin)
    return Ended(process.returncode or 0, out.decode(), err.decode())


def _environment(stack: Stack, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "TEMPORAL_ADDRESS": stack.client.service_client.config.target_host,
        "DATABASE_URL": stack.settings.ledger_url(),
        "IMAGE_STORE_URL": stack.settings.store_url(),
        "PROVIDER": stack.settings.provider_name(),
        "DATA_DIR": str(folder / "data"),
    }
