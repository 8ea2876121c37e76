"""Column types that return exactly what was written, on SQLite and on PostgreSQL."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator


class JsonText(TypeDecorator[Any]):
    """JSON kept as text, verbatim: key order, integers of any size, and NUL characters.

    PostgreSQL's own types do not fit: `jsonb` reorders keys, and neither it nor `text` takes a NUL. With
    everything outside ASCII escaped, whatever the provider sends can be stored. None is NULL.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002  SQLAlchemy's signature
        """Format the value as compact JSON in ASCII."""
        return None if value is None else json.dumps(value, ensure_ascii=True, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002  SQLAlchemy's signature
        """Parse the value as it was written."""
        return None if value is None else json.loads(value)


class PlainText(TypeDecorator[str]):
    """Untrusted text. Characters that a database cannot store (NUL, half a surrogate pair) become visible escapes."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  SQLAlchemy's signature
        """Escape what cannot be stored."""
        if value is None:
            return None
        return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, always with its time zone. SQLite has no zones, so it stores the UTC time without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert the moment to UTC; refuse a datetime without a time zone, which is ambiguous."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone. Give a time in UTC")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment with its zone, UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


# A number that the database increments itself: SQLite does so only for INTEGER, which has 64 bits there anyway.
BigKey = BigInteger().with_variant(Integer, "sqlite")


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
