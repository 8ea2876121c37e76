"""`links`: addresses at which a browser shows a run's pictures, for some days."""

import asyncio
from datetime import UTC, datetime

from rich.text import Text

from cli import options
from cli.deleted_pictures import warn_of_deleted
from cli.failures import CommandFailed
from cli.lookup import await_result
from cli.output import Output
from cli.session import open_session
from imaging.picture_links import PictureLinks
from runtime.settings import Settings


def links(*, run: options.Run, tenant: options.Tenant = "default", as_json: options.AsJson = False) -> None:
    """Make links to a run's pictures.

    Whoever has a link may look at its picture until it ends; nothing else. A run that still goes on is waited for.
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
    until = f"good until {made[0][1].expires_at:%Y-%m-%d %H:%M} UTC" if made else "The run has no pictures."
    output.answer(
        {"run_id": run_id, "links": answer}, Text("\n".join([*(link.url for _, link in made), until]))
    )


def _open_links(settings: Settings) -> PictureLinks:
    found = PictureLinks.configure(
        settings.image_links_url, settings.image_links_keys(), settings.image_links_days
    )
    if found is None:
        raise CommandFailed(
            "There are no links to pictures here: set IMAGE_LINKS_URL and IMAGE_LINKS_SECRET as the worker has them"
            " (docs/links.md). `images RUN --out DIR` copies the pictures."
        )
    return found
