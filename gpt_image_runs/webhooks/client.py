"""Send one webhook, signed by Standard Webhooks, to an address that was checked, and to no other.

The name is resolved once for each attempt, and the connection goes to the checked result, so a name that resolves
differently the second time has no effect. No redirects, proxies from the environment, kept connections or cookies. Of
the response only the status line and headers are read.
"""

import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gpt_image_runs.webhooks.allowlist import Destinations, describe_destination
from gpt_image_runs.webhooks.signing import sign_message


class WebhookFailure(Exception):
    """A webhook that the receiver did not accept. `retry_after` and `date` are the receiver's headers, if any."""

    retryable = False

    def __init__(self, message: str, *, retry_after: str | None = None, date: str | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.date = date


class DestinationRefused(WebhookFailure):
    """Nothing was sent: the settings do not allow it, or the name resolves to an address that is not public."""


class NotificationRejected(WebhookFailure):
    """The receiver responded with a redirect, which is not followed, or a permanent error status."""


class ReceiverUnavailable(WebhookFailure):
    """No connection, no response in time, or a status that asks to try again later."""

    retryable = True


# For a whole attempt. The specification recommends 15 to 30.
TIMEOUT_SECONDS = 20.0
_RETRYABLE_STATUSES = {408, 425, 429}


class WebhookClient:
    """Sends webhooks to allowed destinations, signed with each of the secrets ("whsec_...").

    `resolver` and `tls` default to the system's.
    """

    def __init__(
        self,
        destinations: Destinations,
        secrets: Sequence[str],
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._destinations = destinations
        self._secrets = secrets
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._resolver = resolver
        self._tls = tls

    async def send(self, url: str, message_id: str, content: str, media_type: str) -> int:
        """Post a text. Return the receiver's status, which is a 2xx.

        Raises:
            WebhookFailure: it was not accepted; the subclass says whether to try again.
        """
        fault = self._destinations.validate(url)
        where = describe_destination(url)
        if fault:
            raise DestinationRefused(f"Nothing was sent to {where}; allowed: {fault}.")
        headers = self._build_headers(message_id, content, media_type)
        try:
            async with (
                self._open_session() as session,
                session.post(url, data=content.encode(), headers=headers, allow_redirects=False) as response,
            ):
                response.close()  # the body is not needed, however long it is
                _check_status(response, where)
                return response.status
        except TimeoutError:
            raise ReceiverUnavailable(
                f"{where} did not answer within {self._timeout.total:g} seconds."
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise ReceiverUnavailable(f"{where} could not be reached: {_explain(error)}.") from None

    def _open_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=_CheckedResolver(self._destinations, self._resolver or aiohttp.ThreadedResolver()),
            use_dns_cache=False,
            force_close=True,
            ssl=self._tls or True,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )

    def _build_headers(self, message_id: str, content: str, media_type: str) -> dict[str, str]:
        return {
            "content-type": media_type,
            "user-agent": "gpt-image-runs",
            "accept-encoding": "identity",
            **sign_message(self._secrets, message_id, datetime.now(UTC), content),
        }


class _CheckedResolver(AbstractResolver):
    """Resolves to public addresses only. A single blocked address blocks the name, as it may be tried next."""

    def __init__(self, destinations: Destinations, inner: AbstractResolver) -> None:
        self._destinations = destinations
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for one in found:
            why = self._destinations.blocked_reason(one["host"])
            if why:
                raise DestinationRefused(
                    f"Nothing was sent: {host} resolves to {one['host']}, which is not a public address ({why})."
                )
        return found

    async def close(self) -> None:
        await self._inner.close()


def _check_status(response: aiohttp.ClientResponse, where: str) -> None:
    match response.status // 100, response.status:
        case 2, _:
            return
        case 3, status:
            raise NotificationRejected(f"{where} answered {status}, a redirect, which is not followed.")
        case 4, 410:
            raise NotificationRejected(f"{where} answered 410: the endpoint no longer exists.")
        case 4, status if status not in _RETRYABLE_STATUSES:
            raise NotificationRejected(f"{where} answered {status}: the notification was rejected.")
    raise ReceiverUnavailable(
        f"{where} answered {response.status}.",
        retry_after=response.headers.get("retry-after"),
        date=response.headers.get("date"),
    )


def _explain(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name cannot be resolved"
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not accepted ({error.certificate_error})"
        case aiohttp.ClientConnectorError():
            return f"the connection failed ({error.strerror or type(error).__name__})"
        case aiohttp.ClientResponseError():
            return "its response is not valid HTTP"
    return "the connection broke before a response"
