"""What an operator reads of a notification in the Web UI. Pure."""

from urllib.parse import urlsplit

from contracts.notifications import Delivery, NotificationOrder
from workflows.details import quote

_LONGEST_HOST = 200
"""Temporal takes a summary of at most 400 bytes."""


def describe_order(order: NotificationOrder) -> str:
    """A few words for lists: what is told to whom, without the address's path, which may hold a token."""
    return f"{order.event}: told to {urlsplit(order.url).netloc[:_LONGEST_HOST]}"


def describe_waiting(order: NotificationOrder) -> str:
    """The page of a notification that nobody has taken yet."""
    return f"**Not taken yet**\n\n{_describe_event(order)}"


def describe_delivery(order: NotificationOrder, delivery: Delivery) -> str:
    """The same, once it is told."""
    attempts = "1 attempt" if delivery.attempts == 1 else f"{delivery.attempts} attempts"
    return f"**Delivered** · {delivery.http_status} · {attempts}\n\n{_describe_event(order)}"


def describe_end(order: NotificationOrder, reason: str) -> str:
    """The same, where nobody took it."""
    return f"**Not delivered**\n\n{_describe_event(order)}\n\n**Reason:** {quote(reason)}"


def _describe_event(order: NotificationOrder) -> str:
    return f"{quote(order.run_id)}, {describe_order(order)}"
