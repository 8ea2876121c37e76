"""`upload`: a picture into the image store."""

import asyncio
from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import Argument

from cli import options
from cli.output import Output
from cli.session import open_session
from imaging.inputs import upload_file


def upload(
    *,
    file: Annotated[Path, Argument(metavar="FILE", help="A PNG, JPEG or WebP picture.")],
    tenant: options.Tenant = "default",
    as_json: options.AsJson = False,
) -> None:
    """Put a picture into the image store and print its reference.

    The reference goes into the field images, or mask, of a request of that tenant. The same picture is kept once.
    """
    reference = asyncio.run(upload_file(file, open_session().open_store(), owner=tenant))
    Output(as_json=as_json).answer(reference.model_dump(mode="json"), Text(reference.uri))
