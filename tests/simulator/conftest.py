"""Provide a simulator for each test, the real SDK connected to it, and images to send."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import pytest
from openai import AsyncOpenAI
from PIL import Image

from simulator.server import Simulator

MakePicture = Callable[..., bytes]
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=simulator.base_url, api_key="sk-test", max_retries=0, timeout=20) as sdk:
        yield sdk


@pytest.fixture
async def http(simulator: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    """Provide a plain HTTP client for requests that the SDK cannot send."""
    headers = {"Authorization": "Bearer sk-test"}
    async with httpx2.AsyncClient(base_url=simulator.base_url, headers=headers, timeout=20) as raw:
        yield raw


@pytest.fixture
def make_picture() -> MakePicture:
    """Provide a factory of image bytes: make_picture("RGB", (64, 64), "red", "PNG")."""

    def make(mode: str, size: tuple[int, int], color: object, file_format: str = "PNG") -> bytes:
        buffer = io.BytesIO()
        Image.new(mode, size, color).save(buffer, file_format)  # type: ignore[arg-type]  # a colour of any mode
        return buffer.getvalue()

    return make


@pytest.fixture
def eventually() -> Eventually:
    """Provide a wait for a condition, which fails if it never holds."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    return wait
