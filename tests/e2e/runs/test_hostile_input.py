"""Hostile requests in one table, as raw JSON: sent straight to the workflow, and read and checked by the command line.

Each is refused with the field's name in words that no terminal can be fooled by; nothing is sent, nothing is written.
Local files and their own limits are in `tests/imaging`, how `submit` reads its input in `tests/cli`.
"""

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowFailureError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from cli.errors import RequestRefused
from cli.files import read_document
from cli.runs.start import check_request
from cli.session import Session
from gpt_image_runs.contracts import names
from tests.support.files.picture_files import make_animation, make_picture, png_of_size
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Stands in the table for the image store's own URI.
ROOT = "STORE:"
WHOLE = "request"
MAX_REFUSAL = 4 * 1024


class Row(NamedTuple):
    """A hostile request: its JSON, the field that the refusal names, and the one at the keyboard where that differs."""

    name: str
    raw: bytes
    field: str
    at_the_keyboard: str | None = None


def wrong(name: str, field: str, value: Any, at: str | None = None) -> Row:
    """Make the documented request with one wrong value; `at` is the place in the field that is named."""
    return Row(name, json.dumps({**CONTRACT, field: value}).encode(), at or field)


def picture(name: str, data: bytes, media_type: str = "image/png") -> Row:
    """Make a request with a wrong image."""
    uri = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return wrong(name, "images", [uri], "images.0")


def text(name: str, members: str, field: str = WHOLE, at_the_keyboard: str | None = None) -> Row:
    """Make a request with members that no library would write."""
    raw = f'{{"model": "gpt-image-1", "prompt": "x", {members}}}'
    return Row(name, raw.encode(), field, at_the_keyboard)


PNG = make_picture("PNG", (64, 64))

REFERENCES = (
    wrong("path traversal", "images", ["../../../etc/passwd"], "images.0"),
    wrong("traversal from the root", "images", [f"{ROOT}../../etc/passwd"], "images.0"),
    wrong("traversal from below", "images", [f"{ROOT}sha256/../../x.png"], "images.0"),
    wrong("encoded traversal", "images", [f"{ROOT}%2e%2e/%2e%2e/etc/passwd"], "images.0"),
    wrong("backslashes", "images", [f"{ROOT}..\\..\\x.png"], "images.0"),
    wrong("NUL in a reference", "images", [f"{ROOT}a.png\x00.txt"], "images.0"),
    wrong("direction in a reference", "images", [f"{ROOT}\u202egnp.a.png"], "images.0"),
    wrong("a file of the machine", "images", ["file:///etc/passwd"], "images.0"),
    wrong("a device", "images", ["file:///dev/zero"], "images.0"),
    wrong("a server inside", "images", ["http://169.254.169.254/latest/meta-data/"], "images.0"),
    wrong("a shell's command", "images", ["$(touch /x);`id`|cat"], "images.0"),
    wrong("the ledger as a picture", "images", [f"{ROOT}../ledger.db"], "images.0"),
)
PICTURES = (
    picture("bomb by its edges", png_of_size(100_000, 100_000)),
    picture("bomb by its pixels", png_of_size(16_000, 16_000)),
    picture("page before a picture", b"<html><script>alert(1)</script>" + PNG),
    picture("GIF before a PNG", b"GIF89a" + PNG),
    picture("ZIP named PNG", b"PK\x03\x04" + PNG),
    picture("JPEG behind a PNG's name", PNG[:8] + make_picture("JPEG")),
    picture("animation", make_animation("PNG")),
    picture("drawing with a script", b"<svg onload='alert(1)'/>", "image/svg+xml"),
    picture("nothing", b""),
)
TYPES = (
    wrong("text for a number", "n", "1"),
    wrong("truth for a number", "n", True),
    wrong("fraction for a number", "n", 1.5),
    wrong("list for a number", "n", [1]),
    wrong("number for a text", "prompt", 5),
    wrong("object for a text", "prompt", {"$ne": ""}),
    wrong("object for a name", "model", {"$gt": ""}),
    wrong("text for a list", "images", "x.png"),
    wrong("list for an object", "metadata", ["a"]),
    wrong("number in metadata", "metadata", {"a": 1}, "metadata.a"),
    wrong("object for a tenant", "tenant", {"id": "acme"}),
    wrong("unknown field", "__proto__", {"admin": True}),
    wrong("unknown field with controls", "\x1b[2J", 1, r"'\x1b[2J'"),
    wrong("unknown field turned round", "\u202en", 1, r"'\u202en'"),
)
NUMBERS = (
    text("NaN", '"n": NaN'),
    text("infinity", '"n": -Infinity'),
    text("beyond a float", '"n": 1e999', at_the_keyboard="n"),
    text("400 digits", f'"n": {"9" * 400}', "n"),
    text("5,000 digits", f'"n": {"9" * 5_000}'),
    text("NaN deep inside", '"metadata": {"a": [NaN]}'),
    wrong("below nothing", "n", -1),
    wrong("beyond 64 bits", "output_compression", 2**64),
    wrong("huge picture", "size", "99999x99999"),
    wrong("digits of another script", "size", "\u0661\u0660\u0662\u0664x\u0661\u0660\u0662\u0664"),
)
SHAPES = (
    text("a name twice", '"n": 1, "n": 10'),
    text("a name twice, escaped", '"n": 1, "\\u006e": 10'),
    text("a name twice with one value", '"n": 1, "n": 1'),
    text("a name twice in metadata", '"metadata": {"a": "1", "a": "2"}'),
    text("a name twice in a picture", '"images": [{"uri": "a", "uri": "b"}]'),
    text("a name with controls twice", r'"\u001b[2J\u202e": 1, "\u001b[2J\u202e": 2'),
    text("deep", f'"metadata": {"[" * 150}{"]" * 150}', "metadata"),
    text("deeper", f'"metadata": {"[" * 100_000}{"]" * 100_000}'),
    text("deep objects", '"metadata": ' + '{"a":' * 100_000 + "1" + "}" * 100_000),
    text("half a surrogate pair", r'"tenant": "\ud800"', at_the_keyboard="tenant"),
    Row("no UTF-8", b'{"model": "gpt-image-1", "prompt": "\xff"}', WHOLE),
    Row("UTF-16", json.dumps(CONTRACT).encode("utf-16"), WHOLE),
    Row("two requests", b"{} {}", WHOLE),
    Row("cut off", b'{"model": "gpt-image-1"', WHOLE),
)
CHOICES = (
    wrong("unknown quality", "quality", "ultra"),
    wrong("quality in capitals", "quality", "HIGH"),
    wrong("unknown background", "background", "green"),
    wrong("unknown format", "output_format", "exe"),
    wrong("unknown moderation", "moderation", "off"),
    wrong("unknown policy", "missing_usage", "ignore"),
    wrong("unknown policy of doubt", "unknown_outcome", "pay"),
    wrong("unknown fidelity", "input_fidelity", "max"),
)
TENANTS = (
    wrong("tenant in capitals", "tenant", "ACME"),
    wrong("tenant composed", "tenant", "caf\u00e9"),
    wrong("tenant decomposed", "tenant", "cafe\u0301"),
    wrong("tenant in full width", "tenant", "\uff41cme"),
    wrong("tenant with a Cyrillic a", "tenant", "\u0430cme"),
    wrong("tenant with the Kelvin sign", "tenant", "\u212aelvin"),
    wrong("tenant with a long s", "tenant", "\u017fam"),
    wrong("tenant with a joiner", "tenant", "ac\u200dme"),
    wrong("tenant turned round", "tenant", "\u202eacme"),
    wrong("tenant on two lines", "tenant", "acme\n"),
    wrong("tenant as a path", "tenant", "../acme"),
    wrong("tenant as another's run", "tenant", "acme:req-1"),
    wrong("tenant as SQL", "tenant", "a'; DROP TABLE runs;--"),
    wrong("tenant as a formula", "tenant", "=cmd|' /C calc'!A0"),
)
IDS = (
    wrong("id with an escape", "request_id", "a\x1b]0;owned\x07"),
    wrong("id with an 8-bit escape", "request_id", "a\x9b2J"),
    wrong("id with NUL", "request_id", "a\x00b"),
    wrong("id turned round", "request_id", "a\u202eb"),
    wrong("id in an isolate", "request_id", "\u2067a\u2069"),
    wrong("id with a line's end", "request_id", "a\r\nX-Api-Key: b"),
    wrong("id as SQL", "request_id", "x' OR '1'='1"),
    wrong("id as a shell's command", "request_id", "$(rm -rf .)"),
    wrong("id as a path", "request_id", "../../x"),
    wrong("id as a template", "request_id", "{{7*7}}%s%n"),
    wrong("id of a megabyte", "request_id", "r" * 1_000_000),
    wrong("user turned round", "user", "\u202eada"),
    wrong("safety identifier with a mark", "safety_identifier", "\u200fada"),
    wrong("metadata name with an escape", "metadata", {"a\x1b[2J": ""}, r"metadata.'a\x1b[2J'"),
    wrong("metadata name turned round", "metadata", {"\u202ea": ""}, r"metadata.'\u202ea'"),
    wrong("metadata name that is not seen", "metadata", {"\u200b": ""}, r"metadata.'\u200b'"),
    wrong("metadata name with a blank after it", "metadata", {"team ": ""}, "metadata.team "),
    wrong("metadata with an 8-bit escape", "metadata", {"a": "\x9b2J"}, "metadata.a"),
    wrong("model as SQL", "model", "x'; DELETE FROM ledger_entries;--"),
    wrong("model turned round", "model", "gpt-image-1\u202e"),
)
PROMPTS = (
    wrong("prompt with NUL", "prompt", "a\x00lamp"),
    wrong("prompt with an escape", "prompt", "\x1b[2J"),
    wrong("prompt with an 8-bit escape", "prompt", "\x9b2J"),
    wrong("prompt of blanks", "prompt", "\u2003\u00a0 \n"),
    wrong("prompt of a megabyte", "prompt", "x" * 1_000_000),
)
HOSTILE = (*REFERENCES, *PICTURES, *TYPES, *NUMBERS, *SHAPES, *CHOICES, *TENANTS, *IDS, *PROMPTS)
EACH = pytest.mark.parametrize("row", HOSTILE, ids=[row.name for row in HOSTILE])


class Traces(NamedTuple):
    """What an outsider sees: requests at the provider, rows in the ledger, files in the image store."""

    requests: int
    runs: int
    attempts: int
    entries: int
    files: frozenset[Path]


def look(stack: Stack) -> Traces:
    """Measure by other means than those of the code under test."""
    path = urlsplit(stack.settings.ledger_url()).path.removeprefix("/")
    with closing(sqlite3.connect(path)) as ledger:
        runs, attempts, entries = (
            ledger.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("runs", "provider_attempts", "ledger_entries")
        )
    files = frozenset(Path(urlsplit(stack.store.root).path).rglob("*"))
    return Traces(len(stack.simulator.books.entries), runs, attempts, entries, files)


def assert_harmless(words: str) -> None:
    """Check a refusal's text: lines of printable ASCII, of a readable length."""
    lines = words.split("\n")
    assert all(line.isascii() and line.isprintable() for line in lines), ascii(words)
    assert len(words) < MAX_REFUSAL


async def send(stack: Stack, raw: bytes) -> ApplicationError:
    """Start a run with bytes that claim to be JSON, and return its refusal."""
    argument = RawValue(Payload(metadata={"encoding": b"json/plain"}, data=raw))
    handle = await stack.start(argument)
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()
    refusal = raised.value.cause
    assert isinstance(refusal, ApplicationError)
    assert refusal.type == names.REQUEST_REFUSED, refusal
    return refusal


async def check(stack: Stack, raw: bytes) -> RequestRefused:
    """Parse and check bytes as `submit` does, and return the refusal."""
    with pytest.raises(RequestRefused) as raised:
        await check_request(read_document(raw, "stdin"), Session(stack.settings, None))
    return raised.value


@EACH
async def test_hostile_payload_ends_its_run_and_leaves_no_trace(stack: Stack, row: Row) -> None:
    """Sent by any program, it ends its run at once: the field is named, and there is no trace anywhere else."""
    before = look(stack)
    refusal = await send(stack, row.raw.replace(ROOT.encode(), stack.store.root.encode()))

    assert [problem["field"] for problem in refusal.details] == [row.field]
    for told in (refusal.message, *(value for problem in refusal.details for value in problem.values())):
        assert_harmless(told)
    assert look(stack) == before


@EACH
async def test_hostile_argument_is_refused_before_a_run_is_started(stack: Stack, row: Row) -> None:
    """Given to the command line, it is refused before any run is started: the same field, as harmless words."""
    before = look(stack)
    refusal = await check(stack, row.raw.replace(ROOT.encode(), stack.store.root.encode()))

    field = row.at_the_keyboard or row.field
    assert [problem.field for problem in refusal.problems] == (
        [] if field == WHOLE and not refusal.problems else [field]
    )
    assert_harmless(str(refusal))
    assert look(stack) == before


async def test_image_reference_through_a_symlinked_folder_is_refused(stack: Stack, tmp_path: Path) -> None:
    """A reference through a folder of the store that is a link leads nowhere, in a run and at the keyboard."""
    (tmp_path / "secret.png").write_bytes(PNG)
    link = Path(urlsplit(stack.store.root).path) / "elsewhere"
    link.symlink_to(tmp_path, target_is_directory=True)
    before = look(stack)
    raw = json.dumps({**CONTRACT, "images": [f"{stack.store.root}elsewhere/secret.png"]}).encode()

    assert [problem["field"] for problem in (await send(stack, raw)).details] == ["images.0"]
    assert [problem.field for problem in (await check(stack, raw)).problems] == ["images.0"]
    assert look(stack) == before
    link.unlink()


async def test_request_id_of_a_refused_image_stays_free(stack: Stack) -> None:
    """Whoever has sent a wrong picture may send the right one under the same id: the refused run wrote nothing."""
    run_id = new_run_id()
    right = await stack.store.put_image(PNG)
    before = look(stack)
    await stack.fail({**CONTRACT, "images": ["file:///etc/passwd"]}, run_id=run_id)

    assert look(stack) == before
    assert (await stack.run({**CONTRACT, "images": [right.uri]}, run_id=run_id)).billing.state == "billed"


async def test_duplicate_name_among_100000_is_found_in_time(stack: Stack) -> None:
    """A workflow's task finds the one name of 100,000 that is given twice in time."""
    members = ",".join(f'"f{number}": 1' for number in [*range(100_000), 99_999])
    refusal = await send(stack, f"{{{members}}}".encode())

    assert "several values for the name 'f99999'" in refusal.message


async def test_refusal_with_many_problems_is_shortened(stack: Stack) -> None:
    """Of very many problems as many are told as somebody reads, and the number of the rest."""
    raw = json.dumps({**CONTRACT, **{f"\u202e{number}" * 20: "\x1b" * 99 for number in range(280)}}).encode()
    refusal = await send(stack, raw)

    assert len(refusal.details) == 280
    assert_harmless(refusal.message)
    assert refusal.message.endswith(" more")
    assert_harmless(str(await check(stack, raw)))


async def test_prompt_of_ten_megabytes_is_refused(stack: Stack) -> None:
    """The server takes no such run, and the command line names the prompt before it comes to that."""
    before = look(stack)
    payload = {**CONTRACT, "prompt": "x" * 10_000_000}
    run_id = new_run_id()

    with pytest.raises(RPCError):
        await stack.start(payload, run_id=run_id)
    with pytest.raises(RPCError, match="not found"):
        await stack.client.get_workflow_handle(run_id).describe()
    refusal = await check(stack, json.dumps(payload).encode())

    assert [problem.field for problem in refusal.problems] == ["prompt"]
    assert_harmless(str(refusal))
    assert look(stack) == before


async def test_prompt_with_bidirectional_marks_and_sql_is_accepted(stack: Stack) -> None:
    """Marks of direction, joiners and SQL are words like any other in a prompt and in the values of metadata."""
    words = (
        "\u200f\u0645\u0635\u0628\u0627\u062d\u202c '; DROP TABLE runs;-- $(id) \U0001f469\u200d\U0001f52c"
    )
    result = await stack.run(
        {**CONTRACT, "quality": "low", "prompt": words, "metadata": {"\u0646\u0627\u0645 a'b": words}}
    )

    assert result.billing.state == "billed"
    assert len(stack.calls(result.run_id)) == 1
