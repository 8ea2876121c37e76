"""Batches on real parts: each line a run and a bill of its own, whatever happens in between."""

import json
import uuid
from pathlib import Path

import pytest

from tests.e2e.commands import type_command
from tests.e2e.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")


def write_lines(folder: Path, count: int, **fields: object) -> Path:
    path = folder / f"batch-{uuid.uuid4().hex[:12]}.jsonl"
    lines = [{"prompt": f"Cup number {number} of {path.stem}", **fields} for number in range(1, count + 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


async def test_sixty_lines(any_stack: Stack, tmp_path: Path) -> None:
    """Sixty lines."""
    file = write_lines(tmp_path, 60, quality="low", size="1024x1024")
    ended = await type_command(any_stack, tmp_path, "batch", "run", str(file), "--json")
    print(ended.err, ended.out)
    assert ended.status == 0
