import re
from typing import Any

import pytest
from temporalio.envconfig import ClientConfig

from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.settings import Settings, load_settings
from tests.support.deploy.compose_file import APPLICATION, list_mounted_files, list_services
from tests.support.servers.s3_server import s3_client

# What other programs read, by image, and where that is written down. What a file of ours in a mount names is read too.
READ_BY = {
    # docker-library/postgres, docker-entrypoint.sh
    "postgres": {"POSTGRES_PASSWORD", "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_INITDB_ARGS"},
    # temporalio/temporal, tools/sql/main.go (SQL_*), and temporalio/cli, which reads the SDKs' TEMPORAL_*
    "temporalio/admin-tools": {
        *("SQL_PLUGIN", "SQL_HOST", "SQL_PORT", "SQL_USER", "SQL_PASSWORD", "SQL_DATABASE"),
        *("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"),
    },
    # temporalio/temporal, common/config/config_template_embedded.yaml and docker/scripts/sh/entrypoint.sh
    "temporalio/server": {
        *("DB", "POSTGRES_SEEDS", "POSTGRES_USER", "POSTGRES_PWD", "BIND_ON_IP", "NUM_HISTORY_SHARDS"),
        *("DYNAMIC_CONFIG_FILE_PATH", "PROMETHEUS_ENDPOINT", "LOG_LEVEL"),
    },
    # temporalio/ui, server/config/docker.yaml
    "temporalio/ui": {"TEMPORAL_ADDRESS", "TEMPORAL_CORS_ORIGINS"},
    # rustfs/rustfs, crates/config, crates/obs/README.md and docs/operations/durability-modes.md
    "rustfs/rustfs": {
        *("RUSTFS_ACCESS_KEY", "RUSTFS_SECRET_KEY", "RUSTFS_VOLUMES", "RUSTFS_CONSOLE_ENABLE"),
        *("RUSTFS_OBS_LOG_DIRECTORY", "RUSTFS_NEW_BUCKET_DURABILITY_MODE"),
    },
}
# Read by libraries of ours: libpq, the Temporal SDK (temporalio.envconfig), obstore and OpenTelemetry.
READ_BY_LIBRARIES = {
    "PGPASSWORD",
    *("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"),
    *("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"),
    *("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
}
SETTINGS = {name.upper() for name in Settings.model_fields}
SERVICES = list_services()
FOREIGN = {name: service for name, service in SERVICES.items() if name not in APPLICATION}


@pytest.mark.parametrize("service", FOREIGN.values(), ids=FOREIGN.keys())
def test_variables_of_other_images_are_read_by_them(service: dict[str, Any]) -> None:
    """A variable that nobody reads is a setting that somebody believes in."""
    files = "\n".join(path.read_text(encoding="utf-8") for path in list_mounted_files(service))
    read = READ_BY[service["image"].partition(":")[0]] | set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", files))
    assert service["environment"].keys() - read == set()


@pytest.mark.parametrize("name", sorted(APPLICATION))
def test_variables_of_the_application_are_settings(name: str) -> None:
    """The application's variables are settings of ours, or their libraries'."""
    assert SERVICES[name]["environment"].keys() - SETTINGS - READ_BY_LIBRARIES == set()


def test_every_setting_is_passed_to_the_worker() -> None:
    """A new setting is passed on to the worker, which keeps nothing in DATA_DIR where all is kept elsewhere."""
    assert SETTINGS - SERVICES["worker"]["environment"].keys() == {"DATA_DIR"}


def test_worker_reads_ledger_store_and_key_from_its_environment(
    worker_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings read the worker's environment: the shared ledger, which it does not migrate, store and key."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in worker_environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.ledger_url() == "postgresql://ledger_worker@postgres:5432/ledger"
    assert settings.creates_ledger() is False
    assert settings.store_url() == "s3://images"
    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "secret-of-openai_api_key"


def test_worker_reads_temporal_address_and_namespace_from_its_environment(
    worker_environment: dict[str, str],
) -> None:
    config = ClientConfig.load_client_connect_config(disable_file=True, override_env_vars=worker_environment)
    assert config["target_host"] == "temporal:7233"
    assert config["namespace"] == "default"


async def test_worker_stores_an_image_in_the_bucket(
    worker_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, s3_url: str
) -> None:
    """With the worker's variables, and nothing but the address changed, a picture goes into the bucket and back."""
    for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, worker_environment[name])
    assert worker_environment["AWS_ENDPOINT_URL"] == "http://image-store:9000"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    bucket = worker_environment["IMAGE_STORE_URL"].removeprefix("s3://")
    assert bucket == SERVICES["image-bucket"]["environment"]["BUCKET"]
    s3_client(s3_url).create_bucket(Bucket=bucket)
    store = ImageStore.from_url(worker_environment["IMAGE_STORE_URL"])
    await store.put_document("deploy", b"{}")
    assert await store.read_document("deploy") == b"{}"
