"""Whether the provider answers and takes our key: a list of its models, which costs nothing."""

from http import HTTPStatus

import httpx2
from pydantic import SecretStr

from runtime.embedded import simulator_environment
from runtime.settings import Settings

_OPENAI_URL = "https://api.openai.com/v1"
_AZURE_VERSION = "2025-04-01-preview"
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class ProviderSilent(Exception):
    """The provider cannot be used, as a sentence that says what to do."""


async def ask_provider(settings: Settings, simulator_url: str | None, timeout_seconds: float) -> str:
    """Asks for the provider's models; returns who answered. With `simulator_url`, that one is asked.

    Raises:
        ProviderSilent: there is no key, it is refused, or nobody answers.
    """
    url, headers = _address(settings, simulator_url)
    try:
        async with httpx2.AsyncClient(timeout=timeout_seconds, follow_redirects=False) as client:
            response = await client.get(url, headers=headers)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ProviderSilent(
            f"Nobody answers at {url} ({type(error).__name__}). Check the network and OPENAI_BASE_URL."
        ) from error
    if response.status_code in _REFUSED:
        raise ProviderSilent(
            f"The provider refuses the key (HTTP {response.status_code}). Check OPENAI_API_KEY."
        )
    if response.status_code != HTTPStatus.OK:
        raise ProviderSilent(
            f"The provider answers HTTP {response.status_code} at {url}. Check OPENAI_BASE_URL."
        )
    return f"simulator at {simulator_url}" if simulator_url else f"{settings.provider_name()} takes the key"


def _address(settings: Settings, simulator_url: str | None) -> tuple[str, dict[str, str]]:
    """Where the models are listed, and what lets us in."""
    if simulator_url:
        key = simulator_environment(simulator_url)["OPENAI_API_KEY"]
        return f"{simulator_url}/models", {"Authorization": f"Bearer {key}"}
    if settings.azure_openai_endpoint:
        version = settings.openai_api_version or _AZURE_VERSION
        url = f"{settings.azure_openai_endpoint.rstrip('/')}/openai/models?api-version={version}"
        return url, {"api-key": _need(settings.azure_openai_api_key, "AZURE_OPENAI_API_KEY")}
    secret = _need(settings.openai_api_key, "OPENAI_API_KEY")
    base = (settings.openai_base_url or _OPENAI_URL).rstrip("/")
    return f"{base}/models", {"Authorization": f"Bearer {secret}"}


def _need(key: SecretStr | None, name: str) -> str:
    secret = key.get_secret_value().strip() if key else ""
    if not secret:
        raise ProviderSilent(
            f"{name} is not set. Set it, or run `make up`, which brings a simulator that needs no key."
        )
    return secret
