"""Options that several commands share, and the payload built from them. Values are checked later."""

import getpass
import re
from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, TypeVar

from typer import Argument, Option

from cli.errors import RequestRefused
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.request import REQUEST_ID_PATTERN, TENANT_PATTERN

T = TypeVar("T")

AsJson = Annotated[bool, Option("--json", help="One JSON document on stdout.")]
Tenant = Annotated[str, Option(help="The run's tenant.")]
AnyTenant = Annotated[str | None, Option(help="This tenant only.")]
Run = Annotated[str, Argument(metavar="RUN", help="A run's id, or its request id.")]
Reason = Annotated[str | None, Option(help="The reason; recorded on the entry.")]
Actor = Annotated[
    str | None, Option(help="Who decides; recorded on the entry. Default: this machine's user.")
]
NoWait = Annotated[bool, Option("--no-wait", help="Do not wait for the run's end.")]
RequestId = Annotated[
    str | None, Option(help="Your own id; the same id attaches to the existing run. Default: a new id.")
]

Prompt = Annotated[str, Argument(metavar="PROMPT", help="What to draw or change.")]
Model = Annotated[str | None, Option(help="Default: the setting DEFAULT_MODEL.")]
Count = Annotated[int | None, Option("--n", help="How many images, 1 to 10.")]
Size = Annotated[str | None, Option(help="auto, or WIDTHxHEIGHT in pixels.")]
Quality = Annotated[str | None, Option(help="auto, low, medium or high.")]
Background = Annotated[str | None, Option(help="auto, opaque or transparent.")]
OutputFormat = Annotated[str | None, Option(help="png, jpeg or webp.")]
OutputCompression = Annotated[int | None, Option(help="0 to 100 percent, for jpeg and webp.")]
Moderation = Annotated[str | None, Option(help="auto or low.")]
InputFidelity = Annotated[str | None, Option(help="low or high, if the model supports it.")]
PartialImages = Annotated[
    int | None,
    Option(help="1 to 3 preview images, shown as they arrive; each is billed."),
]
MissingUsage = Annotated[
    str | None, Option(help="If the provider reports no usage: estimate the bill, or hold it.")
]
UnknownOutcome = Annotated[
    str | None,
    Option(
        help="If a request may have been charged without an answer: resend it, or hold the run for a decision."
    ),
]
Notify = Annotated[
    str | None, Option(metavar="URL", help="Webhook URL called when the run ends (docs/how-to/notify.md).")
]
Metadata = Annotated[
    list[str] | None, Option(metavar="KEY=VALUE", help="Recorded on the ledger's entry; can be repeated.")
]


# The options of a request in the order of --help, with their defaults.
_OF_A_REQUEST: dict[str, tuple[Any, Any]] = {
    "model": (Model, None),
    "n": (Count, None),
    "size": (Size, None),
    "quality": (Quality, None),
    "background": (Background, None),
    "output_format": (OutputFormat, None),
    "output_compression": (OutputCompression, None),
    "moderation": (Moderation, None),
    "input_fidelity": (InputFidelity, None),
    "partial_images": (PartialImages, None),
    "tenant": (Tenant, "default"),
    "request_id": (RequestId, None),
    "missing_usage": (MissingUsage, None),
    "unknown_outcome": (UnknownOutcome, None),
    "notify": (Notify, None),
    "metadata": (Metadata, None),
}


def with_request_options(
    *without: str, **changed: tuple[Any, Any]
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a command the options of a request in place of its parameter `given`, which gets their values by name.

    `changed` has the type and the default of options that differ from the usual ones.
    """
    options = {name: option for name, option in {**_OF_A_REQUEST, **changed}.items() if name not in without}

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        def run(**values: Any) -> T:
            given = {name: values.pop(name) for name in options}
            return command(given=given, **values)

        parameters: list[Parameter] = []
        for name, parameter in signature(command).parameters.items():
            parameters += (
                [
                    Parameter(option, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
                    for option, (kind, default) in options.items()
                ]
                if name == "given"
                else [parameter]
            )
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        # Typer reads both: the order and the defaults here, the types there.
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def make_payload(given: dict[str, Any], default_model: str, **more: Any) -> dict[str, Any]:
    """Build the request's payload from the given options, with the default model if none is given.

    Raises:
        RequestRefused: a metadata option has no "=".
    """
    named = {**given, "model": given["model"] or default_model, **more}
    metadata = named.pop("metadata")
    payload = {name: value for name, value in named.items() if value is not None}
    return payload | ({"metadata": _read_metadata(metadata)} if metadata else {})


def find_run_id(run: str, tenant: str) -> str:
    """Return the run id: `run` itself if it is one, otherwise built from a request id and `tenant`.

    Raises:
        RequestRefused: it is neither.
    """
    if re.fullmatch(f"image:{TENANT_PATTERN[1:-1]}:{REQUEST_ID_PATTERN[1:-1]}", run):
        return run
    if re.fullmatch(REQUEST_ID_PATTERN, run) and re.fullmatch(TENANT_PATTERN, tenant):
        return names.run_id_for(tenant, run)
    raise RequestRefused(
        f"{run!a} is not a valid run. Use the run's id, such as image:acme:req-1, or a request id and its --tenant."
    )


def _read_metadata(pairs: list[str]) -> dict[str, str]:
    metadata = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name in metadata:
            why = "is given twice" if equals else "has no value"
            raise RequestRefused(f"--metadata {pair!a} {why}. Use KEY=VALUE, each key once.")
        metadata[name] = value
    return metadata


def find_actor(given: str | None) -> str:
    """Return who decides: as given, otherwise this machine's user.

    Raises:
        RequestRefused: the machine does not know its user.
    """
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise RequestRefused("This machine's user is not known. Use --actor NAME.") from None
