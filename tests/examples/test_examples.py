"""The examples of docs/how-to/integrate.md, docs/how-to/stream.md and docs/tutorial, run against the stack that `make up` starts."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gpt_image_runs.local_stack.temporal_server import find_temporal_binary
from tests.support.servers.running_stack import Terminal, Typed, entries_of, run_up

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
# Writes a file where Python shuts down: each Python process of a neighbour imports it.
MARK_SHUTDOWN = """
import atexit, os, pathlib
mark = pathlib.Path(os.environ["SHUTDOWN_MARK"])
atexit.register(mark.touch)
"""
OLDEST_NODE = 20
TUTORIALS = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
# Typed by a reader before the commands that a test runs.
SET_UP = ("make up\n", "source .venv/bin/activate\n")


@dataclass(frozen=True)
class Neighbour:
    """A team beside ours: a folder with what the base wheel needs and nothing else, and where Temporal is."""

    folder: Path
    address: str
    http_url: str

    @property
    def shutdown_mark(self) -> Path:
        """A file that is there once a Python process of this folder has shut down as usual."""
        return self.folder / "shut-down"

    def run(self, *command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in that folder."""
        program = find_temporal_binary()
        assert program
        environment = {
            **os.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "TEMPORAL_ADDRESS": self.address,
            "TEMPORAL_HTTP": self.http_url,
            "SHUTDOWN_MARK": str(self.shutdown_mark),
        }
        return subprocess.run(
            command,
            cwd=folder or self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    return Terminal(tmp_path_factory.mktemp("examples") / "data")


@pytest.fixture(scope="module")
def up(terminal: Terminal, turn: Path) -> Iterator[Typed]:
    with run_up(terminal, turn) as typed:
        yield typed


@pytest.fixture(scope="module")
def neighbour(up: Typed, tmp_path_factory: pytest.TempPathFactory) -> Neighbour:
    folder = tmp_path_factory.mktemp("neighbour")
    for package in ("client", "contracts"):
        shutil.copytree(ROOT / "gpt_image_runs" / package, folder / "gpt_image_runs" / package)
    shutil.copy(ROOT / "gpt_image_runs" / "__init__.py", folder / "gpt_image_runs" / "__init__.py")
    (folder / "sitecustomize.py").write_text(MARK_SHUTDOWN)
    told = json.loads(up.out.read_text())
    return Neighbour(folder, told["temporal_address"], told["http_url"])


def validate(document: Any, name: str) -> None:
    schema = json.loads(
        (ROOT / "gpt_image_runs" / "contracts" / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    )
    Draft202012Validator(schema).validate(document)


def validate_result(result: Any) -> None:
    validate(result, "run-result")


def read_amount(terminal: Terminal, request_id: str) -> str:
    """Return the amount of the one entry of a run."""
    (entry,) = entries_of(terminal, f"image:acme:{request_id}")
    return str(entry["amount_usd"])


def test_untyped_python_example_starts_a_run_and_reads_its_result(
    neighbour: Neighbour, terminal: Terminal
) -> None:
    """By names and plain JSON, a run is started and its result is valid by the schema."""
    ended = neighbour.run(sys.executable, str(EXAMPLES / "python_untyped.py"), "untyped")

    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    validate_result(result)
    assert result["cost"]["amount_usd"] == read_amount(terminal, "untyped")


def test_typed_python_example_gets_receipt_image_and_bill(neighbour: Neighbour, terminal: Terminal) -> None:
    """With client/ and contracts/ and nothing else of ours, a run has its receipt, its image and its bill."""
    ended = neighbour.run(sys.executable, str(EXAMPLES / "python_typed.py"), "typed")

    assert ended.returncode == 0, ended.stderr
    receipt, image, bill = ended.stdout.splitlines()
    # 196 tokens of a picture at 30 micro-USD, and at most 120 of input at 8: the prompt's 20 bytes and 100 around it
    assert receipt == "accepted, at most 0.006840 USD"
    assert re.fullmatch(r"[1-9][0-9]+ bytes of file:///.*\.png", image)
    assert bill == f"{read_amount(terminal, 'typed')} USD, billed"


def test_partial_images_example_gets_two_partial_images_and_the_bill(
    neighbour: Neighbour, terminal: Terminal
) -> None:
    """A subscriber is told of two partial pictures and then of the finished one, whose bill counts them."""
    ended = neighbour.run(sys.executable, str(EXAMPLES / "partial_images.py"), "partial")

    assert ended.returncode == 0, ended.stderr
    first, second, finished = ended.stdout.splitlines()
    assert first.startswith("partial picture 1: file://")
    assert second.startswith("partial picture 2: file://")
    amount = read_amount(terminal, "partial")
    assert finished.endswith(f" costs {amount} USD")
    # 12 tokens of text at 5 micro-USD, 196 of the picture and 200 of the partial ones at 30
    assert amount == "0.011940"


def test_typescript_example_compiles_and_runs(
    neighbour: Neighbour, terminal: Terminal, tmp_path: Path
) -> None:
    """It is compiled with all checks, and carried out by Node."""
    version = (
        subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
        if shutil.which("node")
        else ""
    )
    if not version or int(version.lstrip("v").partition(".")[0]) < OLDEST_NODE or not shutil.which("npm"):
        pytest.skip(f"needs Node {OLDEST_NODE} or newer and npm; found {version.strip() or 'none'}")
    if neighbour.run("npm", "ping", "--fetch-retries=0", "--fetch-timeout=10000").returncode:
        pytest.skip("no npm registry answers, and @temporalio/client comes from there")
    for name in ("package.json", "tsconfig.json", "start.ts"):
        shutil.copy(EXAMPLES / "typescript" / name, tmp_path)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
    installed = neighbour.run("npm", "install", *options, folder=tmp_path)
    assert installed.returncode == 0, installed.stderr

    ended = neighbour.run("npm", "start", "--silent", "--", "typescript", folder=tmp_path)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads(ended.stdout)
    validate_result(result)
    assert result["cost"]["amount_usd"] == read_amount(terminal, "typescript")


def test_http_example_starts_and_awaits_a_run(neighbour: Neighbour, terminal: Terminal) -> None:
    """Over HTTP a run is started, asked and awaited; its result is valid by the schema, with its empty lists as null."""
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    ended = neighbour.run("sh", str(EXAMPLES / "curl.sh"), "http")

    assert ended.returncode == 0, ended.stderr
    assert '"stage"' in ended.stderr
    (event,) = json.loads(ended.stdout)["history"]["events"]
    (result,) = event["workflowExecutionCompletedEventAttributes"]["result"]
    validate_result(result)
    assert result["cost"]["flags"] is None
    assert result["cost"]["amount_usd"] == read_amount(terminal, "http")


def test_temporal_command_line_example_runs(neighbour: Neighbour, terminal: Terminal) -> None:
    """With Temporal's own command line, quoting the arguments as a shell reads them."""
    ended = neighbour.run("sh", str(EXAMPLES / "cli.sh"), "command-line")

    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)["result"]
    validate_result(result)
    assert '"expected_usd":"0.005880"' in re.sub(r'"\s*:\s*"', '":"', ended.stderr)
    assert result["cost"]["amount_usd"] == read_amount(terminal, "command-line")


def test_nexus_example_makes_an_image_through_the_endpoint(neighbour: Neighbour, terminal: Terminal) -> None:
    """A workflow in a namespace of its own has a picture made, by the contract, through the endpoint that `make up` makes."""
    made = neighbour.run("temporal", "operator", "namespace", "create", "--namespace", "shop")
    assert made.returncode == 0, made.stderr

    ended = neighbour.run(sys.executable, str(EXAMPLES / "nexus.py"), "shop", "page-1")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(f" costs {read_amount(terminal, 'page-1')} USD, billed\n")


@pytest.mark.parametrize(
    "program",
    [
        ("python_untyped.py", "shut-1"),
        ("python_typed.py", "shut-2"),
        ("partial_images.py", "shut-3"),
        ("nexus.py", "store", "shut-4"),
    ],
    ids=lambda program: program[0],
)
def test_python_example_ends_without_interpreter_shutdown(
    neighbour: Neighbour, program: tuple[str, ...]
) -> None:
    """The SDK's threads may crash a process in its shutdown, and a crash is no exit status of a run that is billed."""
    neighbour.run("temporal", "operator", "namespace", "create", "--namespace", "store")
    neighbour.run(sys.executable, "-c", "import temporalio")
    assert neighbour.shutdown_mark.exists()
    neighbour.shutdown_mark.unlink()
    name, *arguments = program

    ended = neighbour.run(sys.executable, str(EXAMPLES / name), *arguments)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(("billed\n", "USD\n", "}\n"))
    assert not neighbour.shutdown_mark.exists()


@pytest.mark.parametrize("name", ["python_untyped.py", "python_typed.py", "partial_images.py"])
def test_failing_python_example_has_status_1(neighbour: Neighbour, unused_tcp_port: int, name: str) -> None:
    cut_off = replace(neighbour, address=f"127.0.0.1:{unused_tcp_port}")

    ended = cut_off.run(sys.executable, str(EXAMPLES / name), "cut-off")

    assert ended.returncode == 1
    told = (
        "TemporalUnavailable: No Temporal server answers"
        if name == "python_typed.py"
        else "RuntimeError: Failed client connect"
    )
    assert told in ended.stderr
    assert not neighbour.shutdown_mark.exists()


def test_three_examples_with_one_request_id_are_one_bill(neighbour: Neighbour, terminal: Terminal) -> None:
    """The same request from three ways, one after the other, is one run to each of them and one payment."""
    first = neighbour.run(sys.executable, str(EXAMPLES / "python_untyped.py"), "shared")
    second = neighbour.run("sh", str(EXAMPLES / "cli.sh"), "shared")
    third = neighbour.run(sys.executable, str(EXAMPLES / "python_typed.py"), "shared")

    untyped, command_line = json.loads(first.stdout), json.loads(second.stdout)["result"]
    assert (first.returncode, third.returncode) == (0, 0)
    assert untyped["billing"] == command_line["billing"]
    assert untyped["images"] == command_line["images"]
    assert untyped["images"][0]["uri"] in third.stdout
    assert terminal.paid_calls("image:acme:shared") == 1
    read_amount(terminal, "shared")


@pytest.mark.parametrize(("request_id", "delay"), [("taken", ""), ("busy", " [simulate:delay=3]")])
def test_examples_report_a_conflict_with_its_differences(
    neighbour: Neighbour, terminal: Terminal, request_id: str, delay: str
) -> None:
    """Where the request id stands for something else, the example says what differs, also while that is under way."""
    other = ("A lighthouse at dusk" + delay, "--tenant", "acme", "--request-id", request_id)
    terminal.run("generate", *other, *(("--no-wait",) if delay else ()))

    ended = neighbour.run(sys.executable, str(EXAMPLES / "python_untyped.py"), request_id)
    in_a_shell = neighbour.run("sh", str(EXAMPLES / "cli.sh"), request_id)

    receipt = json.loads(ended.stdout)
    validate(receipt, "submit-receipt")
    assert ended.returncode == 1
    assert receipt["status"] == "conflict"
    assert [difference["field"] for difference in receipt["differences"]] == ["prompt", "quality", "size"]
    assert "(other in prompt, quality, size)" in ended.stderr
    assert '"conflict"' in in_a_shell.stderr
    assert (in_a_shell.returncode, in_a_shell.stdout) == (1, "")
    terminal.run("wait", f"image:acme:{request_id}")
    assert terminal.paid_calls(f"image:acme:{request_id}") == 1


def normalize(line: str) -> str:
    """Collapse spaces and replace dates, which differ in each run."""
    return " ".join(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE", line).split())


def list_missing_lines(shown: str, printed: str) -> list[str]:
    """List the lines of a page that the output lacks, in this order. `...` on the page stands for any text."""
    lines = iter([normalize(line) for line in printed.splitlines()])
    patterns = [re.escape(normalize(line)).replace(r"\.\.\.", ".*") for line in shown.splitlines()]
    return [pattern for pattern in patterns if not any(re.fullmatch(pattern, line) for line in lines)]


@pytest.fixture(scope="module")
def tutorial_terminal(tmp_path_factory: pytest.TempPathFactory, turn: Path) -> Iterator[Terminal]:
    """A stack with an empty ledger, as a reader of the tutorials has it."""
    terminal = Terminal(tmp_path_factory.mktemp("tutorial") / "data")
    with run_up(terminal, turn):
        yield terminal


def test_tutorials_print_what_they_show(tutorial_terminal: Terminal, tmp_path: Path) -> None:
    """The tutorials build on each other: the ledger of the first is read in the others."""
    order = {"first-run.md": 0, "first-batch.md": 1, "first-bill-settled.md": 2}
    for page in sorted(TUTORIALS, key=lambda path: order[path.name]):
        blocks = re.findall(
            r"^```(sh|text)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
        assert blocks
        printed = ""
        for kind, text in blocks:
            if kind == "text":
                assert (page.name, list_missing_lines(text, printed)) == (page.name, [])
            elif text not in SET_UP:
                ended = tutorial_terminal.run_script(text, tmp_path)
                assert ended.status == 0, f"{page.name}: {text}{ended.err}"
                printed = ended.out
