"""Every setting, read from the environment once. Each has a name, a default and a reason; nothing else reads the environment.

The SDK's own variables (`TEMPORAL_*`) are read by the SDK (`gpt_image_runs.temporal.connection`), the object store's (`AWS_*`) by its client.
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


def explain(error: ValidationError, properties: Mapping[str, Any]) -> str:
    """A line for each variable: its name, its value unless it is a secret, and what is allowed.

    `properties` are those of the settings' JSON Schema, which knows both bounds of a number.
    """
    return "\n".join(
        f"{'_'.join(map(str, detail['loc'])).upper()} is {_show(detail)}. {_explain(detail, properties)}."
        for detail in error.errors(include_url=False)
    )


def _show(detail: Mapping[str, Any]) -> str:
    value = repr(detail["input"])
    secret = any(word in str(part) for part in detail["loc"] for word in ("key", "secret")) or "@" in value
    return "not usable" if secret else value[:120]


def _explain(detail: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """What to write instead, in words of people where pydantic's are those of programmers."""
    field = str(detail["loc"][0])
    match detail["type"]:
        case "value_error":
            return str(detail["ctx"]["error"])
        case "string_pattern_mismatch":
            return _PATTERNS.get(
                field, "Write a name of small letters, digits, dots and hyphens, such as openai"
            )
        case "literal_error":
            return f"Write {detail['ctx']['expected']}"
        case "bool_parsing":
            return "Write true or false"
        case "greater_than_equal" | "less_than_equal" | "int_parsing":
            return f"Write a whole number{_bounds(properties[field])}"
    return str(detail["msg"])


def _bounds(described: Mapping[str, Any]) -> str:
    limits = described.get("anyOf", [described])[0]  # of what may be unset, the first kind is the number
    return f" from {limits['minimum']} to {limits['maximum']}"


_MIN_SECRET = 32


def split_secrets(secrets: SecretStr | None) -> list[str]:
    """The single secrets of a setting that may hold several, with blanks or commas between them."""
    return (secrets.get_secret_value() if secrets else "").replace(",", " ").split()


def _check_folder(path: Path) -> Path:
    if "?" in str(path.absolute()):
        raise ValueError("Write a path without ?, behind which SQLite reads options")
    return path


def _check_address(text: str) -> str:
    with suppress(ValueError):
        parts = urlsplit(text)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return text
    raise ValueError("Write a whole address, such as https://api.openai.com/v1")


def _check_beginning(text: str) -> str:
    if not {"?", "#"}.isdisjoint(text):
        raise ValueError(
            "Write an address without ? and #, as links go on with a path and a query of their own, such as"
            " https://images.example.com/pictures"
        )
    return text


def _check_hosts(text: str) -> str:
    try:
        Destinations.read(text, signed=True, loopback=False)
    except ValueError as error:
        raise ValueError(
            f"{str(error)!a} is no host; write such as hooks.example.com *.partners.example.com localhost:8080"
        ) from None
    return text


def _check_signing_secrets(secrets: SecretStr) -> SecretStr:
    if not all(map(is_signing_secret, split_secrets(secrets))):
        raise ValueError("Write whsec_ and 24 to 64 bytes in base64, several with blanks between them")
    return secrets


def _check_link_secrets(secrets: SecretStr) -> SecretStr:
    if any(len(one) < _MIN_SECRET for one in split_secrets(secrets)):
        raise ValueError(f"Write {_MIN_SECRET} characters or more, several with blanks between them")
    return secrets


def _check_place(text: str) -> str:
    host, _, port = text.rpartition(":")
    with suppress(ValueError):
        address = ip_address(host.removeprefix("[").removesuffix("]") if "[" in host else host)
        # Port 0 is any free one, and nobody would find it.
        if (address.version == 6) == ("[" in host) and port.isdecimal() and 0 < int(port) < 2**16:  # noqa: PLR2004
            return text
    raise ValueError("Write an IP address and a port of this host, such as 127.0.0.1:9464")


DataFolder = Annotated[Path, AfterValidator(_check_folder)]
Address = Annotated[str, AfterValidator(_check_address)]
"""A whole URL of HTTP."""
Beginning = Annotated[Address, AfterValidator(_check_beginning)]
"""One that goes on with a path and a query."""
HostList = Annotated[str, AfterValidator(_check_hosts)]
SigningSecrets = Annotated[SecretStr, AfterValidator(_check_signing_secrets)]
LinkSecrets = Annotated[SecretStr, AfterValidator(_check_link_secrets)]
Place = Annotated[str, AfterValidator(_check_place)]
"""An IP address and a port to listen on."""


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
