"""`generate`: pictures from a prompt."""

import asyncio

from cli import options
from cli.carry_out import carry_out
from cli.output import Output
from cli.session import open_session


def generate(
    *,
    prompt: options.Prompt,
    model: options.Model = None,
    n: options.Count = None,
    size: options.Size = None,
    quality: options.Quality = None,
    background: options.Background = None,
    output_format: options.OutputFormat = None,
    output_compression: options.OutputCompression = None,
    moderation: options.Moderation = None,
    partial_images: options.PartialImages = None,
    tenant: options.Tenant = "default",
    request_id: options.RequestId = None,
    missing_usage: options.MissingUsage = None,
    unknown_outcome: options.UnknownOutcome = None,
    notify: options.Notify = None,
    metadata: options.Metadata = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Generate pictures from a prompt.

    The same --request-id attaches to the run that exists: it is one run and one bill.
    """
    session = open_session()
    payload = options.make_payload(
        model=model or session.settings.default_model,
        prompt=prompt,
        n=n,
        size=size,
        quality=quality,
        background=background,
        output_format=output_format,
        output_compression=output_compression,
        moderation=moderation,
        partial_images=partial_images,
        tenant=tenant,
        request_id=request_id,
        missing_usage=missing_usage,
        unknown_outcome=unknown_outcome,
        notify=notify,
        metadata=metadata,
    )
    asyncio.run(carry_out(payload, session, Output(as_json=as_json), wait=not no_wait))
