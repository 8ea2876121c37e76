"""Read all settings from the environment, once. Nothing else reads the environment.

Exceptions: the SDK reads its own variables (`TEMPORAL_*`, see `gpt_image_runs.temporal.connection`), and the object
store's client its own (`AWS_*`).
"""

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gpt_image_runs.webhooks.allowlist import Destinations
from gpt_image_runs.webhooks.signing import is_signing_secret

_PATTERNS = {
    "worker_deployment_name": "Write a name of letters, digits, hyphens and underscores, such as image-runs",
    "worker_build_id": "Write letters, digits, dots, hyphens, underscores or plus signs, such as 1.4.2 or a commit",
}


def format_errors(error: ValidationError, properties: Mapping[str, Any]) -> str:
    """Format a line for each variable: its name, its value unless it is a secret, and what is allowed.

    `properties` are those of the settings' JSON Schema, which has both bounds of a number.
    """
    return "\n".join(
        f"{'_'.join(map(str, detail['loc'])).upper()} is {_format_value(detail)}. {_format_rule(detail, properties)}."
        for detail in error.errors(include_url=False)
    )


def _format_value(detail: Mapping[str, Any]) -> str:
    value = repr(detail["input"])
    secret = any(word in str(part) for part in detail["loc"] for word in ("key", "secret")) or "@" in value
    return "not usable" if secret else value[:120]


def _format_rule(detail: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """Say what to write instead, without pydantic's programming terms."""
    field = str(detail["loc"][0])
    match detail["type"]:
        case "value_error":
            return str(detail["ctx"]["error"])
        case "string_pattern_mismatch":
            return _PATTERNS.get(
                field, "Write a name of lower-case letters, digits, dots and hyphens, such as openai"
            )
        case "literal_error":
            return f"Write {detail['ctx']['expected']}"
        case "bool_parsing":
            return "Write true or false"
        case "greater_than_equal" | "less_than_equal" | "int_parsing":
            return f"Write a whole number{_format_bounds(properties[field])}"
    return str(detail["msg"])


def _format_bounds(described: Mapping[str, Any]) -> str:
    limits = described.get("anyOf", [described])[
        0
    ]  # of an optional number, the first alternative is the number
    return f" from {limits['minimum']} to {limits['maximum']}"


_MIN_SECRET_LENGTH = 32


def split_secrets(secrets: SecretStr | None) -> list[str]:
    """Split a setting of one or more secrets, separated by blanks or commas."""
    return (secrets.get_secret_value() if secrets else "").replace(",", " ").split()


def _check_folder(path: Path) -> Path:
    if "?" in str(path.absolute()):
        raise ValueError("Write a path without ?, which starts SQLite's options")
    return path


def _check_url(text: str) -> str:
    with suppress(ValueError):
        parts = urlsplit(text)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return text
    raise ValueError("Write a complete URL, such as https://api.openai.com/v1")


def _check_base_url(text: str) -> str:
    if not {"?", "#"}.isdisjoint(text):
        raise ValueError(
            "Write a URL without ? and #, because links append a path and a query to it, such as"
            " https://images.example.com/pictures"
        )
    return text


def _check_hosts(text: str) -> str:
    try:
        Destinations.read(text, signed=True, loopback=False)
    except ValueError as error:
        raise ValueError(
            f"{str(error)!a} is not a valid host. Write for example hooks.example.com *.partners.example.com localhost:8080"
        ) from None
    return text


def _check_signing_secrets(secrets: SecretStr) -> SecretStr:
    if not all(map(is_signing_secret, split_secrets(secrets))):
        raise ValueError("Write whsec_ and 24 to 64 bytes in base64, several of them separated by blanks")
    return secrets


def _check_link_secrets(secrets: SecretStr) -> SecretStr:
    if any(len(one) < _MIN_SECRET_LENGTH for one in split_secrets(secrets)):
        raise ValueError(
            f"Write {_MIN_SECRET_LENGTH} characters or more, several secrets separated by blanks"
        )
    return secrets


def _check_listen_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    with suppress(ValueError):
        address = ip_address(host.removeprefix("[").removesuffix("]") if "[" in host else host)
        # Port 0 would be a random free port, which no client knows.
        if (address.version == 6) == ("[" in host) and port.isdecimal() and 0 < int(port) < 2**16:  # noqa: PLR2004
            return text
    raise ValueError("Write an IP address and a port of this host, such as 127.0.0.1:9464")


DataFolder = Annotated[Path, AfterValidator(_check_folder)]
# An http or https URL.
Url = Annotated[str, AfterValidator(_check_url)]
# A URL that a path and a query are appended to.
BaseUrl = Annotated[Url, AfterValidator(_check_base_url)]
HostList = Annotated[str, AfterValidator(_check_hosts)]
SigningSecrets = Annotated[SecretStr, AfterValidator(_check_signing_secrets)]
LinkSecrets = Annotated[SecretStr, AfterValidator(_check_link_secrets)]
# An IP address and a port to listen on.
ListenAddress = Annotated[str, AfterValidator(_check_listen_address)]


class SettingsError(Exception):
    """A setting that cannot be used; the message is for the user who set it."""


class Settings(BaseSettings):
    """The environment of one process. Fields are named like the variables, in lower case."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    # The folder of the embedded servers, the default ledger and the default store.
    data_dir: DataFolder = Path(".data")
    # The ledger: `sqlite:///PATH` or `postgresql://...`. By default a SQLite file in DATA_DIR.
    database_url: str | None = None
    # The pictures: `file:///PATH` or `s3://bucket/prefix`. By default a folder in DATA_DIR.
    image_store_url: str | None = None

    openai_api_key: SecretStr | None = None
    # Any OpenAI-compatible gateway. By default OpenAI itself.
    openai_base_url: Url | None = None
    # An admin key of the paying organization. Used only to compare the ledger with the provider's usage and
    # costs.
    openai_admin_key: SecretStr | None = None
    # The project of our requests. The SDK sends it with each request, and only its usage is compared.
    openai_project_id: str | None = None
    azure_openai_endpoint: Url | None = None
    azure_openai_api_key: SecretStr | None = None
    openai_api_version: str | None = None
    # The provider whose model catalog and prices apply: openai, azure or a custom name. By default derived
    # from the URL.
    provider: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")
    # Timeout of one response. At most 600, because the workflow gives an attempt 11 minutes.
    provider_timeout_seconds: int = Field(default=600, ge=1, le=600)
    # Calls in flight in one worker process. Each holds about 10 MB for its output; inputs have their own
    # budget.
    provider_concurrency: int = Field(default=32, ge=1, le=1000)
    # Memory in MiB for the pictures of all edits of one worker process until they are uploaded. An edit may
    # have 16 pictures of 50 MB: one that is larger than the budget runs alone. With the default a worker fits
    # into 2 GiB.
    input_memory_mib: int = Field(default=512, ge=1, le=1_048_576)
    # The provider's rate limit for the organization, enforced by the Temporal server for all workers
    # together. A call counts with its n. Unset keeps the task queue's limit, 0 removes it.
    images_per_minute: int | None = Field(default=None, ge=0, le=1_000_000)

    # Hosts (as in NOTIFY_HOSTS, https only) that pictures may be fetched from when a gateway responds with a
    # `url` instead of the picture. A host that is also that of OPENAI_BASE_URL may use http and a private
    # address. Unset: none.
    image_url_hosts: HostList | None = None

    # Default of the command line only: a request always names its model.
    default_model: str = "gpt-image-2"
    # Billing of a response without usage if the request does not specify it: a flagged estimate, or
    # unbillable.
    missing_usage: Literal["estimate", "hold"] = "estimate"
    # Whether a request for a retired model is refused, or runs on its replacement and is billed as that.
    retired_models: Literal["refuse", "replace"] = "refuse"
    # Whether a model without a price may run (and waits for its price), or is refused.
    unpriced_models: Literal["hold", "refuse"] = "hold"
    # Whether a tenant may edit pictures that other tenants uploaded or made. Otherwise they are not found.
    shared_images: bool = False
    # What follows a request with an unknown outcome, which may have been charged, if the request does not
    # specify it: it is sent again, or the run is held for a decision.
    unknown_outcome: Literal["resend", "hold"] = "resend"
    # How often a run may resend after an unknown outcome without a decision. Decisions do not count.
    unknown_outcome_resends: int = Field(default=2, ge=0, le=10)
    # A rate card that overrides entries of the shipped one.
    rate_card: Path | None = None

    # Hosts that requests may send a notification of the run's end to (`notify`): separated by blanks, `*.`
    # for all below a name, `:PORT` if it is not 443. Unset: none.
    notify_hosts: HostList | None = None
    # Secrets that sign notifications: `whsec_` and 24 to 64 bytes in base64, separated by blanks. Each of
    # them signs.
    notify_secrets: SigningSecrets | None = None
    # Whether these hosts may be this host, also by http. For tests and development.
    notify_loopback: bool = False

    # The public URL of the links to pictures on run pages and in `links`, such as https://images.example.com.
    image_links_url: BaseUrl | None = None
    # Secrets that sign links, 32 characters or more, separated by blanks. The first signs, all are accepted.
    image_links_secret: LinkSecrets | None = None
    # How long a link is valid.
    image_links_days: int = Field(default=7, ge=1, le=365)
    # The address at which the worker serves these pictures, such as 0.0.0.0:9465. Unset: it does not.
    image_links_address: ListenAddress | None = None

    # The URL of your Temporal server's Web UI, for links to runs. The embedded one is known.
    temporal_ui_url: str | None = None
    # The address at which the worker serves metrics for Prometheus, such as 0.0.0.0:9464. Unset: no metrics.
    metrics_address: ListenAddress | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    # Temporal's Worker Deployment of this worker. A worker without one gets runs that have no build.
    worker_deployment_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")
    # The worker's build: equal for all workers with the same workflow code, different for other code.
    worker_build_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")

    # The trace collector, such as http://collector:4318. Unset: no traces. OpenTelemetry reads its variables
    # itself; these fields only decide whether it is loaded.
    otel_exporter_otlp_endpoint: str | None = None
    otel_exporter_otlp_traces_endpoint: str | None = None
    otel_exporter_otlp_protocol: str = "http/protobuf"
    otel_sdk_disabled: str = "false"

    @field_validator("otel_exporter_otlp_protocol")
    @classmethod
    def _check_protocol(cls, text: str, info: ValidationInfo) -> str:
        named = ("otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint")
        if text != "http/protobuf" and any(info.data.get(name) for name in named):
            raise ValueError("Write http/protobuf, and the collector's port for that, mostly 4318")
        return text

    def ledger_url(self) -> str:
        """Return the URL of the ledger."""
        path = str((self.data_dir / "ledger.db").resolve())
        # In a URL %20 would mean a blank.
        return self.database_url or f"sqlite:///{path.replace('%', '%25')}"

    def exports_traces(self) -> bool:
        """Return whether a trace collector is configured."""
        named = self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint
        return bool(named) and self.otel_sdk_disabled.lower() != "true"

    def creates_ledger(self) -> bool:
        """Return whether the ledger is created and migrated on first use.

        A shared database is migrated by its operator.
        """
        return self.ledger_url().startswith("sqlite:")

    def store_url(self) -> str:
        """Return the URL of the image store."""
        return self.image_store_url or (self.data_dir / "images").resolve().as_uri()

    def image_links_keys(self) -> list[str]:
        """Return the secrets of links to pictures."""
        return split_secrets(self.image_links_secret)

    def notify_keys(self) -> list[str]:
        """Return the secrets that sign notifications."""
        return split_secrets(self.notify_secrets)

    def notify_destinations(self) -> Destinations:
        """Return where notifications may be sent."""
        return Destinations.read(
            self.notify_hosts, signed=bool(self.notify_keys()), loopback=self.notify_loopback
        )

    def image_url_destinations(self) -> Destinations:
        """Return where pictures may be fetched from."""
        return Destinations.read(self.image_url_hosts, signed=True, loopback=False, setting="IMAGE_URL_HOSTS")

    def provider_urls(self) -> tuple[str, ...]:
        """Return the configured URLs of the provider, which pictures may also be fetched from."""
        return tuple(filter(None, (self.azure_openai_endpoint, self.openai_base_url)))

    def provider_key(self) -> str | None:
        """Return the provider's key, or None if it is not set. Azure has its own key."""
        secret = self.azure_openai_api_key if self.azure_openai_endpoint else self.openai_api_key
        return (secret.get_secret_value().strip() if secret else None) or None

    def provider_addresses(self) -> list[str]:
        """Return the names of the configured settings that contain the provider's URL."""
        given = {
            "AZURE_OPENAI_ENDPOINT": self.azure_openai_endpoint,
            "OPENAI_BASE_URL": self.openai_base_url,
        }
        return [name for name, address in given.items() if address]

    def provider_name(self) -> str:
        """Return the provider whose catalog and prices apply: as configured, or derived from the URL."""
        if self.provider:
            return self.provider
        if self.azure_openai_endpoint:
            return "azure"
        host = urlsplit(self.openai_base_url or "https://api.openai.com/v1").hostname or "unknown"
        return "openai" if host == "openai.com" or host.endswith(".openai.com") else host


def load_settings(changes: Mapping[str, str] | None = None) -> Settings:
    """Read the environment. `changes`, by field name, take precedence.

    Raises:
        SettingsError: some variables cannot be used; the message names each, its value unless it is a secret, and
            what is allowed.
    """
    try:
        return Settings.model_validate(changes or {})
    except ValidationError as error:
        raise SettingsError(format_errors(error, Settings.model_json_schema()["properties"])) from None
