"""The simulator's process: its port, its start and its end."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from simulator.http import StartupError
from simulator.server import Simulator

ROOT = Path(__file__).parents[2]
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
ORDER = {"model": "gpt-image-1", "prompt": "abcd", "quality": "low"}


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "simulator", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_process_prints_base_url_and_exits_cleanly_on_signal(tmp_path: Path, ending: signal.Signals) -> None:
    books = tmp_path / "books.jsonl"
    with started("--port", "0", "--books", str(books), "--latency", "0.01") as process:
        assert process.stdout is not None
        base_url = json.loads(process.stdout.readline())["base_url"]
        answer = httpx2.post(
            f"{base_url}/images/generations", json=ORDER, headers={"Authorization": "Bearer a"}, timeout=20
        )
        assert answer.status_code == 200
        process.send_signal(ending)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, "", "")
    assert json.loads(books.read_text())["request_id"] == answer.headers["x-request-id"]


async def test_unusable_port_is_reported_by_class_and_process(simulator: Simulator) -> None:
    """Covers a port that is taken and one out of range."""
    port = httpx2.URL(simulator.base_url).port
    with pytest.raises(StartupError, match=f"cannot listen on 127.0.0.1:{port}: .*in use"):
        await Simulator().start(port=port or 0)
    with pytest.raises(StartupError, match=r"cannot listen on 127\.0\.0\.1:70000"):
        await Simulator().start(port=70_000)
    with started("--port", str(port)) as process:
        _, errors = await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == 1
    assert errors.startswith("The simulator cannot listen on")
    assert "Traceback" not in errors


async def test_stop_aborts_requests_in_progress_unpaid(eventually: Eventually) -> None:
    simulator = Simulator(latency_seconds=3600)
    await simulator.start()
    async with httpx2.AsyncClient(headers={"Authorization": "Bearer a"}, timeout=None) as http:
        call = asyncio.create_task(http.post(f"{simulator.base_url}/images/generations", json=ORDER))
        await eventually(lambda: simulator.in_progress == 1)
        async with asyncio.timeout(20):
            await simulator.stop()
        with pytest.raises(httpx2.TransportError):
            await call
    assert simulator.books.entries == ()
    await simulator.stop()
    with pytest.raises(RuntimeError, match="start it first"):
        _ = simulator.base_url


async def test_client_disconnecting_while_sending_leaves_no_entry(
    simulator: Simulator, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = httpx2.URL(simulator.base_url).host, httpx2.URL(simulator.base_url).port
    _, writer = await asyncio.open_connection(host, port)
    head = "POST /v1/images/generations HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\n"
    writer.write(f'{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"model"'.encode())
    await eventually(lambda: simulator.in_progress == 1)
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: simulator.in_progress == 0)
    assert simulator.books.entries == ()
    await simulator.stop()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_simulator_restarts_on_same_port_with_same_books() -> None:
    simulator = Simulator()
    await simulator.start()
    port = httpx2.URL(simulator.base_url).port or 0
    await simulator.stop()
    await simulator.start(port=port)
    assert simulator.base_url == f"http://127.0.0.1:{port}/v1"
    await simulator.stop()
