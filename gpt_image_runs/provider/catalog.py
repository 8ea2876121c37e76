"""The models that a provider serves: what each allows, its lifecycle, and which one to call.

The catalog is data: `catalog_data/models.toml` has the rules, `catalog_data/calendars/PROVIDER.toml` the dates. How the
rules apply to a request is in `gpt_image_runs.provider.request_rules`. Prices are in `gpt_image_runs.billing.pricing`.
"""

import tomllib
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from gpt_image_runs.contracts.problems import Problem, describe_value

_DATA = Path(__file__).parent / "catalog_data"
_FOR_THE_READER_ONLY = {"family", "only_at"}


class CatalogError(ValueError):
    """The catalog's data is not valid. The message names the file, the model and the field."""


@dataclass(frozen=True, slots=True)
class FlexibleSize:
    """Any WIDTHxHEIGHT within bounds, in pixels: the longer side is at most `most_elongated` times the shorter."""

    multiple_of: int
    longest_edge: int
    most_elongated: int
    fewest_pixels: int
    most_pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model at one provider.

    `sizes` are allowed as written, and so is any size that fits `flexible_size`, if that is set. An empty `input_fidelity`
    means that the field must be left out. `partial_images` says whether the usage in a streamed response is complete.
    `released` is "YYYY-MM" or "YYYY-MM-DD". `shutdown` is the first day without the model, None if no date was announced;
    `notice` is the day of the announcement, if known. `checked` is the day on which `sources` were read.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    provider: str
    model: str
    snapshots: tuple[str, ...] = ()
    released: str | None = None
    notice: date | None = None
    shutdown: date | None = None
    replacement: str | None = None
    sizes: tuple[str, ...]
    flexible_size: FlexibleSize | None = None
    qualities: tuple[str, ...]
    output_formats: tuple[str, ...]
    transparent_background: bool
    input_fidelity: tuple[str, ...]
    edits: bool
    partial_images: bool
    checked: date
    sources: tuple[str, ...]


_ENTRY = TypeAdapter(ModelEntry)


class Catalog:
    """The models of one provider, by name and by dated snapshot."""

    def __init__(self, provider: str, entries: tuple[ModelEntry, ...]) -> None:
        self.provider = provider
        self._entries = entries
        self._by_name = {name: entry for entry in entries for name in (entry.model, *entry.snapshots)}

    @classmethod
    def load(cls, provider: str, folder: Path = _DATA) -> "Catalog":
        """Load the catalog of "openai", "azure" or any other provider. Other providers have the same models, but no dates.

        Raises:
            CatalogError: the data is not valid.
        """
        rules = _read_toml(folder / "models.toml")
        calendars = {path.stem: path for path in (folder / "calendars").glob("*.toml")}
        calendar = _read_toml(calendars[provider]) if provider in calendars else {}
        entries = tuple(
            _make_entry(provider, rules, raw, calendar)
            for raw in _merge_families(rules)
            if provider in raw.get("only_at", [provider])
        )
        _check_names(provider, entries, [dates.get("model") for dates in calendar.get("models", [])])
        return cls(provider, entries)

    def find(self, model: str) -> ModelEntry | None:
        """Find a model by its name or by that of a dated snapshot; None if the catalog does not know it."""
        return self._by_name.get(model)

    def models(self) -> tuple[ModelEntry, ...]:
        """Return all models in the order of the data, the oldest family first."""
        return self._entries


def _merge_families(rules: dict[str, Any]) -> list[dict[str, Any]]:
    families, merged = rules.get("families", {}), []
    for raw in rules.get("models", []):
        name, family = raw.get("model"), raw.get("family")
        if family not in families:
            raise CatalogError(f"models.toml: {name} is of the family {family}, which is not there")
        merged.append({**families[family], **raw})
    return merged


def _make_entry(
    provider: str, rules: dict[str, Any], raw: dict[str, Any], calendar: dict[str, Any]
) -> ModelEntry:
    name = raw.get("model")
    dates: dict[str, Any] = next(
        (dates for dates in calendar.get("models", []) if dates.get("model") == name), {}
    )
    fields = {key: value for key, value in {**raw, **dates}.items() if key not in _FOR_THE_READER_ONLY}
    fields["sources"] = [*raw.get("sources", []), *dates.get("sources", [])]
    fields["checked"] = min(rules["checked"], calendar.get("checked", rules["checked"]))
    try:
        return _ENTRY.validate_python({**fields, "provider": provider})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        message = f"The catalog's entry for {name} at {provider} is not valid in {field}: {first['msg']}"
        raise CatalogError(message) from error


def _check_names(provider: str, entries: tuple[ModelEntry, ...], dated: list[Any]) -> None:
    """Check that all names in the data refer to models: a mistake would otherwise show only when a model is shut down."""
    names = [name for entry in entries for name in (entry.model, *entry.snapshots)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CatalogError(f"models.toml lists {', '.join(twice)} more than once: keep one")
    calendar = f"calendars/{provider}.toml"
    for name in dated:
        if name not in names or dated.count(name) > 1:
            raise CatalogError(f"{calendar} must date {name} once, and models.toml must list it")
    replacements = {entry.model: entry.replacement for entry in entries}
    for name in replacements:
        chain = [name]
        while following := replacements[chain[-1]]:
            chain.append(following)
            if following not in replacements or following in chain[:-1]:
                raise CatalogError(
                    f"{calendar} replaces {' -> '.join(chain)}: replacements must be in models.toml and must not form a circle"
                )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path.name} of the catalog cannot be read: {error}") from error
    if not isinstance(data.get("checked"), date):
        raise CatalogError(f"{path.name} of the catalog must say on which day it was checked")
    return data


Lifecycle = Literal["live", "deprecated", "retired"]

# The notice that OpenAI promises for image models. A date planned a year ahead is not worth a warning yet.
_NOTICE_WHERE_NONE_IS_NAMED = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The model that a request resolves to.

    `model` is the one to call and `entry` its catalog data. If the requested model is retired, both are those of its live
    replacement, if it has one, so that the request is checked against the rules of the model that would run it. It may be
    called only if `problems` is empty. `warnings` are sentences for the operator.
    """

    model: str
    entry: ModelEntry | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def lifecycle_of(entry: ModelEntry, today: date) -> Lifecycle:
    """Return whether a model is live, announced to be shut down (deprecated), or shut down (retired)."""
    if entry.shutdown is None:
        return "live"
    if today >= entry.shutdown:
        return "retired"
    notice = entry.notice or entry.shutdown - _NOTICE_WHERE_NONE_IS_NAMED
    return "deprecated" if today >= notice else "live"


def resolve_model(requested: str, catalog: Catalog, today: date, *, replace_retired: bool) -> ResolvedModel:
    """Find the model to call. A retired one is a problem, or with `replace_retired` a warning and its replacement."""
    entry = catalog.find(requested)
    if entry is None:
        warning = (
            f"The catalog does not know {describe_value('model', requested)} at {catalog.provider}: "
            "it may run; its usage is recorded, and it is billed once a price is known."
        )
        return ResolvedModel(requested, None, warnings=(warning,))
    if lifecycle_of(entry, today) != "retired":
        return ResolvedModel(requested, entry, warnings=_warn_of_shutdown(requested, entry, today))
    live = _find_live_replacement(entry, catalog, today)
    if live is None or not replace_retired:
        return ResolvedModel(
            live.model if live else requested, live, (_describe_retired(requested, entry, live),)
        )
    replaced = (
        f"{requested} was shut down at {entry.provider} on {entry.shutdown}: {live.model} is used instead."
    )
    return ResolvedModel(live.model, live, warnings=(replaced, *_warn_of_shutdown(live.model, live, today)))


def _find_live_replacement(entry: ModelEntry, catalog: Catalog, today: date) -> ModelEntry | None:
    """Follow the replacements past those that are retired too. `_check_names` has ruled out circles."""
    current: ModelEntry | None = entry
    while current is not None and lifecycle_of(current, today) == "retired":
        current = catalog.find(current.replacement) if current.replacement else None
    return current


def _describe_retired(requested: str, entry: ModelEntry, live: ModelEntry | None) -> Problem:
    way_out = (
        f"{live.model}, its replacement; or set RETIRED_MODELS=replace to run old requests on it"
        if live
        else "a model that is live: no replacement is known"
    )
    return Problem(
        field="model",
        value=describe_value("model", requested),
        allowed=f"{way_out} ({requested} was shut down at {entry.provider} on {entry.shutdown})",
    )


def _warn_of_shutdown(name: str, entry: ModelEntry, today: date) -> tuple[str, ...]:
    if entry.shutdown is None or lifecycle_of(entry, today) != "deprecated":
        return ()
    days = (entry.shutdown - today).days
    left = "tomorrow" if days == 1 else f"in {days} days"
    move = f": move to {entry.replacement}" if entry.replacement else ""
    return (f"{name} will be shut down at {entry.provider} on {entry.shutdown}, {left}{move}.",)
