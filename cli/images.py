"""`images`: a run's pictures as files, checked to be what was stored."""

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from rich.text import Text
from typer import Option

from cli import options
from cli.deleted_pictures import warn_of_deleted
from cli.failures import CommandFailed
from cli.lookup import await_result
from cli.output import Output
from cli.run_view import describe_bytes, shorten_path
from cli.session import open_session
from contracts.images import ImageRef
from contracts.result import RunResult
from imaging.durable_files import make_folder, open_new
from imaging.store import ImageStore


def images(
    *,
    run: options.Run,
    out: Annotated[Path, Option(metavar="DIR", help="Where to put them; made if it is not there.")],
    tenant: options.Tenant = "default",
    as_json: options.AsJson = False,
) -> None:
    """Copy a run's pictures out of the image store.

    Each is checked against its hash. A run that still goes on is waited for.
    """
    session, output = open_session(), Output(as_json=as_json)
    run_id = options.find_run_id(run, tenant)
    result, _ = asyncio.run(await_result(run_id, session, output))
    result = asyncio.run(warn_of_deleted(result, session, output))
    files = asyncio.run(copy_images(result, session.open_store(), out))
    lines = [
        f"{shorten_path(Path(file['path']).resolve())}  {describe_bytes(file['bytes'])}" for file in files
    ]
    output.answer({"run_id": run_id, "files": files}, Text("\n".join(lines)))


async def copy_images(result: RunResult, store: ImageStore, folder: Path) -> list[dict[str, Any]]:
    """Writes the pictures of a run as REQUEST_ID-1.png and so on; returns path, sha256 and bytes of each.

    Raises:
        StoreFailure: a picture is not there, or not what was stored.
        CommandFailed: the folder cannot be written.
    """
    stem = result.run_id.rpartition(":")[2]
    files = []
    for number, image in enumerate(result.images, start=1):
        data = await store.read(image.uri)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise CommandFailed(f"The picture {image.uri} is not the one of the run: its hash differs.")
        path = folder / f"{stem}-{number}{_extension_of(image)}"
        await asyncio.to_thread(_write, path, data)
        files.append({"path": str(path), "sha256": image.sha256, "bytes": len(data)})
    return files


def _extension_of(image: ImageRef) -> str:
    return {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}[image.media_type]


def _write(path: Path, data: bytes) -> None:
    """A whole file or none: whoever looks sees no half of a picture."""
    draft = path.with_name(f".{path.name}.part")
    try:
        make_folder(path.parent)
        draft.unlink(missing_ok=True)
        with open_new(draft) as file:
            file.write(data)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise CommandFailed(f"{path} cannot be written ({error.strerror}). Choose another folder.") from error
