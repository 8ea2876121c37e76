"""What a command works with: the settings, and the embedded stack of this directory if it is running.

Commands open connections through it. No command reads the environment itself.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter

from gpt_image_runs.database.engine import Database, describe_location, parse_url
from gpt_image_runs.database.errors import LedgerNotReady
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.backend import StoreFailure
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.local_stack.data_folder import protect_data_dir
from gpt_image_runs.local_stack.stack import SIMULATOR
from gpt_image_runs.observability.tracing import begin_tracing
from gpt_image_runs.settings import Settings, load_settings
from gpt_image_runs.temporal.connection import connect_to_temporal
from gpt_image_runs.temporal.stack_file import Stack, read_stack_file


@dataclass(frozen=True, slots=True)
class Session:
    """The settings of this process, and the embedded stack of its DATA_DIR; None if it is not running."""

    settings: Settings
    stack: Stack | None

    @property
    def is_simulated(self) -> bool:
        """Whether the embedded stack's simulator replaces the provider. The stack's worker decides, not this process's key."""
        return bool(self.stack and self.stack.provider_base_url)

    @property
    def provider(self) -> str:
        """The provider whose model dates and prices apply."""
        return SIMULATOR if self.is_simulated else self.settings.provider_name()

    async def connect(self) -> Client:
        """Connect to Temporal. Raises TemporalUnavailable."""
        hush_temporal()
        begin_tracing(self.settings, "gpt-image-starter")
        return await connect_to_temporal(self.settings.data_dir)

    def open_store(self) -> ImageStore:
        """Open the image store. Raises StoreUnavailable."""
        if self.settings.image_store_url is None:
            with suppress(OSError):  # the store says what is wrong with the folder
                protect_data_dir(self.settings.data_dir, create=True)
        return ImageStore.from_url(self.settings.store_url())

    def find_store(self) -> ImageStore | None:
        """Open the image store; return None if it is not available, because a result is useful without it."""
        with suppress(StoreFailure):
            return self.open_store()
        return None

    @contextmanager
    def open_ledger(self) -> Iterator[Database]:
        """Open the ledger and close it at the end of the block.

        Raises:
            LedgerNotReady: there is none yet, or it has to be migrated.
            LedgerUnavailable: it does not answer.
        """
        database = open_existing_ledger(self.settings)
        try:
            yield database
        finally:
            database.close()

    def link_to_run(self, run_id: str, client: Client) -> str | None:
        """Return the run's page in the Web UI; None if no Web UI is known."""
        base = self.stack.ui_url if self.stack else self.settings.temporal_ui_url
        if not base:
            return None
        return f"{base.rstrip('/')}/namespaces/{client.namespace}/workflows/{quote(run_id, safe='')}"


def open_session() -> Session:
    """Read the settings and find the embedded stack. Raises SettingsError."""
    settings = load_settings()
    stack = read_stack_file(settings.data_dir)
    return Session(settings, stack if stack and _is_meant(stack) else None)


def hush_temporal() -> None:
    """Turn off the SDKs' own logs: our messages cover what they warn of, or it recovers by itself."""
    for name in ("opentelemetry", "gpt_image_runs.observability.tracing", "temporalio"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    quiet = TelemetryFilter(core_level="ERROR", other_level="ERROR")
    with suppress(RuntimeError):  # done already
        Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=quiet))))


def _is_meant(stack: Stack) -> bool:
    """Return whether TEMPORAL_* is unset or names this stack. A server that is named there takes precedence."""
    with suppress(
        RuntimeError, ValueError, OSError
    ):  # unusable settings are told when it comes to connecting
        named = ClientConfig.load_client_connect_config().get("target_host")
        return named in {None, stack.temporal_address}
    return False


def open_existing_ledger(settings: Settings) -> Database:
    """Open the ledger, migrating the embedded default if needed. It is never created: reading must not leave a file."""
    url = settings.ledger_url()
    location = parse_url(url)
    if location.drivername == "sqlite" and not Path(location.database or "").exists():
        raise LedgerNotReady(
            f"There is no ledger at {describe_location(location)} yet: the worker creates it when it first starts. Start it with `make up`."
        )
    return open_database(url, create=settings.creates_ledger())
