"""Child processes of the embedded stack: started, watched, started again when they die, and ended with their parent."""

import asyncio
import contextlib
import ctypes
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: a child between fork and exec must not import or take locks.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PAUSE_BEFORE_RESTART_SECONDS = 1.0


class ProcessFailed(Exception):
    """A child process did not come up, as a sentence with the end of its log."""


class ChildProcess:
    """One program that should keep running. Its output goes to a log file. `umask` -1 leaves it ours."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        umask: int = -1,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._umask = umask
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._log_began = 0

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Starts the program."""
        self._process = await self._spawn()

    def watch(self, on_restart: Callable[[str], None]) -> None:
        """Starts the program again whenever it dies, until `stop`."""
        self._watcher = asyncio.create_task(self._keep_running(on_restart))

    async def stop(self, *, patience_seconds: float) -> None:
        """Asks the program to end, waits, and insists after `patience_seconds`."""
        if self._watcher:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        if not self._process or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), patience_seconds)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def failure(self) -> ProcessFailed:
        """Why the program is not there: its exit status and the end of what it has logged since its start."""
        code = self._process.returncode if self._process else None
        with contextlib.suppress(OSError):
            written = self.log.read_bytes()[self._log_began :].decode(errors="replace")
            tail = "\n".join(written.splitlines()[-8:])
            return ProcessFailed(
                f"The {self.name} did not come up (exit status {code}). From {self.log}:\n{tail}"
            )
        return ProcessFailed(f"The {self.name} did not come up (exit status {code}).")

    async def _keep_running(self, on_restart: Callable[[str], None]) -> None:
        while self._process:
            code = await self._process.wait()
            on_restart(f"The {self.name} ended unexpectedly (exit status {code}); starting it again.")
            await asyncio.sleep(_PAUSE_BEFORE_RESTART_SECONDS)
            try:
                self._process = await self._spawn()
            except OSError as error:
                on_restart(f"The {self.name} cannot be started: {error}. Trying again.")

    async def _spawn(self) -> asyncio.subprocess.Process:
        self.log.touch(mode=0o600)  # error texts of providers and the ids of runs are nobody else's
        with self.log.open("ab") as output:
            self._log_began = output.tell()
            return await asyncio.create_subprocess_exec(
                *self._command,
                env=dict(self._environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A session of its own: Ctrl-C reaches us alone, and we end the children in the right order.
                start_new_session=True,
                umask=self._umask,
                preexec_fn=_end_with_parent if _LIBC else None,
            )


def _end_with_parent() -> None:
    """In the child, before it runs: a parent that is killed takes the child with it instead of leaving it on our ports."""
    if _LIBC:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


LOOPBACK = "127.0.0.1"


def choose_port(preferred: int = 0) -> int:
    """`preferred` if nothing listens there, else a port that the system says is free."""
    for candidate in (preferred, 0):
        with socket.socket() as probe:
            # As servers do: a connection that lingers from the last run does not occupy the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("No free port on 127.0.0.1.")


SAME_WISH_SECONDS = 1.0


def listen_for_stop() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Another signal, more than a second later, ends the process at once."""
    loop, stop, first = asyncio.get_running_loop(), asyncio.Event(), math.inf

    def on_signal(number: int, _frame: object) -> None:
        nonlocal first
        # A supervisor may signal every process of a group, and our parent then signals us too: that is one wish.
        if time.monotonic() - first > SAME_WISH_SECONDS:
            os._exit(128 + number)
        first = min(first, time.monotonic())
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop
