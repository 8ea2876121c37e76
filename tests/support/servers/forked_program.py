"""Programs of this repository in processes of their own, forked from one process that has imported their modules.

Importing costs a worker two seconds of CPU and a command one. Signals, exit status, streams, working directory and
environment are those of a program that was started anew; variables that Python itself reads at its start have no effect.
"""

import asyncio
import multiprocessing
import os
import pkgutil
import runpy
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from multiprocessing import reduction
from pathlib import Path
from typing import Any, BinaryIO

import cli
from tests.support.runs.command_line import Ended

ROOT = Path(__file__).resolve().parents[3]
STARTER = ROOT / "starter.py"
WORKER = ROOT / "worker.py"
_NOTHING = Path(os.devnull)
_POLL_SECONDS = 0.01
_MODULES = ["worker", *(module.name for module in pkgutil.walk_packages(cli.__path__, "cli."))]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_MODULES)


class ForkedProgram:
    """A running program, with the methods of `asyncio.subprocess.Process` that tests use."""

    def __init__(
        self,
        program: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        streams: tuple[BinaryIO, BinaryIO, BinaryIO],
    ) -> None:
        descriptors = [stream.fileno() for stream in streams]
        self._process = _context.Process(
            target=_Program(str(program), tuple(arguments), dict(environment), descriptors), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return int(self._process.pid or 0)

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal, or None while the program runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal. Raises ProcessLookupError where the program has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    async def wait(self) -> int:
        """Wait for the end and return the exit status."""
        while (status := self.returncode) is None:
            await asyncio.sleep(_POLL_SECONDS)
        return status


class _Program:
    """The target of a forked process; the descriptors of its streams are passed on when it is pickled."""

    def __init__(
        self, path: str, arguments: tuple[str, ...], environment: dict[str, str], streams: list[int]
    ) -> None:
        self._start = (path, arguments, environment, str(Path.cwd()))
        self._streams: list[Any] = list(streams)

    def __getstate__(self) -> tuple[Any, ...]:
        return self._start, [reduction.DupFd(number) for number in self._streams]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._start, self._streams = state

    def __call__(self) -> None:
        path, arguments, environment, folder = self._start
        for number, stream in enumerate(self._streams):
            os.dup2(stream.detach(), number)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = [path, *arguments]
        runpy.run_path(path, run_name="__main__")


async def start_worker_program(
    arguments: Sequence[str], environment: Mapping[str, str], log: BinaryIO
) -> ForkedProgram:
    """Start `python worker.py`. Its output is appended to `log`."""
    return await asyncio.to_thread(_start_worker, arguments, environment, log)


def _start_worker(arguments: Sequence[str], environment: Mapping[str, str], log: BinaryIO) -> ForkedProgram:
    with _NOTHING.open("rb") as nothing:
        return ForkedProgram(WORKER, arguments, environment, (nothing, log, log))


async def run_command(arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes = b"") -> Ended:
    """Run `python starter.py` to its end."""
    with ExitStack() as parts:
        streams = _Streams(Path(parts.enter_context(tempfile.TemporaryDirectory())), parts, stdin)
        program = await asyncio.to_thread(ForkedProgram, STARTER, arguments, environment, streams.files)
        try:
            return streams.read_end(await program.wait())
        finally:
            program.kill()


def run_command_blocking(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    stdin: bytes = b"",
    *,
    patience_seconds: float,
) -> Ended:
    """Run `python starter.py` to its end without an event loop. Raises TimeoutError."""
    deadline = time.monotonic() + patience_seconds
    with ExitStack() as parts:
        streams = _Streams(Path(parts.enter_context(tempfile.TemporaryDirectory())), parts, stdin)
        program = ForkedProgram(STARTER, arguments, environment, streams.files)
        try:
            while (status := program.returncode) is None:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"starter.py {' '.join(arguments)} has not ended.")
                time.sleep(_POLL_SECONDS)
            return streams.read_end(status)
        finally:
            program.kill()


class _Streams:
    """Files for the three streams of a command."""

    def __init__(self, folder: Path, parts: ExitStack, stdin: bytes) -> None:
        given = folder / "stdin"
        given.write_bytes(stdin)
        self._out, self._err = folder / "stdout", folder / "stderr"
        self.files: tuple[BinaryIO, BinaryIO, BinaryIO] = (
            parts.enter_context(given.open("rb")),
            parts.enter_context(self._out.open("wb")),
            parts.enter_context(self._err.open("wb")),
        )

    def read_end(self, status: int) -> Ended:
        """Read what the command wrote."""
        return Ended(status, self._out.read_bytes().decode(), self._err.read_bytes().decode())
