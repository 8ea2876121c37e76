"""The command line against the real stack that `up` starts: what a user types, and what comes back."""

import hashlib
import json
import os
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from tests.support.servers.running_stack import (
    Terminal,
    Typed,
    entries_of,
    find_children,
    is_running,
    run_up,
    wait_until,
)

CONTRACT = {
    "model": "gpt-image-1",
    "prompt": "Create a premium product hero shot on a neutral studio background",
    "n": 1,
    "size": "1024x1024",
    "quality": "high",
    "background": "auto",
    "output_format": "png",
}


def size_of(file: str) -> tuple[int, int]:
    with Image.open(file) as picture:
        return picture.size


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A terminal in which the stack of the fixture `up` is known."""
    return Terminal(tmp_path_factory.mktemp("with servers") / "data")


@pytest.fixture(scope="module", autouse=True)
def up(terminal: Terminal, turn: Path) -> Iterator[Typed]:
    """The stack that all tests here share. Stopping it is checked too: a stack of its own would cost a server start."""
    with run_up(terminal, turn) as typed:
        yield typed
        check_stopping(terminal, typed)


def check_stopping(terminal: Terminal, up: Typed) -> None:
    """SIGTERM ends `up` with status 0: no process of it is left, and the directory is free for the next one."""
    children = find_children(up.process.pid)
    ended = up.interrupt(signal.SIGTERM)

    assert len(children) == 3
    assert ended.status == 0
    assert not any(is_running(pid) for pid in children)
    assert terminal.call("doctor").status == 1


def test_the_demo_shows_three_bills(terminal: Terminal) -> None:
    """The demo makes three pictures and bills them: 10 micro-USD a token in and 40 out, and 1,056 tokens estimated."""
    ended = terminal.call("demo", "--json")
    runs = ended.document["runs"]

    assert ended.status == 0
    assert [(run["usage"] or {}).get("output_tokens") for run in runs] == [4160, 4160, None]
    assert [run["cost"]["amount_usd"] for run in runs] == ["0.166630", "0.168610", "0.042240"]
    assert [run["billing"]["state"] for run in runs] == ["billed", "billed", "estimated"]
    assert all(run["provider"]["simulated"] for run in runs)
    assert [size_of(run["files"][0]) for run in runs] == [(1024, 1024)] * 3


def test_the_demo_without_a_stack_brings_its_own(tmp_path: Path) -> None:
    """Alone, the demo starts a stack, shows its table, and leaves nothing that runs; its state stays."""
    alone = Terminal(tmp_path / "data")
    ended = alone.run("demo")

    assert ended.status == 0
    assert "Starting Temporal, its Web UI and the worker" in ended.err
    assert "The ledger's total: 0.377480 USD for 3 runs, simulated: no money was spent" in ended.out
    assert "/namespaces/default/workflows/image%3Ademo%3Ahero-" in ended.out
    assert alone.call("doctor").status == 1
    assert len(alone.call("ledger", "--json").document["entries"]) == 3


def test_the_same_request_id_is_one_run_and_one_bill(terminal: Terminal) -> None:
    """Who sends a request again gets the same result, and neither pays nor is billed twice."""
    words = ("generate", "a fox", "--request-id", "fox", "--tenant", "acme", "--json")
    first, second = terminal.run(*words), terminal.call(*words)

    assert (first.status, second.status) == (0, 0)
    assert first.document == second.document
    assert "Attached to the existing run image:acme:fox" in second.err
    assert len(entries_of(terminal, "image:acme:fox")) == 1
    assert terminal.paid_calls("image:acme:fox") == 1


def test_other_content_under_the_same_id_is_refused(terminal: Terminal) -> None:
    """A request id that stands for something else ends with status 2 and names the difference; nothing is sent."""
    terminal.call("generate", "a hare", "--request-id", "hare")
    ended = terminal.call("generate", "a hound", "--request-id", "hare", "--json")

    assert ended.status == 2
    assert ended.document["status"] == "refused"
    assert "stands for other content already (other in prompt)" in ended.document["message"]
    assert ended.document["differences"] == ["prompt"]
    assert terminal.paid_calls("image:default:hare") == 1


def test_a_run_is_started_awaited_shown_and_its_picture_fetched(terminal: Terminal, tmp_path: Path) -> None:
    """--no-wait comes back with the run, wait and show with its result, images with the file that was stored."""
    started = terminal.call("generate", "an owl", "--request-id", "owl", "--no-wait", "--json").document
    result = terminal.call("wait", "owl", "--json").document
    files = terminal.call("images", "owl", "--out", str(tmp_path / "out"), "--json").document["files"]

    assert {"status": "started", "run_id": "image:default:owl", "attached": False}.items() <= started.items()
    assert started["price_ceiling_usd"].startswith("0.")
    assert result == terminal.call("show", "image:default:owl", "--json").document
    assert [file["path"] for file in files] == [str(tmp_path / "out" / "owl-1.png")]
    fetched = (tmp_path / "out" / "owl-1.png").read_bytes()
    assert hashlib.sha256(fetched).hexdigest() == result["images"][0]["sha256"]


@pytest.mark.parametrize("as_json", [False, True], ids=["people", "machines"])
def test_partial_images_are_shown_as_they_arrive(terminal: Terminal, *, as_json: bool) -> None:
    """Each has a line on stderr with its uri, which is a picture; stdout has the result alone, and its one picture."""
    words = ("--model", "gpt-image-2", "--size", "1024x1024", "--quality", "low", "--partial-images", "2")
    prompt = f"a lantern for {'machines' if as_json else 'people'}"
    ended = terminal.call("generate", prompt, *words, *(("--json",) if as_json else ()))

    told = re.findall(r"partial picture (\d)  file://(\S+)", ended.err)
    assert ended.status == 0
    assert [number for number, _ in told] == ["1", "2"]
    assert [size_of(unquote(file)) for _, file in told] == [(1024, 1024)] * 2
    assert "partial" not in ended.out
    if as_json:
        assert ended.document["usage"]["output_tokens"] == 396
        assert len(ended.document["images"]) == 1


def test_an_edit_takes_local_files(terminal: Terminal, tmp_path: Path) -> None:
    """A local picture and a mask with a transparent part make an edit; the uploaded files stay as they were."""
    Image.new("RGB", (1024, 1024), "navy").save(tmp_path / "sea.png")
    Image.new("RGBA", (1024, 1024), (0, 0, 0, 0)).save(tmp_path / "mask.png")
    words = ("--image", str(tmp_path / "sea.png"), "--mask", str(tmp_path / "mask.png"), "--quality", "low")
    ended = terminal.call("edit", "add a sail", *words, "--json")

    assert ended.status == 0
    assert ended.document["operation"] == "edit"
    assert ended.document["usage"]["input_tokens_details"]["image_tokens"] > 0


def test_the_payload_of_the_contract_comes_from_stdin(terminal: Terminal) -> None:
    """The provider's payload runs as it stands: 23 * 10 + 4,160 * 40 micro-USD, named on one entry."""
    ended = terminal.run("submit", "-", "--json", stdin=json.dumps(CONTRACT).encode())
    result = ended.document
    (entry,) = entries_of(terminal, result["run_id"])

    assert ended.status == 0
    assert result["cost"]["amount_usd"] == entry["amount_usd"] == "0.166630"
    assert result["cost"]["basis"] == entry["basis"] == "token_usage"
    assert result["billing"] == {"state": "billed", "entry_id": entry["entry_id"], "reason": None}
    assert (entry["kind"], entry["tenant"], entry["model"]) == ("charge", "default", "gpt-image-1")
    assert entry["simulated"] is True
    assert entry["created_at"]


def test_costs_and_models_have_their_shapes(terminal: Terminal) -> None:
    """What finance and programs read: sums of the ledger, real apart from simulated, and each model's life and price."""
    terminal.call("generate", "a heron", "--tenant", "zoo", "--request-id", "heron")
    (entry,) = entries_of(terminal, "image:zoo:heron")
    costs = terminal.call("costs", "--by", "tenant", "--tenant", "zoo", "--json").document
    models = {model["model"]: model for model in terminal.call("models", "--json").document["models"]}

    assert [(row["key"], row["runs"], row["charged_usd"]) for row in costs["rows"]] == [
        ("zoo", 1, entry["amount_usd"])
    ]
    assert (costs["totals"]["simulated"]["runs"], costs["totals"]["real"]["runs"]) == (1, 0)
    assert models["gpt-image-1"]["lifecycle"] == "live"
    assert models["gpt-image-1"]["usd_per_million"] == {"input": "10.00", "output": "40.00"}


def test_doctor_finds_everything(terminal: Terminal) -> None:
    """Beside a running stack everything that a run needs answers."""
    ended = terminal.call("doctor", "--json")

    assert ended.status == 0
    assert ended.document["status"] == "ok"
    assert all(check["ok"] for check in ended.document["checks"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_waiting_does_not_stop_the_run(terminal: Terminal, number: signal.Signals) -> None:
    """Ctrl-C during a wait ends with status 130 and one document that names the run, which goes on to its bill."""
    run_id = f"image:default:slow-{int(number)}"
    words = ("[simulate:delay=2] slow", "--request-id", f"slow-{int(number)}", "--json")
    typed = terminal.start("generate", *words)
    typed.wait_until_told("waiting for the provider")
    ended = typed.interrupt(number)

    assert ended.status == 130
    assert ended.document["status"] == "running"
    assert ended.document["run_id"] == run_id
    assert terminal.call("wait", run_id, "--json").document["billing"]["state"] == "billed"
    assert terminal.paid_calls(run_id) == 1


def test_a_failed_run_has_status_1(terminal: Terminal) -> None:
    """What the provider will not do ends with status 1 and the failure's name, and bills nothing."""
    ended = terminal.call(
        "generate", "[simulate:insufficient_quota] a fox", "--request-id", "broke", "--json"
    )

    assert ended.status == 1
    assert ended.document["status"] == "failed"
    assert ended.document["failure_type"] == "QuotaExhausted"
    assert entries_of(terminal, "image:default:broke") == []


def test_a_second_up_says_where_the_first_is(terminal: Terminal, up: Typed) -> None:
    """`up` where a stack runs ends with status 0, and tells the same as the first."""
    ended = terminal.run("up", "--json")

    assert ended.status == 0
    assert ended.document == json.loads(up.out.read_text())
    assert ended.document["pid"] == up.process.pid


def test_a_killed_worker_is_started_again(terminal: Terminal, up: Typed) -> None:
    """`up` says that the worker was lost and starts it again; runs go on."""
    (worker,) = [pid for pid, words in find_children(up.process.pid).items() if "worker.py" in words]
    os.kill(worker, signal.SIGKILL)
    up.wait_until_told("The worker exited unexpectedly (exit status -9); restarting it.")

    assert terminal.call("generate", "a phoenix", "--json").document["status"] == "completed"


def test_a_day_is_compared_with_the_provider_s_books(terminal: Terminal) -> None:
    """`reconcile-provider` shows the day with what was bought on it, status 1 only where something stays unexplained."""
    terminal.call("generate", "a ledger", "--model", "gpt-image-2.5-flare", "--quality", "low")
    today = datetime.now(UTC).date().isoformat()
    ended = terminal.call("reconcile-provider", "--day", today, "--json")
    comparison = ended.document["comparison"]

    assert (comparison["day"], comparison["provider"]) == (today, "simulator")
    assert ended.status == (1 if comparison["verdict"] == "unexplained" else 0)
    assert "The day is not over" in ended.err
    [model] = [model for model in comparison["models"] if model["model"] == "gpt-image-2.5-flare"]
    assert (model["requests"], model["provider_requests"], model["difference_usd"]) == (1, 1, "0.000000")
    assert terminal.call("reconcile-provider", "--day", today).status == ended.status


def test_up_is_told_to_stop_while_it_starts(tmp_path: Path) -> None:
    """Ctrl-C while servers come up ends them, with status 130 and one document."""
    terminal = Terminal(tmp_path / "data")
    up = terminal.start("up", "--json")
    wait_until(lambda: bool(find_children(up.process.pid)))
    children = find_children(up.process.pid)
    ended = up.interrupt(signal.SIGINT)

    assert ended.status == 130
    assert ended.document == {"status": "interrupted", "message": "Interrupted."}
    assert not any(is_running(pid) for pid in children)
