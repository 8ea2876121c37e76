"""Commands typed beside a running worker, each in a process of its own. No test here."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.support.runs.command_line import Ended
from tests.support.servers.stack import Stack

ROOT = Path(__file__).parents[3]


async def type_command(stack: Stack, folder: Path, *arguments: str, stdin: bytes = b"") -> Ended:
    """Carries out `python starter.py ...` in a process of its own, on the stack's servers."""
    return await await_end(await start_command(stack, folder, *arguments), stdin)


async def start_command(stack: Stack, folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    """The same, while it runs."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "starter.py"),
        *arguments,
        env={
            **os.environ,
            "TEMPORAL_ADDRESS": stack.client.service_client.config.target_host,
            "DATABASE_URL": stack.settings.ledger_url(),
            "IMAGE_STORE_URL": stack.settings.store_url(),
            "PROVIDER": stack.settings.provider_name(),
            "DATA_DIR": str(folder / "data"),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def await_end(process: asyncio.subprocess.Process, stdin: bytes = b"") -> Ended:
    """A command's end, with what it has said since anybody has read of it."""
    out, err = await process.communicate(stdin)
    return Ended(process.returncode or 0, out.decode(), err.decode())
