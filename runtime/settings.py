"""Every setting, read from the environment once. Each has a name, a default and a reason; nothing else reads the environment.

The SDK's own variables (`TEMPORAL_*`) are read by the SDK (`runtime.temporal`), the object store's (`AWS_*`) by its client.
"""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """A setting that cannot be used, as a sentence for the person who set it."""


class Settings(BaseSettings):
    """The environment of one process. Field names are the variables' names in lower case."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    data_dir: Path = Path(".data")
    """Where the embedded servers, the default ledger and the default store keep everything."""
    database_url: str | None = None
    """The ledger: `sqlite:///PATH` or `postgresql://...`; default a SQLite file in DATA_DIR."""
    image_store_url: str | None = None
    """The pictures: `file:///PATH` or `s3://bucket/prefix`; default a folder in DATA_DIR."""

    openai_api_key: SecretStr | None = None
    openai_base_url: str | None = None
    """Any OpenAI-compatible gateway; default OpenAI itself."""
    azure_openai_endpoint: str | None = None
    azure_openai_api_key: SecretStr | None = None
    openai_api_version: str | None = None
    provider: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")
    """Whose calendar of models and whose prices apply: openai, azure or a name of your own; default from the URL."""
    provider_timeout_seconds: int = Field(default=600, ge=1, le=600)
    """How long one answer may take. The workflow gives an attempt 11 minutes, so at most 600."""
    provider_concurrency: int = Field(default=32, ge=1, le=1000)
    """Calls in flight in one worker process; each holds its pictures in memory, some 10 MB at worst."""

    default_model: str = "gpt-image-2"
    """The command line's default only: a request names its model."""
    missing_usage: Literal["estimate", "hold"] = "estimate"
    """What a response without usage becomes where the request does not say: a flagged estimate, or unbillable."""
    retired_models: Literal["refuse", "replace"] = "refuse"
    """Whether a request for a retired model is refused, or runs on its replacement and is billed as that."""
    unpriced_models: Literal["hold", "refuse"] = "hold"
    """Whether a model without a price may run (and waits for its price), or is refused."""
    unknown_outcome_resends: int = Field(default=2, ge=0, le=10)
    """How often a run may send again after a request that may have been paid for without an answer."""
    rate_card: Path | None = None
    """A rate card of your own, laid over the shipped one."""

    temporal_ui_url: str | None = None
    """Where the Web UI of a Temporal server of yours is, for links to runs. The embedded one is known."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def ledger_url(self) -> str:
        """Where the ledger is."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'ledger.db').resolve()}"

    def creates_ledger(self) -> bool:
        """Whether the ledger is made and migrated on first use. A shared database is migrated by its operator."""
        return self.ledger_url().startswith("sqlite:")

    def store_url(self) -> str:
        """Where the pictures are."""
        return self.image_store_url or (self.data_dir / "images").resolve().as_uri()

    def provider_name(self) -> str:
        """The provider whose calendar and prices apply: as set, else told from the URL."""
        if self.provider:
            return self.provider
        if self.azure_openai_endpoint:
            return "azure"
        host = urlsplit(self.openai_base_url or "https://api.openai.com/v1").hostname or "unknown"
        return "openai" if host == "openai.com" or host.endswith(".openai.com") else host


def load_settings() -> Settings:
    """Reads the environment.

    Raises:
        SettingsError: names each variable that cannot be used, its value unless it is a secret, and what is allowed.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [
            f"{'_'.join(map(str, detail['loc'])).upper()} is {_shown(detail)}: {detail['msg']}."
            for detail in error.errors(include_url=False)
        ]
        raise SettingsError("\n".join(problems)) from None


def _shown(detail: object) -> str:
    if not isinstance(detail, dict) or any("key" in str(part) for part in detail["loc"]):
        return "not usable"
    return repr(detail["input"])[:120]
