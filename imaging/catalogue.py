"""The models that a provider serves, what may be asked of each, and when it goes.

The catalogue is data: `catalogue_data/models.toml` holds the rules, `catalogue_data/calendars/PROVIDER.toml` the
dates. Nothing is decided here: what a date means today is in `imaging.lifecycle`, what a rule means for a request in
`imaging.rules`. Prices are no business of this room.
"""

import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

_DATA = Path(__file__).parent / "catalogue_data"
_FOR_THE_READER_ONLY = {"family", "only_at"}


class CatalogueError(ValueError):
    """The catalogue's data is wrong. The message names the file, the model and the field."""


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

    `sizes` are allowed as they stand, and any that fits `flexible_size` where that is given. An empty `input_fidelity`
    means that the field must be left out. `partial_images` says whether a streamed answer tells all that is billed.
    `released` is "YYYY-MM" or "YYYY-MM-DD". `shutdown` is the first day without
    the model, None where the provider has announced none; `notice` the day of the announcement, where it is known.
    `checked` is the day on which `sources` were read.
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


class Catalogue:
    """The models of one provider, by name and by dated snapshot."""

    def __init__(self, provider: str, entries: tuple[ModelEntry, ...]) -> None:
        self.provider = provider
        self._entries = entries
        self._by_name = {name: entry for entry in entries for name in (entry.model, *entry.snapshots)}

    @classmethod
    def load(cls, provider: str, folder: Path = _DATA) -> "Catalogue":
        """The catalogue of "openai", of "azure", or of any other provider: that one has the models, but no dates.

        Raises:
            CatalogueError: the data is wrong.
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
        """The entry of a model or of one of its dated snapshots; None where the catalogue does not know it."""
        return self._by_name.get(model)

    def models(self) -> tuple[ModelEntry, ...]:
        """Every model, in the order of the data: the oldest family first."""
        return self._entries


def _merge_families(rules: dict[str, Any]) -> list[dict[str, Any]]:
    families, merged = rules.get("families", {}), []
    for raw in rules.get("models", []):
        name, family = raw.get("model"), raw.get("family")
        if family not in families:
            raise CatalogueError(f"models.toml: {name} is of the family {family}, which is not there")
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
        return TypeAdapter(ModelEntry).validate_python({**fields, "provider": provider})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        message = f"The catalogue's entry of {name} at {provider} is wrong in {field}: {first['msg']}"
        raise CatalogueError(message) from error


def _check_names(provider: str, entries: tuple[ModelEntry, ...], dated: list[Any]) -> None:
    """A name that nothing answers to would be noticed on the day that a model is gone: too late."""
    names = [name for entry in entries for name in (entry.model, *entry.snapshots)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CatalogueError(f"models.toml lists {', '.join(twice)} more than once: keep one")
    calendar = f"calendars/{provider}.toml"
    for name in dated:
        if name not in names or dated.count(name) > 1:
            raise CatalogueError(
                f"{calendar} dates {name}, which has to be in models.toml, and be dated once"
            )
    replacements = {entry.model: entry.replacement for entry in entries}
    for name in replacements:
        chain = [name]
        while following := replacements[chain[-1]]:
            chain.append(following)
            if following not in replacements or following in chain[:-1]:
                raise CatalogueError(
                    f"{calendar} replaces {' -> '.join(chain)}: name models of models.toml, in no circle"
                )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{path.name} of the catalogue cannot be read: {error}") from error
    if not isinstance(data.get("checked"), date):
        raise CatalogueError(f"{path.name} of the catalogue has to say on which day it was checked")
    return data
