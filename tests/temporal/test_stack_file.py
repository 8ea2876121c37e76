"""One stack for a directory, by a lock that the operating system releases when its holder ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt_image_runs.temporal.stack_file import (
    Stack,
    StackClaimed,
    claim_stack,
    publish_stack,
    read_stack_file,
)

ROOT = Path(__file__).resolve().parents[2]
STACK = Stack(pid=1, temporal_address="127.0.0.1:1", ui_url="http://127.0.0.1:2", provider_base_url=None)
HOLDER = """
import sys
from pathlib import Path
from gpt_image_runs.temporal.stack_file import claim_stack
with claim_stack(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_published_stack_is_found_until_it_is_released(tmp_path: Path) -> None:
    with claim_stack(tmp_path):
        assert read_stack_file(tmp_path) is None
        publish_stack(tmp_path, STACK)
        assert read_stack_file(tmp_path) == STACK

    assert read_stack_file(tmp_path) is None


def test_second_claim_is_refused_and_names_the_process(tmp_path: Path) -> None:
    with claim_stack(tmp_path):
        with (
            pytest.raises(StackClaimed, match=f"Process {os.getpid()} runs the stack of"),
            claim_stack(tmp_path),
        ):
            pass
        publish_stack(tmp_path, STACK)
        assert read_stack_file(tmp_path) == STACK

    with claim_stack(tmp_path):
        pass


def test_files_of_a_killed_stack_are_ignored(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        publish_stack(tmp_path, STACK)
        assert read_stack_file(tmp_path) == STACK
        holder.kill()

    assert (tmp_path / "stack.json").exists()
    assert read_stack_file(tmp_path) is None
    with claim_stack(tmp_path):
        assert not (tmp_path / "stack.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', "\xff", "[" * 10_000])
def test_malformed_stack_file_is_ignored(tmp_path: Path, text: str) -> None:
    with claim_stack(tmp_path):
        (tmp_path / "stack.json").write_text(text)
        assert read_stack_file(tmp_path) is None
