"""The failures as people and programs read them."""

import pytest

from gpt_image_runs.provider import errors


def leaves(
    kind: type[errors.ProviderFailure] = errors.ProviderFailure,
) -> list[type[errors.ProviderFailure]]:
    below = kind.__subclasses__()
    return [kind] if not below else [leaf for child in below for leaf in leaves(child)]


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_every_failure_is_a_sentence_that_says_what_to_do(kind: type[errors.ProviderFailure]) -> None:
    """Each class has an outcome, names the problem, and ends in an advice."""
    failure = kind(http_status=418, provider_message="Said the provider")
    assert failure.outcome in {"rejected", "not_sent", "unknown"}
    assert str(failure) == f"{kind.summary} (HTTP 418): Said the provider. {kind.advice}"
    assert kind.summary[0].isupper()
    assert not kind.summary.endswith(".")
    assert kind.advice.endswith(".")


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_the_drawn_tree_names_every_failure(kind: type[errors.ProviderFailure]) -> None:
    """The module's docstring is complete."""
    assert f"    + {kind.__name__}\n" in (errors.__doc__ or "")


def test_a_message_names_everything_that_a_person_needs() -> None:
    """Status, code, categories and request id stand in brackets, then our detail, the provider's words, the advice."""
    failure = errors.ContentRefused(
        http_status=400,
        code="moderation_blocked",
        moderation_categories=("violence", "hate"),
        provider_request_id="req_7",
        provider_message="Rejected by the safety system.",
    )
    assert str(failure) == (
        "The provider's safety system refused the request (HTTP 400, moderation_blocked, categories violence, hate,"
        " request req_7): Rejected by the safety system. Change the prompt or the images; unchanged it will be"
        " refused again."
    )
    assert repr(failure) == f"<ContentRefused: {failure}>"


def test_a_failure_told_not_to_retry_is_not_retryable() -> None:
    """A transient failure stays what it is, but is not repeated against the provider's word."""
    assert errors.ServerError().retryable
    assert not errors.ServerError(told_not_to_retry=True).retryable
    assert not errors.InvalidRequest().retryable
