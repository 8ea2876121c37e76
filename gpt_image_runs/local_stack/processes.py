"""Supervise child processes: start, watch and restart them, and end them with their parent."""

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
# Loaded before any fork, because a child between fork and exec must not import or take locks.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PAUSE_BEFORE_RESTART_SECONDS = 1.0


class ProcessFailed(Exception):
    """A child process did not start. The message has the end of its log."""


class ChildProcess:
    """One program that should keep running, with its output in a log file. `umask` -1 inherits ours."""

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
        """The process id, or None while it is not running."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the program."""
        self._process = await self._spawn()

    def watch(self, on_restart: Callable[[str], None]) -> None:
        """Restart the program whenever it exits, until `stop`."""
        self._watcher = asyncio.create_task(self._keep_running(on_restart))

    async def stop(self, *, patience_seconds: float) -> None:
        """Terminate the program, and kill it after `patience_seconds`."""
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
        """Build the error for a program that is not running: its exit status and the log of this start."""
        code = self._process.returncode if self._process else None
        with contextlib.suppress(OSError):
            written = self.log.read_bytes()[self._log_began :].decode(errors="replace")
            tail = "\n".join(written.splitlines()[-8:])
            return ProcessFailed(
                f"The {self.name} did not start (exit status {code}). From {self.log}:\n{tail}"
            )
        return ProcessFailed(f"The {self.name} did not start (exit status {code}).")

    async def _keep_running(self, on_restart: Callable[[str], None]) -> None:
        while self._process:
            code = await self._process.wait()
            on_restart(f"The {self.name} exited unexpectedly (exit status {code}); restarting it.")
            await asyncio.sleep(_PAUSE_BEFORE_RESTART_SECONDS)
            try:
                self._process = await self._spawn()
            except OSError as error:
                on_restart(f"The {self.name} cannot be started: {error}. Trying again.")

    async def _spawn(self) -> asyncio.subprocess.Process:
        self.log.touch(mode=0o600)  # it holds providers' error texts and the ids of runs
        with self.log.open("ab") as output:
            self._log_began = output.tell()
            return await asyncio.create_subprocess_exec(
                *self._command,
                env=dict(self._environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Its own session, so that Ctrl-C reaches only us, and we stop the children in the right order.
                start_new_session=True,
                umask=self._umask,
                preexec_fn=_exit_with_parent if _LIBC else None,
            )


def _exit_with_parent() -> None:
    """Have the kernel end this child if the parent is killed, so that it does not keep our ports."""
    if _LIBC:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


LOOPBACK = "127.0.0.1"


def choose_port(preferred: int = 0) -> int:
    """Return `preferred` if it is free, otherwise a free port chosen by the system."""
    for candidate in (preferred, 0):
        with socket.socket() as probe:
            # As servers do, so that a lingering connection of the last run does not count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("No free port on 127.0.0.1.")


SAME_SIGNAL_SECONDS = 1.0


def listen_for_stop() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set.

    Another signal more than a second later exits at once.
    """
    loop, stop, first = asyncio.get_running_loop(), asyncio.Event(), math.inf

    def on_signal(number: int, _frame: object) -> None:
        nonlocal first
        # A supervisor may signal the whole process group, and our parent then signals us too: that counts once.
        if time.monotonic() - first > SAME_SIGNAL_SECONDS:
            os._exit(128 + number)
        first = min(first, time.monotonic())
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop
