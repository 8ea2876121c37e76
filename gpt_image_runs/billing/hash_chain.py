"""The hash that an entry of the ledger carries, and what it is a hash of. Pure: no database here.

The entries of a tenant are a chain: each holds the hash of the one before it, and its own hash over all of itself. So none
can be changed, taken out, put in or moved without that the chain breaks there.

This form can never change, as ledgers hold hashes made by it. A column that holds nothing is left out, so that one
that is added later leaves the hashes of older entries as they are.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

PREVIOUS_HASH = "previous_hash"
ENTRY_HASH = "entry_hash"
_NOT_HASHED = frozenset({"sequence", ENTRY_HASH})
"""The number is given by the database as it writes; the chain itself tells the order."""


def genesis_hash(tenant: str) -> str:
    """What the first entry of a tenant holds as the hash before it: SHA-256 in hex of a text with the tenant's name."""
    return hashlib.sha256(
        f"the first entry of tenant {tenant}".encode("utf-8", "surrogateescape")
    ).hexdigest()


def hash_entry(stored: Mapping[str, Any]) -> str:
    """The hash of an entry: SHA-256 in hex over all of its columns, the hash before it included.

    `stored` has the columns as a database holds them: JSON is a text and is hashed as it stands. Both databases give the
    same hash: a moment counts in UTC to the microsecond, a truth value as 0 or 1.
    """
    return hash_row(stored)


def hash_row(stored: Mapping[str, Any], left_out: Collection[str] = ()) -> str:
    """The same of any row of the ledger, without the columns that are left out."""
    said = {
        name: _in_one_form(value)
        for name, value in stored.items()
        if value is not None and name not in _NOT_HASHED and name not in left_out
    }
    # What no sound column holds (bytes, in a damaged file of SQLite) is hashed by how Python shows it.
    text = json.dumps(said, ensure_ascii=True, separators=(",", ":"), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _in_one_form(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return value
