"""What becomes of a webhook that was not taken.

WebhookFailure
    DestinationRefused     nothing was sent: where it should go is not allowed, or is no public address
    NotificationRejected   the receiver does not want it: another attempt would be answered alike
    ReceiverUnavailable    no answer, or one that says "later"
"""


class WebhookFailure(Exception):
    """A webhook that its receiver has not taken, as a sentence. `retry_after` is the receiver's header, where it has sent it."""

    retryable = False

    def __init__(self, message: str, *, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DestinationRefused(WebhookFailure):
    """Nothing was sent: the settings do not allow it, or the name has led to an address that is not public."""


class NotificationRejected(WebhookFailure):
    """Answered with a redirect, which is not followed, or with a status that says no."""


class ReceiverUnavailable(WebhookFailure):
    """No connection, no answer in time, or an answer that says to try again."""

    retryable = True
