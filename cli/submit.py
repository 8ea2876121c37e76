"""`submit`: one request as JSON, as another program would send it."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument

from cli import options
from cli.carry_out import carry_out
from cli.failures import RequestRefused
from cli.output import Output
from cli.session import open_session


def submit(
    *,
    file: Annotated[str, Argument(metavar="FILE|-", help="A file with one JSON object; - is stdin.")],
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Start the run of one request, given as JSON.

    The payload of the provider's documentation is a request as it stands. Everything that is wrong is listed at once.
    """
    source = "stdin" if file == "-" else file
    payload = read_document(_read(file), source)
    asyncio.run(carry_out(payload, open_session(), Output(as_json=as_json), wait=not no_wait))


def read_document(data: bytes, source: str) -> dict[str, Any]:
    """The one JSON object that `data` holds, read strictly: a program that sends two values for one name means neither.

    Raises:
        RequestRefused: no UTF-8, no JSON, several documents, no object, a name given twice, or NaN.
    """
    try:
        document = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise _refuse(source, f"is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise _refuse(source, _explain(error)) from None
    except (ValueError, RecursionError) as error:
        why = "is nested too deeply" if isinstance(error, RecursionError) else f"is no request: {error}"
        raise _refuse(source, why) from None
    if not isinstance(document, dict):
        raise _refuse(source, "holds JSON, but no object")
    return document


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise _refuse(file, f"cannot be read ({(error.strerror or str(error)).lower()})") from None


def _explain(error: json.JSONDecodeError) -> str:
    place = f"line {error.lineno}, column {error.colno}"
    if not error.doc.strip():
        return "is empty"
    if error.msg == "Extra data":
        return f"holds several JSON documents (the second begins at {place})"
    return f"is no JSON ({error.msg} at {place})"


def _refuse(source: str, why: str) -> RequestRefused:
    return RequestRefused(f"{source} {why}. Give one request as one JSON object; nothing was started.")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!a} is given more than once")
    return document


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
