"""Signs of life beside a call that is paid for."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from activities import under_way


class BrokenStore:
    """Fails in a way that no store should."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def put_document(self, _key: str, _data: bytes) -> None:
        self.asked.set()
        raise RuntimeError("a defect")


async def test_a_sign_that_fails_costs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with a sign of life, the call beside it keeps its answer."""
    monkeypatch.setattr(under_way, "SIGN_EVERY", timedelta(0))
    store: Any = BrokenStore()
    async with under_way.signs_of_life(store, "att_1"):
        await store.asked.wait()
        await asyncio.sleep(0)
        answer = "the pictures"

    assert answer == "the pictures"
