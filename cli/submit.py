"""`submit`: one request as JSON, as another program would send it."""

import asyncio
from typing import Annotated

from typer import Argument

from cli import options
from cli.carry_out import carry_out
from cli.documents import name_source, read_document, read_source
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
    payload = read_document(read_source(file), name_source(file))
    asyncio.run(carry_out(payload, open_session(), Output(as_json=as_json), wait=not no_wait))
