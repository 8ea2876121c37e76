"""The permanent keys of corrections: there is one entry of a key, however often the correction is asked for."""

from sqlalchemy import RowMapping

from billing.run_history import RunHistory
from contracts.corrections import Correction, digest_usage


def make_key(order: Correction, rate_card: str | None) -> str:
    """The key of a correction: by its usage, by the rate card that had the price, or for the one reversal of a run."""
    if order.action == "reconcile":
        return f"{order.run_id}#usage:{digest_usage(order.usage)}"
    return f"{order.run_id}#reversal" if order.action == "reverse" else f"{_begin_reprice(order)}{rate_card}"


def find_known(order: Correction, history: RunHistory) -> RowMapping | None:
    """The entry of the same correction, None where there is none. For a reprice, whichever card it was by."""
    if order.action == "reprice":
        return history.find_last(_begin_reprice(order))
    return history.find(make_key(order, None))


def _begin_reprice(order: Correction) -> str:
    return f"{order.run_id}#reprice:"
