"""`edit`: pictures from pictures and a prompt. Local files go into the image store first."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from cli import options
from cli.carry_out import carry_out
from cli.output import Output
from cli.session import Session, open_session
from contracts.problems import Problem
from imaging.inputs import InputsRefused, upload_file
from imaging.store import ImageStore

_REFERENCES = ("file://", "s3://", "data:")


def edit(
    *,
    prompt: options.Prompt,
    image: Annotated[
        list[str],
        Option(metavar="FILE_OR_URI", help="A file, or a reference into the image store; up to 16 of them."),
    ],
    mask: Annotated[
        str | None, Option(metavar="FILE_OR_URI", help="A PNG that is transparent where to draw.")
    ] = None,
    model: options.Model = None,
    n: options.Count = None,
    size: options.Size = None,
    quality: options.Quality = None,
    background: options.Background = None,
    output_format: options.OutputFormat = None,
    output_compression: options.OutputCompression = None,
    moderation: options.Moderation = None,
    input_fidelity: options.InputFidelity = None,
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
    """Edit pictures by a prompt, with or without a mask.

    Local files are put into the image store first. The same --request-id attaches to the run that exists.
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
        input_fidelity=input_fidelity,
        partial_images=partial_images,
        tenant=tenant,
        request_id=request_id,
        missing_usage=missing_usage,
        unknown_outcome=unknown_outcome,
        notify=notify,
        metadata=metadata,
    )
    asyncio.run(_edit(payload, image, mask, session, Output(as_json=as_json), wait=not no_wait))


async def _edit(
    payload: dict[str, Any],
    images: list[str],
    mask: str | None,
    session: Session,
    output: Output,
    *,
    wait: bool,
) -> None:
    store = session.open_store()
    named = [(f"images.{index}", given) for index, given in enumerate(images)]
    if mask:
        named.append(("mask", mask))
    inputs, problems = {}, []
    for field, given in named:
        try:
            inputs[field] = await _refer_to(given, store, payload.get("tenant"))
        except InputsRefused as refused:
            inputs[field] = given
            problems += [problem.model_copy(update={"field": field}) for problem in refused.problems]
    mask_input = inputs.pop("mask", None)
    payload = {**payload, "images": list(inputs.values())} | ({"mask": mask_input} if mask_input else {})
    before: tuple[Problem, ...] = tuple(problems)
    await carry_out(payload, session, output, wait=wait, problems_before=before)


async def _refer_to(given: str, store: ImageStore, tenant: str | None) -> str:
    """The reference itself, or that of the file, which is uploaded."""
    if given.lower().startswith(_REFERENCES):
        return given
    return (await upload_file(Path(given), store, owner=tenant)).uri
