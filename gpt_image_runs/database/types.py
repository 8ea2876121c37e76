"""Column types that read back what was written, on SQLite and on PostgreSQL alike. No tables here."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator


class JsonText(TypeDecorator[Any]):
    """JSON kept as text, verbatim: key order, integers of any size, and NUL characters.

    PostgreSQL's own types would not do: `jsonb` reorders keys, and neither it nor `text` takes a NUL. With
    everything outside ASCII escaped, whatever the provider sends can be stored. None is NULL.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002  SQLAlchemy's signature
        """The value as compact JSON in ASCII."""
        return None if value is None else json.dumps(value, ensure_ascii=True, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002  SQLAlchemy's signature
        """The value as it was written."""
        return None if value is None else json.loads(value)


class PlainText(TypeDecorator[str]):
    """Text from outside. What no database can store (NUL, half a surrogate pair) is kept as a visible escape."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  SQLAlchemy's signature
        """The text, storable everywhere."""
        if value is None:
            return None
        return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, always with its time zone. SQLite keeps no zones, so there it is stored as UTC without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment in UTC; a datetime without a time zone is refused, as it may mean any hour."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone: give a moment in UTC")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment with its zone, UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


BigKey = BigInteger().with_variant(Integer, "sqlite")
"""A number that the database counts up by itself: SQLite does that for INTEGER alone (its integers have 64 bits anyway)."""


def utc_now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)
