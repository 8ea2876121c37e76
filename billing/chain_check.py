"""Follows the chains of all tenants from entry to entry, and tells where one is broken. Pure."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from billing.chain import ENTRY_HASH, PREVIOUS_HASH, genesis_hash, hash_entry
from billing.findings import Finding, show_value
from billing.stored_entries import StoredEntry


class Head(NamedTuple):
    """Where a tenant's chain ends: how many entries it has, and the hash of the last."""

    tenant: str
    entries: int
    entry_hash: str


class ChainCheck:
    """The ends of all chains so far: some 200 bytes for each tenant."""

    def __init__(self) -> None:
        self._ends: dict[str, Head] = {}

    def follow(self, entry: StoredEntry) -> Iterator[Finding]:
        """What is wrong with the entry's place in its chain. Each entry is compared with the one before as that one says
        it is, so that one that was changed is not held against those after it.
        """
        stored = entry.columns
        end = self._end_of(stored["tenant"])
        if stored[PREVIOUS_HASH] != end.entry_hash:
            yield entry.find(
                "The chain is broken before this entry: one was taken out, put in, moved or replaced.",
                expected=show_value(end.entry_hash),
                found=show_value(stored[PREVIOUS_HASH]),
            )
        computed = hash_entry(stored)
        if stored[ENTRY_HASH] != computed:
            yield entry.find(
                "The entry was changed after it was written: its hash is another.",
                expected=show_value(stored[ENTRY_HASH]),
                found=computed,
            )
        self._ends[end.tenant] = Head(end.tenant, end.entries + 1, stored[ENTRY_HASH])

    def compare(self, heads: Iterable[Head]) -> Iterator[Finding]:
        """What is wrong with the ends, once all entries were followed."""
        unsaid = dict(self._ends)
        for head in heads:
            end = unsaid.pop(head.tenant, None) or self._end_of(head.tenant)
            if end != head:
                yield Finding(
                    what="The tenant's chain does not end where its head says: entries were cut off or put on.",
                    tenant=head.tenant,
                    expected=_describe(head),
                    found=_describe(end),
                )
        for end in unsaid.values():
            yield Finding(
                what="The tenant has entries, and no head that says where its chain ends.",
                tenant=end.tenant,
                found=_describe(end),
            )

    def _end_of(self, tenant: str) -> Head:
        return self._ends.get(tenant) or Head(tenant, 0, genesis_hash(str(tenant)))


def _describe(head: Head) -> str:
    return f"{show_value(head.entries)} entries, the last {show_value(head.entry_hash)}"
