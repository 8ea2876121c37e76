"""Whether the provider answers and takes our key: a list of its models, which costs nothing."""

from http import HTTPStatus

import httpx2

from imaging.errors import ProviderNotConfigured
from imaging.provider_settings import OPENAI_URL, ProviderSettings, check_settings
from runtime.embedded import simulator_environment
from runtime.settings import Settings

_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class ProviderSilent(Exception):
    """The provider cannot be used, as a sentence that says what to do."""


async def ask_provider(settings: Settings, simulator_url: str | None, timeout_seconds: float) -> str:
    """Asks for the provider's models; returns who answered. With `simulator_url`, that one is asked.

    Raises:
        ProviderSilent: a setting is missing or cannot work, the key is refused, or nobody answers.
    """
    url, headers = _address_simulator(simulator_url) if simulator_url else _address(settings)
    shown = url.copy_with(username=None, password=None, query=None)
    where = "".join(settings.provider_addresses()) or "OPENAI_BASE_URL"
    try:
        async with (
            httpx2.AsyncClient(timeout=timeout_seconds, follow_redirects=False) as client,
            # The status says it all, and a body may have any size.
            client.stream("GET", url, headers=headers) as response,
        ):
            pass
    except httpx2.HTTPError as error:
        raise ProviderSilent(
            f"Nobody answers at {shown} ({type(error).__name__}). Check the network and {where}."
        ) from error
    if response.status_code in _REFUSED:
        key = "AZURE_OPENAI_API_KEY" if settings.azure_openai_endpoint else "OPENAI_API_KEY"
        raise ProviderSilent(f"The provider refuses the key (HTTP {response.status_code}). Check {key}.")
    if response.status_code != HTTPStatus.OK:
        raise ProviderSilent(f"The provider answers HTTP {response.status_code} at {shown}. Check {where}.")
    return f"simulator at {simulator_url}" if simulator_url else f"{settings.provider_name()} takes the key"


def _address_simulator(simulator_url: str) -> tuple[httpx2.URL, dict[str, str]]:
    key = simulator_environment(simulator_url)["OPENAI_API_KEY"]
    return httpx2.URL(f"{simulator_url}/models"), {"Authorization": f"Bearer {key}"}


def _address(settings: Settings) -> tuple[httpx2.URL, dict[str, str]]:
    """Where the models are listed, and what lets us in, if the worker's client would take these settings too."""
    azure, key = settings.azure_openai_endpoint, settings.provider_key()
    if key is None:
        name = "AZURE_OPENAI_API_KEY" if azure else "OPENAI_API_KEY"
        raise ProviderSilent(
            f"{name} is not set. Set it, or run `make up`, which brings a simulator that needs no key."
        )
    version = settings.openai_api_version
    try:
        check_settings(
            ProviderSettings(
                api_key=key,
                base_url=settings.openai_base_url,
                azure_endpoint=azure,
                azure_api_version=version,
            )
        )
    except ProviderNotConfigured as error:
        raise ProviderSilent(str(error)) from None
    if azure:
        url = f"{azure.rstrip('/')}/openai/models?api-version={version}"
        return httpx2.URL(url), {"api-key": key}
    base = (settings.openai_base_url or OPENAI_URL).rstrip("/")
    return httpx2.URL(f"{base}/models"), {"Authorization": f"Bearer {key}"}
