"""Run the same three steps on DBOS (call, cost, bill) as an experienced user of DBOS would write them.

DBOS keeps its checkpoints in a SQLite file with a write-ahead log, synced like Temporal's file here. The image is
fsynced before its step ends, and the bill is a row in its own file, synced like our ledger. Attempts are not recorded
before they are sent, images are not verified, and bills are not estimated, chained or explained.
"""

import asyncio
import base64
import hashlib
import os
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import openai
from dbos import DBOS, SetWorkflowID
from sqlalchemy import Engine, event

_BILLS = """
CREATE TABLE IF NOT EXISTS bills (
    run_id TEXT PRIMARY KEY, amount_micro_usd INTEGER NOT NULL, usage TEXT NOT NULL, picture TEXT NOT NULL
)
"""
_FOLDER = Path(os.environ.get("DATA_DIR", ".data"))
_CHECKPOINTS, _BILLS_FILE = _FOLDER / "dbos.db", _FOLDER / "dbos-bills.db"
_sdk: list[openai.AsyncOpenAI] = []


@DBOS.step()
async def call_provider(payload: dict[str, Any]) -> dict[str, Any]:
    answer = await _sdk[0].images.generate(**payload)
    assert answer.data
    assert answer.usage
    picture = await asyncio.to_thread(_save_image, answer.data[0].b64_json or "")
    return {"picture": picture, "usage": answer.usage.model_dump()}


@DBOS.step()
async def compute_cost(usage: dict[str, Any]) -> int:
    return int(10 * usage["input_tokens"] + 40 * usage["output_tokens"])


@DBOS.step()
async def record_bill(run_id: str, amount_micro_usd: int, call: dict[str, Any]) -> None:
    await asyncio.to_thread(_write_bill, run_id, amount_micro_usd, call)


@DBOS.workflow()
async def dbos_run(payload: dict[str, Any]) -> dict[str, Any]:
    call = await call_provider(payload)
    amount = await compute_cost(call["usage"])
    await record_bill(DBOS.workflow_id or "", amount, call)
    return {**call, "amount_micro_usd": amount}


@asynccontextmanager
async def open_dbos(sdk: openai.AsyncOpenAI) -> AsyncIterator[None]:
    """Launch DBOS while the block runs, for `run_on_dbos`."""
    _sdk[:] = [sdk]
    with closing(_connect(_BILLS_FILE)) as connection:
        connection.execute(_BILLS)
    _connect(_CHECKPOINTS).close()
    event.listen(Engine, "connect", _set_synchronous_normal)
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{_CHECKPOINTS}", "log_level": "WARNING"})
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()


async def run_on_dbos(payload: dict[str, Any]) -> None:
    """Execute one run to its end."""
    with SetWorkflowID(f"dbos-{uuid.uuid4().hex}"):
        await dbos_run(payload)


def _save_image(encoded: str) -> str:
    data = base64.b64decode(encoded)
    path = _FOLDER / f"dbos-{hashlib.sha256(data).hexdigest()}.png"
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return str(path)


def _write_bill(run_id: str, amount_micro_usd: int, call: dict[str, Any]) -> None:
    with closing(_connect(_BILLS_FILE)) as connection:
        bill = (run_id, amount_micro_usd, repr(call["usage"]), call["picture"])
        connection.execute("INSERT OR IGNORE INTO bills VALUES (?, ?, ?, ?)", bill)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _set_synchronous_normal(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")
