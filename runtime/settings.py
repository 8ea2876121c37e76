"""Every setting, read from the environment once. Each has a name, a default and a reason; nothing else reads the environment.

The SDK's own variables (`TEMPORAL_*`) are read by the SDK (`runtime.temporal`), the object store's (`AWS_*`) by its client.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.setting_errors import explain
from runtime.setting_values import (
    Address,
    Beginning,
    DataFolder,
    HostList,
    LinkSecrets,
    Place,
    SigningSecrets,
    split_secrets,
)
from runtime.webhook_destinations import Destinations


class SettingsError(Exception):
    """A setting that cannot be used, as a sentence for the person who set it."""


class Settings(BaseSettings):
    """The environment of one process. Field names are the variables' names in lower case."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    data_dir: DataFolder = Path(".data")
    """Where the embedded servers, the default ledger and the default store keep everything."""
    database_url: str | None = None
    """The ledger: `sqlite:///PATH` or `postgresql://...`; default a SQLite file in DATA_DIR."""
    image_store_url: str | None = None
    """The pictures: `file:///PATH` or `s3://bucket/prefix`; default a folder in DATA_DIR."""

    openai_api_key: SecretStr | None = None
    openai_base_url: Address | None = None
    """Any OpenAI-compatible gateway; default OpenAI itself."""
    openai_admin_key: SecretStr | None = None
    """An admin key of the organization that pays: to compare the ledger with the provider's own books, nothing else."""
    openai_project_id: str | None = None
    """The project that makes our pictures: the SDK names it with each request, and only its books are compared."""
    azure_openai_endpoint: Address | None = None
    azure_openai_api_key: SecretStr | None = None
    openai_api_version: str | None = None
    provider: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")
    """Whose calendar of models and whose prices apply: openai, azure or a name of your own; default from the URL."""
    provider_timeout_seconds: int = Field(default=600, ge=1, le=600)
    """How long one answer may take. The workflow gives an attempt 11 minutes, so at most 600."""
    provider_concurrency: int = Field(default=32, ge=1, le=1000)
    """Calls in flight in one worker process. Each holds some 10 MB for what is made; what edits bring has a budget of its own."""
    input_memory_mib: int = Field(default=512, ge=1, le=1_048_576)
    """MiB that the pictures of all edits of one worker process may take until they are sent. An edit may bring 16 pictures of
    50 MB: one that is larger than all of it goes alone. By default a worker fits into 2 GiB."""
    images_per_minute: int | None = Field(default=None, ge=0, le=1_000_000)
    """The provider's limit for the whole organization, held by the Temporal server for all workers together; n counts as n.
    Unset leaves the task queue as it is, 0 lifts the limit that it has."""

    image_url_hosts: HostList | None = None
    """Where pictures may be fetched from when a gateway answers with a `url` in place of the picture: hosts as in NOTIFY_HOSTS,
    by https. A host that is also that of OPENAI_BASE_URL may be reached by http and on a private address. Unset, nowhere."""

    default_model: str = "gpt-image-2"
    """The command line's default only: a request names its model."""
    missing_usage: Literal["estimate", "hold"] = "estimate"
    """What a response without usage becomes where the request does not say: a flagged estimate, or unbillable."""
    retired_models: Literal["refuse", "replace"] = "refuse"
    """Whether a request for a retired model is refused, or runs on its replacement and is billed as that."""
    unpriced_models: Literal["hold", "refuse"] = "hold"
    """Whether a model without a price may run (and waits for its price), or is refused."""
    shared_images: bool = False
    """Whether a tenant may edit pictures that others have uploaded or made. Otherwise it does not find them."""
    unknown_outcome: Literal["resend", "hold"] = "resend"
    """What a request that may have been paid for without an answer leads to where the request does not say: it is sent
    again, or the run is held until somebody decides."""
    unknown_outcome_resends: int = Field(default=2, ge=0, le=10)
    """How often a run may send again after such a request by itself. What somebody decides is not counted."""
    rate_card: Path | None = None
    """A rate card of your own, laid over the shipped one."""

    notify_hosts: HostList | None = None
    """Where requests may have their run's end told (`notify`): hosts with blanks between them, `*.` for all under a name,
    `:PORT` where it is not 443. Unset, nowhere."""
    notify_secrets: SigningSecrets | None = None
    """What notifications are signed with: `whsec_` and 24 to 64 bytes in base64. Several, with blanks between them, each sign."""
    notify_loopback: bool = False
    """Whether such hosts may be this one, by http too: for tests and development."""

    image_links_url: Beginning | None = None
    """Where people reach the links to pictures that run pages and `links` show, such as https://images.example.com."""
    image_links_secret: LinkSecrets | None = None
    """What links are signed with, 32 characters or more. Several, with blanks between them: the first signs, all are taken."""
    image_links_days: int = Field(default=7, ge=1, le=365)
    """How long a link is good."""
    image_links_address: Place | None = None
    """Where the worker serves the pictures behind them, such as 0.0.0.0:9465; unset, it does not."""

    temporal_ui_url: str | None = None
    """Where the Web UI of a Temporal server of yours is, for links to runs. The embedded one is known."""
    metrics_address: Place | None = None
    """Where the worker serves its metrics for Prometheus, such as 0.0.0.0:9464; unset, it counts nothing."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    worker_deployment_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")
    """Temporal's Worker Deployment that this worker is a part of. A worker of none takes what no build takes."""
    worker_build_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")
    """The build that it is of: the same for all workers with the same workflow code, another with other code."""

    otel_exporter_otlp_endpoint: str | None = None
    """The collector that traces go to, such as http://collector:4318; unset, there are none. OpenTelemetry reads its variables
    itself: these only say whether it is loaded."""
    otel_exporter_otlp_traces_endpoint: str | None = None
    otel_exporter_otlp_protocol: str = "http/protobuf"
    otel_sdk_disabled: str = "false"

    @field_validator("otel_exporter_otlp_protocol")
    @classmethod
    def _is_spoken(cls, text: str, info: ValidationInfo) -> str:
        named = ("otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint")
        if text != "http/protobuf" and any(info.data.get(name) for name in named):
            raise ValueError("Write http/protobuf, and the collector's port for that, mostly 4318")
        return text

    def ledger_url(self) -> str:
        """Where the ledger is."""
        path = str((self.data_dir / "ledger.db").resolve())
        # A URL would read %20 as a blank.
        return self.database_url or f"sqlite:///{path.replace('%', '%25')}"

    def exports_traces(self) -> bool:
        """Whether a collector for traces is named."""
        named = self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint
        return bool(named) and self.otel_sdk_disabled.lower() != "true"

    def creates_ledger(self) -> bool:
        """Whether the ledger is made and migrated on first use. A shared database is migrated by its operator."""
        return self.ledger_url().startswith("sqlite:")

    def store_url(self) -> str:
        """Where the pictures are."""
        return self.image_store_url or (self.data_dir / "images").resolve().as_uri()

    def image_links_keys(self) -> list[str]:
        """The secrets of links to pictures."""
        return split_secrets(self.image_links_secret)

    def notify_keys(self) -> list[str]:
        """The secrets that notifications are signed with."""
        return split_secrets(self.notify_secrets)

    def notify_destinations(self) -> Destinations:
        """Where notifications may go."""
        return Destinations.read(
            self.notify_hosts, signed=bool(self.notify_keys()), loopback=self.notify_loopback
        )

    def image_url_destinations(self) -> Destinations:
        """Where pictures may be fetched from."""
        return Destinations.read(self.image_url_hosts, signed=True, loopback=False, setting="IMAGE_URL_HOSTS")

    def provider_urls(self) -> tuple[str, ...]:
        """The URLs of the provider that are set, which a picture may also be fetched from."""
        return tuple(filter(None, (self.azure_openai_endpoint, self.openai_base_url)))

    def provider_key(self) -> str | None:
        """The key that the provider takes, None where it is not set. Azure has a key of its own."""
        secret = self.azure_openai_api_key if self.azure_openai_endpoint else self.openai_api_key
        return (secret.get_secret_value().strip() if secret else None) or None

    def provider_addresses(self) -> list[str]:
        """The names of the settings that say where the provider is, as far as they are set."""
        given = {
            "AZURE_OPENAI_ENDPOINT": self.azure_openai_endpoint,
            "OPENAI_BASE_URL": self.openai_base_url,
        }
        return [name for name, address in given.items() if address]

    def provider_name(self) -> str:
        """The provider whose calendar and prices apply: as set, else told from the URL."""
        if self.provider:
            return self.provider
        if self.azure_openai_endpoint:
            return "azure"
        host = urlsplit(self.openai_base_url or "https://api.openai.com/v1").hostname or "unknown"
        return "openai" if host == "openai.com" or host.endswith(".openai.com") else host


def load_settings(changes: Mapping[str, str] | None = None) -> Settings:
    """Reads the environment; `changes`, by field name, go before it.

    Raises:
        SettingsError: names each variable that cannot be used, its value unless it is a secret, and what is allowed.
    """
    try:
        return Settings.model_validate(changes or {})
    except ValidationError as error:
        raise SettingsError(explain(error, Settings.model_json_schema()["properties"])) from None
