"""The embedded stack as a user has it: `python starter.py up` in a process, and commands typed beside it. No test here."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from filelock import FileLock

from cli.app import main
from tests.support.runs.command_line import Ended
from tests.support.servers.forked_program import ROOT, run_command_blocking

_STARTER = [sys.executable, str(ROOT / "starter.py")]
_OURS = ("OPENAI_", "AZURE_", "TEMPORAL_", "AWS_", "DATABASE_URL", "IMAGE_STORE_URL", "PROVIDER", "COLUMNS")
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Terminal:
    """A shell in which DATA_DIR is set, and nothing else of ours."""

    data_dir: Path

    def run(self, *arguments: str, stdin: bytes = b"") -> Ended:
        """Run a command to its end."""
        return run_command_blocking(arguments, self._environment(), stdin, patience_seconds=_PATIENCE_SECONDS)

    def run_script(self, script: str, folder: Path) -> Ended:
        """Run a shell script in `folder`, where `python starter.py` is this code's command line."""
        script = script.replace("python starter.py", shlex.join(_STARTER))
        ended = subprocess.run(
            ["sh", "-eu", "-c", script],
            cwd=folder,
            env={**self._environment(), "COLUMNS": "120"},
            capture_output=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def call(self, *arguments: str, stdin: bytes = b"") -> Ended:
        """Run a command in this process. It saves a second of CPU for imports where a process of its own proves no more."""
        out, err = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self._environment(), clear=True),
            patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            status = main(arguments)
        return Ended(status, out.getvalue(), err.getvalue())

    def start(self, *arguments: str) -> "Typed":
        """Start a command without waiting for its end."""
        out, err = (Path(tempfile.mkstemp(dir=self.data_dir.parent)[1]) for _ in "oe")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            command = [*_STARTER, *arguments]
            process = subprocess.Popen(command, env=self._environment(), stdout=stdout, stderr=stderr)
        return Typed(process, out, err)

    def paid_calls(self, run_id: str) -> int:
        """Requests that the simulator was paid for, by its own books."""
        lines = (self.data_dir / "simulator-books.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        return sum(
            bool(entry["paid"]) and str(entry["client_request_id"]).startswith(f"{run_id}:")
            for entry in entries
        )

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return {**kept, "DATA_DIR": str(self.data_dir)}


@dataclass(frozen=True)
class Typed:
    """A command that still runs."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def wait_until_told(self, words: str) -> None:
        """Wait until `words` are on stderr."""
        wait_until(lambda: words in self.err.read_text())

    def interrupt(self, number: signal.Signals) -> Ended:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> Ended:
        """Wait for the end."""
        try:
            status = self.process.wait(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        return Ended(status, self.out.read_text(), self.err.read_text())


@contextmanager
def run_up(terminal: Terminal, turn: Path) -> Iterator[Typed]:
    """Run `up --json` once everything answers.

    `turn` is a file: stacks start one by one, as two that start at once both find the usual port free.
    """
    with FileLock(turn, timeout=_PATIENCE_SECONDS):
        typed = terminal.start("up", "--json")
        try:
            wait_until(lambda: bool(typed.out.read_text()) or typed.process.poll() is not None)
        except BaseException:
            typed.interrupt(signal.SIGTERM)
            raise
    try:
        assert typed.process.poll() is None, typed.err.read_text()
        yield typed
    finally:
        if typed.process.poll() is None:
            typed.interrupt(signal.SIGTERM)


def find_children(pid: int) -> dict[int, str]:
    """Map the child processes of a process to their command lines."""
    listed = subprocess.run(
        # Twice w: whole lines, however long the path of this directory is.
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return {int(child): words for child, parent, words in rows if int(parent) == pid}


def is_running(pid: int) -> bool:
    """Return whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        time.sleep(0.02)


def entries_of(terminal: Terminal, run_id: str) -> list[dict[str, Any]]:
    """A run's entries, as `ledger --json` prints them."""
    entries: list[dict[str, Any]] = terminal.call("ledger", "--run", run_id, "--json").document["entries"]
    return entries
