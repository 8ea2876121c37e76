"""`images`, `links`, `upload`: images of runs as files and links, and images for requests."""

import asyncio
import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from rich.text import Text
from typer import Argument, Option

from cli import options
from cli.errors import CommandFailed
from cli.output import Output
from cli.runs.lookup import await_result, warn_of_deleted
from cli.runs.view import describe_bytes, shorten_path
from cli.session import open_session
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.images.inputs import upload_file
from gpt_image_runs.images.local_backend import make_folder, open_new
from gpt_image_runs.images.signed_links import PictureLinks
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.settings import Settings


def images(
    *,
    run: options.Run,
    out: Annotated[Path, Option(metavar="DIR", help="The folder to write to; created if needed.")],
    tenant: options.Tenant = "default",
    as_json: options.AsJson = False,
) -> None:
    """Copy a run's images out of the image store.

    Each is checked against its hash. If the run is still going on, the command waits for it.
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
    """Write a run's images as REQUEST_ID-1.png and so on; return path, sha256 and bytes of each.

    Raises:
        StoreFailure: an image is missing or damaged.
        CommandFailed: the folder cannot be written.
    """
    stem = result.run_id.rpartition(":")[2]
    files = []
    for number, image in enumerate(result.images, start=1):
        data = await store.read(image.uri)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise CommandFailed(f"The image {image.uri} is not the one of the run: its hash differs.")
        path = folder / f"{stem}-{number}{_extension_of(image)}"
        await asyncio.to_thread(_write, path, data)
        files.append({"path": str(path), "sha256": image.sha256, "bytes": len(data)})
    return files


def _extension_of(image: ImageRef) -> str:
    return {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}[image.media_type]


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically: nobody sees half an image."""
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


def links(*, run: options.Run, tenant: options.Tenant = "default", as_json: options.AsJson = False) -> None:
    """Make links to a run's images.

    Anybody who has a link can view its image until the link expires, and nothing else. If the run is still going on, the command
    waits for it.
    """
    session, output = open_session(), Output(as_json=as_json)
    run_id = options.find_run_id(run, tenant)
    maker = _open_links(session.settings)
    result, _ = asyncio.run(await_result(run_id, session, output))
    result = asyncio.run(warn_of_deleted(result, session, output))
    now = datetime.now(UTC)
    made = [(image, maker.make(image, now)) for image in result.images]
    answer = [
        {"url": link.url, "expires_at": link.expires_at.isoformat(), "sha256": image.sha256}
        for image, link in made
    ]
    until = f"good until {made[0][1].expires_at:%Y-%m-%d %H:%M} UTC" if made else "The run has no images."
    output.answer(
        {"run_id": run_id, "links": answer}, Text("\n".join([*(link.url for _, link in made), until]))
    )


def _open_links(settings: Settings) -> PictureLinks:
    found = PictureLinks.configure(
        settings.image_links_url, settings.image_links_keys(), settings.image_links_days
    )
    if found is None:
        raise CommandFailed(
            "Image links are not configured here: set IMAGE_LINKS_URL and IMAGE_LINKS_SECRET to the worker's values"
            " (docs/how-to/links.md). `images RUN --out DIR` copies the images."
        )
    return found


def upload(
    *,
    file: Annotated[Path, Argument(metavar="FILE", help="A PNG, JPEG or WebP image.")],
    tenant: options.Tenant = "default",
    as_json: options.AsJson = False,
) -> None:
    """Store an image and print its reference.

    Use the reference in the field images, or mask, of a request of the same tenant. The same image is stored once.
    """
    reference = asyncio.run(upload_file(file, open_session().open_store(), owner=tenant))
    Output(as_json=as_json).answer(reference.model_dump(mode="json"), Text(reference.uri))
