"""A real browser without a window, driven by its DevTools protocol. No test here."""

import asyncio
import itertools
import os
import shutil
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
    "--remote-debugging-port=0",
)
_PATIENCE_SECONDS = 60


def find_browser() -> str | None:
    """Find a browser that speaks the protocol, or None."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Tab:
    """One page of the browser. `requests` are the addresses that it asked for, `complaints` its errors and warnings."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def open(self, address: str) -> None:
        """Load a page and wait for it."""
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=address)
        while await self.evaluate(f"location.href === {address!r} && document.readyState") != "complete":
            await asyncio.sleep(0.02)

    async def evaluate(self, expression: str) -> Any:
        """Evaluate a script after the page has drawn its changes."""
        drawn = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        answer = await self.call(
            "Runtime.evaluate",
            expression=f"(async () => {{ const value = ({expression}); await {drawn}; return value; }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its answer; events in between are noted."""
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while (message := await self._socket.receive_json()).get("id") != number:
                self._note(message)
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    def _note(self, message: dict[str, Any]) -> None:
        match message:
            case {"method": "Network.requestWillBeSent", "params": {"request": {"url": str(url)}}}:
                if not url.startswith("data:"):
                    self.requests.append(url)
            case {"method": "Runtime.exceptionThrown" | "Log.entryAdded" as method, "params": parameters}:
                self.complaints.append(f"{method}: {parameters}")


@asynccontextmanager
async def open_browser(program: str, profile: Path) -> AsyncIterator[Tab]:
    """Open a browser with a new profile."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [program, *_OPTIONS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        async with ClientSession() as session:
            address = await _find_tab(session, process, profile / "DevToolsActivePort")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                yield Tab(socket)
    finally:
        process.terminate()
        await process.wait()


async def _find_tab(session: ClientSession, process: Process, port_file: Path) -> str:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not (port := _read_first_line(port_file)):
            assert process.returncode is None, f"the browser ended with status {process.returncode}"
            await asyncio.sleep(0.05)
        while True:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                for target in await answer.json():
                    if target["type"] == "page":
                        return str(target["webSocketDebuggerUrl"])
            await asyncio.sleep(0.05)


def _read_first_line(path: Path) -> str | None:
    """Read the first line, or None until it is complete."""
    line, newline, _ = (path.read_text() if path.exists() else "").partition("\n")
    return line if newline else None
