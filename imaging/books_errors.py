"""Why the provider's own books cannot be read, as sentences that say what to do.

* BooksFailure
  x BooksNotConfigured    a setting is missing or cannot work
  x BooksRefused          the provider answers, and does not tell
  x BooksUnavailable      it does not answer, or not now: trying again may help
  x BooksUnreadable       it answers what nobody can read
"""

from http import HTTPStatus
from typing import ClassVar

import openai

from imaging.error_bodies import read_error_body

_KEY_HELP = "Set OPENAI_ADMIN_KEY to an admin key (sk-admin-...) of the organization that pays, and start the worker again."
_NO_SUCH_ADDRESS = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)


class BooksFailure(Exception):
    """The provider's books cannot be read."""

    retryable: ClassVar[bool] = False


class BooksNotConfigured(BooksFailure):
    """A setting is missing or cannot work."""


class BooksRefused(BooksFailure):
    """The provider does not tell us."""


class BooksUnavailable(BooksFailure):
    """The provider does not answer, or not now."""

    retryable = True


class BooksUnreadable(BooksFailure):
    """What came is not what the organization endpoints answer."""


def describe_refusal(status: int, body: bytes) -> BooksFailure:
    """The failure that an answer other than 2xx is. `body` is without the key."""
    said = read_error_body(body).message
    told = f"HTTP {status}: {said.rstrip('.')}" if said else f"HTTP {status}"
    if status == HTTPStatus.UNAUTHORIZED:
        return BooksRefused(f"The provider refuses the admin key ({told}). {_KEY_HELP}")
    if status == HTTPStatus.FORBIDDEN:
        return BooksRefused(f"The key may not read the organization's books ({told}). {_KEY_HELP}")
    if status in _NO_SUCH_ADDRESS:
        return BooksRefused(
            f"There are no organization endpoints at this address ({told}). Only OpenAI's own API has them: check"
            " OPENAI_BASE_URL."
        )
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return BooksUnavailable(f"The provider's books cannot be read just now ({told}).")
    return BooksRefused(f"The provider refused to tell its books ({told}).")


def describe_silence(error: openai.APIConnectionError) -> BooksFailure:
    """The failure that no answer is."""
    cause = type(error.__cause__ or error).__name__
    return BooksUnavailable(
        f"The provider's books cannot be reached ({cause}). Check the network and OPENAI_BASE_URL."
    )
