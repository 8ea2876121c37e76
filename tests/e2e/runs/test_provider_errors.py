"""Each way in which the provider fails: what the run says, what the attempt says, and that nothing is billed."""

import pytest

from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.provider import errors
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("fault", "failure", "outcome"),
    [
        ("moderation_blocked", "ContentRefused", "rejected"),
        ("billing_hard_limit", "BillingLimitReached", "rejected"),
        ("insufficient_quota", "QuotaExhausted", "rejected"),
        ("insufficient_quota=credit_balance_exhausted", "QuotaExhausted", "rejected"),
        ("invalid_api_key", "AuthenticationFailed", "rejected"),
        ("not_verified", "AccessDenied", "rejected"),
        ("no_access_model", "AccessDenied", "rejected"),
        ("model_not_found", "ModelNotFound", "rejected"),
        ("unprocessable", "InvalidRequest", "rejected"),
        ("redirect", "UnexpectedRedirect", "rejected"),
        ("malformed_json", "MalformedAnswer", "unknown"),
        ("plain_text", "MalformedAnswer", "unknown"),
    ],
)
async def test_permanent_error_is_not_retried(stack: Stack, fault: str, failure: str, outcome: str) -> None:
    """One request is sent, the run fails under the failure's name, the attempt has its outcome, the ledger no entry."""
    run_id = new_run_id()
    cause = await stack.fail({**CONTRACT, "prompt": f"A cup [simulate:{fault}]"}, run_id=run_id)

    assert cause.type == failure
    assert issubclass(getattr(errors, failure), errors.ProviderFailure)
    (attempt,) = stack.attempts(run_id)
    assert (attempt.outcome, attempt.error_type) == (outcome, failure)
    assert attempt.finished_at is not None
    assert len(stack.calls(run_id)) == 1
    assert stack.entries(run_id) == ()
    if outcome == "unknown":
        assert attempt.raw_body
        assert attempt.reserved_micro_usd


@pytest.mark.parametrize(
    ("fault", "failure", "outcome"),
    [
        ("rate_limited,seconds=0.2,header=retry-after-ms", "RateLimited", "rejected"),
        ("slow_down,seconds=1", "RateLimited", "rejected"),
        ("server_error", "ServerError", "rejected"),
        ("overloaded", "ServerOverloaded", "rejected"),
        ("conflict", "Conflict", "rejected"),
        ("bad_gateway", "GatewayError", "unknown"),
        ("gateway_timeout=true", "GatewayError", "unknown"),
        ("request_timeout", "RequestTimeout", "unknown"),
        ("reset_before", "AnswerLost", "unknown"),
        ("reset_after_payment", "AnswerLost", "unknown"),
        ("truncated", "AnswerLost", "unknown"),
    ],
)
async def test_transient_error_is_retried_and_billed_once(
    stack: Stack, fault: str, failure: str, outcome: str
) -> None:
    """After a failure that passes the run is carried out and billed once, and both attempts are on record."""
    prompt = f"A cup after {fault.partition(',')[0]}"
    stack.simulator.script(fault, match=prompt)
    result = await stack.run({**CONTRACT, "prompt": prompt})

    first, second = stack.attempts(result.run_id)
    assert (first.outcome, first.error_type) == (outcome, failure)
    assert second.outcome == "succeeded"
    assert first.client_request_id != second.client_request_id
    assert result.provider.attempts == 2
    assert [call.client_request_id for call in stack.calls(result.run_id)] == [
        first.client_request_id,
        second.client_request_id,
    ]
    (entry,) = stack.entries(result.run_id)
    assert entry.attempt_id == second.attempt_id


async def test_third_unknown_outcome_fails_the_run_with_its_exposure(stack: Stack) -> None:
    """After three requests of unknown outcome no further one is sent, and the run lists what they may have cost."""
    failure = await stack.fail(
        {**CONTRACT, "prompt": "A cup [simulate:reset_after_payment]"}, run_id="image:default:doubt"
    )

    assert failure.type == "TooManyUnknownOutcomes"
    attempts = stack.attempts("image:default:doubt")
    assert [attempt.outcome for attempt in attempts] == ["unknown"] * 3
    assert len([call for call in stack.calls("image:default:doubt") if call.paid]) == 3
    assert all(attempt.attempt_id in failure.message for attempt in attempts)
    assert stack.entries("image:default:doubt") == ()


async def test_retry_after_of_the_provider_is_waited_for(stack: Stack) -> None:
    """A rate limit of two seconds is waited for: the second request comes at least two seconds after the first."""
    stack.simulator.script("rate_limited,seconds=2", match="A patient cup")
    result = await stack.run({**CONTRACT, "prompt": "A patient cup"})

    first, second = stack.calls(result.run_id)
    assert (second.time - first.time).total_seconds() >= 2


async def test_images_of_another_format_or_number_are_kept_and_billed(stack: Stack) -> None:
    """Pictures in another format than asked, or fewer, were paid for: they are kept and billed, and the run says so."""
    result = await stack.run(
        {**CONTRACT, "n": 2, "quality": "low", "prompt": "Two cups [simulate:wrong_count]"}
    )

    status = await stack.client.get_workflow_handle(result.run_id).query("status")
    assert len(result.images) == 1
    assert any("2 pictures were asked for and 1 delivered" in warning for warning in status["warnings"])
    other = await stack.run({**CONTRACT, "prompt": "A cup [simulate:wrong_format]"})
    assert other.images[0].media_type == "image/jpeg"


@pytest.mark.parametrize(
    "fault",
    [
        "odd_base64=wrapped",
        "odd_base64=crlf",
        "odd_base64=url_safe",
        "odd_base64=unpadded",
        "odd_base64=data_uri",
        "odd_base64=data_uri_in_url",
    ],
)
async def test_image_in_unusual_base64_is_kept_and_billed(stack: Stack, fault: str) -> None:
    result = await stack.run({**CONTRACT, "quality": "low", "prompt": f"A cup [simulate:{fault}]"})

    assert len(result.images) == 1
    assert result.billing.state == "billed"
    assert len(stack.calls(result.run_id)) == 1


@pytest.mark.parametrize(
    ("instead", "words"),
    [
        ("null", "data[1] has no b64_json"),
        ("filter", "data[1] was withheld by the content filter (violence)"),
        ("damaged", "data[1] is not an image: "),
        ("empty", "data[1] has no b64_json"),
    ],
)
async def test_images_beside_a_missing_one_are_kept_and_billed(
    stack: Stack, instead: str, words: str
) -> None:
    """The run completes with what came, its bill follows the usage for both, and everybody is told what is missing."""
    prompt = f"Two cups [simulate:lost_picture={instead}]"
    result = await stack.run({**CONTRACT, "n": 2, "prompt": prompt})

    (warning,) = result.warnings
    assert "2 pictures were asked for and 1 delivered: " in warning
    assert words in warning
    assert len(result.images) == 1
    (call,) = stack.calls(result.run_id)
    assert call.usage is not None
    cost = 10 * call.usage["input_tokens"] + 40 * call.usage["output_tokens"]
    assert (result.billing.state, result.cost.amount_usd) == ("billed", format_usd(cost))
    status = await stack.client.get_workflow_handle(result.run_id).query("status")
    assert warning in status["warnings"]
    (attempt,) = stack.attempts(result.run_id)
    assert (attempt.outcome, attempt.error_type, attempt.error_message) == ("succeeded", None, warning)
    assert await stack.store.read_document(f"malformed/{attempt.attempt_id}.body")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no_data", "its field data is not a list of images"),
        ("bad_base64", "data[0].b64_json is not base64; data[1].b64_json is not base64"),
        ("not_an_image", "data[0] is not an image"),
    ],
)
@pytest.mark.parametrize("policy", ["resend", "hold"])
async def test_usage_without_an_image_is_billed_and_the_run_fails(
    stack: Stack, fault: str, words: str, policy: str
) -> None:
    """What the provider says it used is on a bill, not only exposure at the ceiling; submitted again, nothing is paid."""
    run_id = new_run_id()
    request = {
        **CONTRACT,
        "n": 2,
        "quality": "low",
        "prompt": f"Two cups [simulate:{fault}]",
        "unknown_outcome": policy,
    }
    cause = await stack.fail(request, run_id=run_id)

    (call,) = stack.calls(run_id)
    (entry,) = stack.entries(run_id)
    assert call.usage is not None
    cost = 10 * call.usage["input_tokens"] + 40 * call.usage["output_tokens"]
    assert (entry.kind, entry.amount_usd, entry.usage) == ("charge", format_usd(cost), call.usage)
    assert cause.type == "MalformedAnswer"
    assert words in cause.message
    assert f"billed with {format_usd(cost)} USD, entry {entry.entry_id}." in cause.message
    (attempt,) = stack.attempts(run_id)
    assert (attempt.outcome, attempt.error_type, attempt.images) == ("succeeded", "MalformedAnswer", ())
    assert await stack.store.read_document(f"malformed/{attempt.attempt_id}.body")
    status = await stack.client.get_workflow_handle(run_id).query("status")
    assert (status["stage"], status["cost_usd"]) == ("failed", format_usd(cost))

    again = await stack.fail(request, run_id=run_id)
    assert again.message == cause.message
    assert (len(stack.calls(run_id)), len(stack.entries(run_id))) == (1, 1)
