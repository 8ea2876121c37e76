"""Commands beside a stack that is not theirs: what they would spend is spent by nobody."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpt_image_runs.database.identity import read_ledger_id
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.temporal.worker_identity import shorten_id
from tests.support.servers.forked_program import ROOT
from tests.support.servers.running_stack import Terminal, Typed, entries_of, run_up

SPENDING = (
    ("generate", "a fox"),
    ("submit", "-"),
    ("batch", "run", "FILE"),
    ("budget", "set", "acme", "--month", "1", "--reason", "a trial"),
    ("reverse", "image:default:own", "--reason", "a trial"),
    ("reconcile-provider", "--schedule"),
)
REQUEST = b'{"model": "gpt-image-2", "prompt": "a fox", "size": "1024x1024", "quality": "low"}'


@dataclass(frozen=True)
class NamedTerminal(Terminal):
    """A terminal in which further settings are set."""

    settings: tuple[tuple[str, str], ...] = ()

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), **dict(self.settings)}


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    return Terminal(tmp_path_factory.mktemp("own") / "data")


@pytest.fixture(scope="module")
def up(terminal: Terminal, turn: Path) -> Iterator[Typed]:
    with run_up(terminal, turn) as typed:
        yield typed


@pytest.fixture(scope="module")
def address(up: Typed) -> tuple[str, str]:
    return "TEMPORAL_ADDRESS", json.loads(up.out.read_text())["temporal_address"]


def make_ledger(data_dir: Path) -> str:
    """Create the ledger of a DATA_DIR; return its short id."""
    data_dir.mkdir(exist_ok=True)
    database = open_database(f"sqlite:///{data_dir / 'ledger.db'}", create=True)
    with database.reading() as connection:
        short_id = shorten_id(read_ledger_id(connection))
    database.close()
    return short_id


def count_payments(terminal: Terminal) -> int:
    books = terminal.data_dir / "simulator-books.jsonl"
    return len(books.read_text().splitlines()) if books.exists() else 0


@pytest.mark.usefixtures("up")
def test_terminal_without_a_stack_does_not_use_the_default_port(terminal: Terminal, tmp_path: Path) -> None:
    elsewhere = Terminal(tmp_path / "data")
    before = count_payments(terminal)

    ended = elsewhere.call("generate", "a fox")

    assert ended.status == 1
    assert (
        f"No Temporal server is named, and no embedded stack runs for DATA_DIR {tmp_path / 'data'}."
        in ended.err
    )
    assert "TEMPORAL_ADDRESS" in ended.err
    assert count_payments(terminal) == before


def test_spending_commands_refuse_workers_of_another_ledger(
    terminal: Terminal, address: tuple[str, str], tmp_path: Path
) -> None:
    other = NamedTerminal(tmp_path / "data", (address,))
    theirs, ours = make_ledger(other.data_dir), make_ledger(terminal.data_dir)
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(REQUEST)
    before = count_payments(terminal)

    for words in SPENDING:
        ended = other.call(*(str(lines) if word == "FILE" else word for word in words), stdin=REQUEST)

        assert ended.status == 1, (words, ended)
        assert f"uses the ledger {ours}, and this terminal uses the ledger {theirs} (sqlite:///" in ended.err
        assert "Nothing was sent." in ended.err
    assert count_payments(terminal) == before


def test_doctor_names_both_ledgers(terminal: Terminal, address: tuple[str, str], tmp_path: Path) -> None:
    other = NamedTerminal(tmp_path / "data", (address,))
    theirs, ours = make_ledger(other.data_dir), make_ledger(terminal.data_dir)

    ended = other.call("doctor", "--json")

    (workers,) = [check for check in ended.document["checks"] if check["name"] == "workers"]
    assert (ended.status, workers["ok"]) == (1, False)
    assert ours in workers["message"]
    assert theirs in workers["message"]


def test_spending_command_refuses_workers_of_another_store(
    terminal: Terminal, address: tuple[str, str], tmp_path: Path
) -> None:
    url = (tmp_path / "pictures").as_uri()
    store_id = asyncio.run(ImageStore.from_url(url).find_or_create_id())
    other = NamedTerminal(tmp_path / "data", (address, ("IMAGE_STORE_URL", url)))
    before = count_payments(terminal)

    ended = other.call("generate", "a fox")

    assert store_id
    assert ended.status == 1
    assert f"this terminal uses the image store {shorten_id(store_id)} ({url})" in ended.err
    assert count_payments(terminal) == before


def test_terminal_without_a_ledger_submits_by_temporal_alone(
    terminal: Terminal, address: tuple[str, str], tmp_path: Path
) -> None:
    alone = NamedTerminal(tmp_path / "data", (address, ("PROVIDER", "simulator")))

    ended = alone.call("generate", "a fox", "--request-id", "alone", "--json")

    assert ended.status == 0, ended.err
    assert not (tmp_path / "data" / "ledger.db").exists()
    assert len(entries_of(terminal, "image:default:alone")) == 1


def test_terminal_whose_ledger_does_not_answer_warns(address: tuple[str, str], tmp_path: Path) -> None:
    settings = (
        address,
        ("PROVIDER", "simulator"),
        ("DATABASE_URL", "postgresql://finance@127.0.0.1:1/books"),
    )
    cut_off = NamedTerminal(tmp_path / "data", settings)

    ended = cut_off.call("generate", "a fox", "--request-id", "cut-off", "--json")

    assert ended.status == 0, ended.err
    assert "It is not known whether the workers use the ledger of this terminal:" in ended.err


def test_worker_with_another_ledger_does_not_start(address: tuple[str, str], tmp_path: Path) -> None:
    environment = {
        **os.environ,
        **dict([address]),
        "DATA_DIR": str(tmp_path / "data"),
        "OPENAI_API_KEY": "sk-test",
    }
    for name in ("DATABASE_URL", "IMAGE_STORE_URL"):
        environment.pop(name, None)

    ended = subprocess.run(
        [sys.executable, str(ROOT / "worker.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert f"This worker has the ledger {make_ledger(tmp_path / 'data')}, and the worker " in ended.stderr
    assert ended.stderr.strip().count("\n") == 0


def test_doctor_of_the_stack_reports_no_problem(terminal: Terminal, up: Typed) -> None:
    assert up.process.poll() is None
    ended = terminal.call("doctor", "--json")
    assert ended.status == 0, ended.document
