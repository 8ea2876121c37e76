"""The rules of a model, checked before anything is sent.

Each field has one function that returns the problem it finds, or None. Rules for all models are in
`gpt_image_runs.contracts.request`; whether a model may be called is decided in `gpt_image_runs.provider.catalog`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from gpt_image_runs.contracts.problems import Problem, describe_value
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.request_parsing import ALLOWED, read_request
from gpt_image_runs.provider.catalog import Catalog, FlexibleSize, ModelEntry, ResolvedModel, resolve_model

_DEFAULT_FORMAT = "png"
_FORMATS_WITH_ALPHA = ("png", "webp")
_FORMATS_WITH_COMPRESSION = ("jpeg", "webp")


def check_rules(request: ImageRequest, entry: ModelEntry) -> tuple[Problem, ...]:
    """Return everything that the model does not allow, in the order of the request's fields, at most one problem a field."""
    found = (check(request, entry) for check in _CHECKS)
    return tuple(problem for problem in found if problem)


def check_unknown_model(request: ImageRequest) -> tuple[Problem, ...]:
    """Return what is not allowed on a model that the catalog does not know."""
    if request.partial_images is None:
        return ()
    allowed = f"nothing on {request.model}: the catalog does not know whether its stream reports everything that is billed"
    return (_refuse("partial_images", request.partial_images, allowed),)


def _check_size(request: ImageRequest, entry: ModelEntry) -> Problem | None:
    size, bounds = request.size, entry.flexible_size
    if size is None or size in entry.sizes:
        return None
    if bounds is None:
        return _refuse("size", size, f"on {entry.model}: {_join(entry.sizes)}")
    broken = _find_broken_bounds(size, bounds)
    if not broken:
        return None
    rules = f"{_join((*entry.sizes, 'WIDTHxHEIGHT'))} with {'; '.join(_describe_bounds(bounds))}"
    return _refuse("size", size, f"on {entry.model}: {rules}. It breaks: {'; '.join(broken)}")


def _find_broken_bounds(size: str, bounds: FlexibleSize) -> list[str]:
    if size == "auto":
        return ["a size has to be named"]
    width, height = map(int, size.split("x"))
    shorter, longer = sorted((width, height))
    kept = (
        width % bounds.multiple_of == 0 and height % bounds.multiple_of == 0,
        longer <= bounds.longest_edge,
        longer <= bounds.most_elongated * shorter,
        bounds.fewest_pixels <= width * height <= bounds.most_pixels,
    )
    return [rule for rule, is_kept in zip(_describe_bounds(bounds), kept, strict=True) if not is_kept]


def _describe_bounds(bounds: FlexibleSize) -> tuple[str, str, str, str]:
    return (
        f"both sides divisible by {bounds.multiple_of}",
        f"no side over {bounds.longest_edge}",
        f"a ratio from 1:{bounds.most_elongated} to {bounds.most_elongated}:1",
        f"{bounds.fewest_pixels:,} to {bounds.most_pixels:,} pixels",
    )


def _check_quality(request: ImageRequest, entry: ModelEntry) -> Problem | None:
    if request.quality is None or request.quality in entry.qualities:
        return None
    return _refuse("quality", request.quality, f"on {entry.model}: {_join(entry.qualities)}")


def _check_background(request: ImageRequest, entry: ModelEntry) -> Problem | None:
    if request.background != "transparent":
        return None
    if not entry.transparent_background:
        return _refuse("background", request.background, f"on {entry.model}: auto or opaque")
    if _format_of(request) in _FORMATS_WITH_ALPHA:
        return None
    allowed = f"auto or opaque with {_format_of(request)}; transparent with output_format {_join(_FORMATS_WITH_ALPHA)}"
    return _refuse("background", request.background, allowed)


def _check_output_format(request: ImageRequest, entry: ModelEntry) -> Problem | None:
    if request.output_format is None or request.output_format in entry.output_formats:
        return None
    return _refuse("output_format", request.output_format, f"on {entry.model}: {_join(entry.output_formats)}")


def _check_output_compression(request: ImageRequest, _: ModelEntry) -> Problem | None:
    if request.output_compression is None or _format_of(request) in _FORMATS_WITH_COMPRESSION:
        return None
    allowed = f"nothing with {_format_of(request)}: only {_join(_FORMATS_WITH_COMPRESSION)} are compressed by percent"
    return _refuse("output_compression", request.output_compression, allowed)


def _check_moderation(request: ImageRequest, _: ModelEntry) -> Problem | None:
    if request.moderation is None or request.operation == "generate":
        return None
    return _refuse(
        "moderation", request.moderation, "nothing on an edit: the provider accepts it for generations only"
    )


def _check_input_fidelity(request: ImageRequest, entry: ModelEntry) -> Problem | None:
    fidelity = request.input_fidelity
    if fidelity is None:
        return None
    if not entry.input_fidelity:
        return _refuse("input_fidelity", fidelity, f"on {entry.model}: nothing; leave it out")
    if request.operation == "generate":
        return _refuse("input_fidelity", fidelity, "nothing without images: it belongs to an edit")
    if fidelity not in entry.input_fidelity:
        return _refuse("input_fidelity", fidelity, f"on {entry.model}: {_join(entry.input_fidelity)}")
    return None


def _check_images(request: ImageRequest, entry: ModelEntry) -> Problem | None:
    if not request.images or entry.edits:
        return None
    return _refuse("images", request.images, f"on {entry.model}: nothing, it does not edit")


def _check_mask(request: ImageRequest, entry: ModelEntry) -> Problem | None:
    if request.mask is None or entry.edits:
        return None
    return Problem(field="mask", value="given", allowed=f"on {entry.model}: nothing, it does not edit")


def _check_partial_images(request: ImageRequest, entry: ModelEntry) -> Problem | None:
    if request.partial_images is None or entry.partial_images:
        return None
    allowed = f"nothing on {entry.model}: its stream does not report everything that is billed"
    return _refuse("partial_images", request.partial_images, allowed)


_CHECKS: tuple[Callable[[ImageRequest, ModelEntry], Problem | None], ...] = (
    _check_size,
    _check_quality,
    _check_background,
    _check_output_format,
    _check_output_compression,
    _check_moderation,
    _check_input_fidelity,
    _check_images,
    _check_mask,
    _check_partial_images,
)


def _format_of(request: ImageRequest) -> str:
    return request.output_format or _DEFAULT_FORMAT


def _refuse(field: str, value: object, allowed: str) -> Problem:
    return Problem(field=field, value=describe_value(field, value), allowed=allowed)


def _join(words: tuple[str, ...]) -> str:
    """Join words as in a sentence: "low, medium or high"."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


# The rule of each key reads the field in its value. If that field is unreadable, the rule's message would be wrong.
_DECIDED_BY = {"output_compression": "output_format", "input_fidelity": "images"}
_FIELD_ORDER = tuple(ALLOWED)


@dataclass(frozen=True, slots=True)
class CheckedPayload:
    """A checked payload. `request` is None exactly if there are `problems`, and then nothing may be sent.

    `resolved` and `sound` are None if no model could be read. `sound` has the fields of the request that could be read.
    `warnings` are sentences for the operator, whatever the outcome.
    """

    request: ImageRequest | None
    resolved: ResolvedModel | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    sound: ImageRequest | None = None


def check_payload(payload: Any, catalog: Catalog, today: date, *, replace_retired: bool) -> CheckedPayload:
    """Check a payload and return all problems, in the order of the request's fields. Never raises.

    Args:
        payload: parsed JSON of any type.
        catalog: the provider's models.
        today: the day in UTC.
        replace_retired: run requests for a retired model on its replacement, with a warning.
    """
    reading = read_request(payload)
    if reading.sound is None:
        return CheckedPayload(None, None, reading.problems, ())
    resolved = resolve_model(reading.sound.model, catalog, today, replace_retired=replace_retired)
    sound, entry = reading.sound, resolved.entry
    rules = check_rules(sound, entry) if entry else check_unknown_model(sound)
    problems = _merge(reading.problems, resolved.problems + rules, reading.sound)
    return CheckedPayload(
        None if problems else reading.request, resolved, problems, resolved.warnings, reading.sound
    )


def _merge(shape: tuple[Problem, ...], more: tuple[Problem, ...], sound: ImageRequest) -> tuple[Problem, ...]:
    """Join both lists, without problems in `more` on a field that has one already or that depends on an unreadable field."""
    wrong = {problem.field.partition(".")[0] for problem in shape}
    unreadable = {field for field in wrong if getattr(sound, field, None) is None}
    kept = (
        problem
        for problem in more
        if problem.field not in wrong and _DECIDED_BY.get(problem.field) not in unreadable
    )
    return tuple(sorted((*shape, *kept), key=_place_of))


def _place_of(problem: Problem) -> int:
    field = problem.field.partition(".")[0]
    return _FIELD_ORDER.index(field) if field in ALLOWED else len(_FIELD_ORDER)
