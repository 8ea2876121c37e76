"""Where the provider is, and what is wrong with the settings that say so. Opens nothing (`imaging.client` does)."""

from dataclasses import dataclass, field

import httpx2

from imaging.errors import ProviderNotConfigured

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """Azure where `azure_endpoint` is given, else OpenAI's API, at `base_url` or at OpenAI.

    `timeout_seconds` bounds a whole call: a picture can take 280 s. `connect_timeout_seconds` bounds the wait for a
    free connection, too.
    """

    api_key: str | None = field(repr=False)
    base_url: str | None = None
    azure_endpoint: str | None = None
    azure_api_version: str | None = None
    timeout_seconds: float = 600.0
    connect_timeout_seconds: float = 5.0
    max_connections: int = 100


def check_settings(settings: ProviderSettings) -> None:
    """Raises ProviderNotConfigured with the setting and what to write there, or returns."""
    _check_key((settings.api_key or "").strip())
    if settings.azure_endpoint:
        _check_url("AZURE_OPENAI_ENDPOINT", settings.azure_endpoint, example="https://NAME.openai.azure.com")
        _check_azure(settings)
    elif settings.base_url:
        _check_url("OPENAI_BASE_URL", settings.base_url, example=OPENAI_URL)


def _check_key(key: str) -> None:
    if not key:
        raise ProviderNotConfigured(
            detail="there is no API key, set OPENAI_API_KEY (any text will do for a gateway that asks for none)"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ProviderNotConfigured(
            detail="OPENAI_API_KEY holds a blank or a character that no key has, copy it again"
        )


def _check_url(setting: str, text: str, example: str) -> None:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ProviderNotConfigured(detail=f"{setting} is {text!r}, write a whole address such as {example}")


def _check_azure(settings: ProviderSettings) -> None:
    if settings.base_url:
        raise ProviderNotConfigured(
            detail="OPENAI_BASE_URL and AZURE_OPENAI_ENDPOINT are both set, unset the one that is not meant"
        )
    if not settings.azure_api_version:
        raise ProviderNotConfigured(
            detail="AZURE_OPENAI_ENDPOINT is set without a version, set OPENAI_API_VERSION"
        )
