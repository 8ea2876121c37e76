"""The hash that an entry of the ledger carries, and what is hashed. Pure: no database here.

The entries of a tenant are a chain: each holds the hash of the one before it, and a hash of all its own columns. Any entry
that is changed, removed, inserted or moved breaks the chain at that place.

This form can never change, because ledgers hold hashes made by it. A column without a value is left out, so a column
that is added later leaves the hashes of older entries as they are.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

PREVIOUS_HASH = "previous_hash"
ENTRY_HASH = "entry_hash"
# The database assigns the number as it writes; the chain itself holds the order.
_NOT_HASHED = frozenset({"sequence", ENTRY_HASH})


def genesis_hash(tenant: str) -> str:
    """Return the hash that a tenant's first entry names as the one before it.

    It is the SHA-256, in hex, of a text with the tenant's name.
    """
    return hashlib.sha256(
        f"the first entry of tenant {tenant}".encode("utf-8", "surrogateescape")
    ).hexdigest()


def hash_entry(stored: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of all columns of an entry, the previous hash included.

    `stored` has the columns as the database holds them: JSON is hashed as its text. Both databases give the same hash: a
    time counts in UTC to the microsecond, a boolean as 0 or 1.
    """
    return hash_row(stored)


def hash_row(stored: Mapping[str, Any], left_out: Collection[str] = ()) -> str:
    """Return the same hash for any row of the ledger, without the columns in `left_out`."""
    said = {
        name: _in_one_form(value)
        for name, value in stored.items()
        if value is not None and name not in _NOT_HASHED and name not in left_out
    }
    # A value that JSON cannot hold (bytes, in a damaged SQLite file) is hashed by its repr.
    text = json.dumps(said, ensure_ascii=True, separators=(",", ":"), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _in_one_form(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return value
