"""Invalid settings are reported in one sentence each, and derived locations follow from the settings."""

import os
from pathlib import Path

import pytest
from sqlalchemy import make_url

from gpt_image_runs.local_stack.stack import has_provider
from gpt_image_runs.settings import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)


BASE_URL_RULE = (
    "Write a URL without ? and #, because links append a path and a query to it, such as"
    " https://images.example.com/pictures"
)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "PROVIDER_CONCURRENCY",
            "many",
            "PROVIDER_CONCURRENCY is 'many'. Write a whole number from 1 to 1000.",
        ),
        (
            "PROVIDER_TIMEOUT_SECONDS",
            "601",
            "PROVIDER_TIMEOUT_SECONDS is '601'. Write a whole number from 1 to 600.",
        ),
        (
            "UNKNOWN_OUTCOME_RESENDS",
            "-1",
            "UNKNOWN_OUTCOME_RESENDS is '-1'. Write a whole number from 0 to 10.",
        ),
        (
            "IMAGES_PER_MINUTE",
            "-1",
            "IMAGES_PER_MINUTE is '-1'. Write a whole number from 0 to 1000000.",
        ),
        (
            "DATA_DIR",
            "/a?b",
            "DATA_DIR is '/a?b'. Write a path without ?, which starts SQLite's options.",
        ),
        *(
            (
                "METRICS_ADDRESS",
                value,
                f"METRICS_ADDRESS is '{value}'. Write an IP address and a port of this host, such as 127.0.0.1:9464.",
            )
            for value in (
                "9464",
                "localhost:9464",
                "127.0.0.1:0",
                "127.0.0.1:65536",
                "::1:9464",
                "[::1]:",
                "a:b",
            )
        ),
        *(
            (
                "NOTIFY_HOSTS",
                f"a.example {value}",
                f"NOTIFY_HOSTS is 'a.example {value}'. '{value}' is not a valid host. Write for example hooks.example.com *.partners.example.com localhost:8080.",
            )
            for value in ("https://b.example", "*", "b.example:0")
        ),
        *(
            (
                "NOTIFY_SECRETS",
                f"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= {value}",
                "NOTIFY_SECRETS is not usable. Write whsec_ and 24 to 64 bytes in base64, several of them separated by blanks.",
            )
            for value in (
                "whsec_",
                "whsec_c2hvcnQ=",
                "whsec_!",
                "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            )
        ),
        (
            "IMAGE_LINKS_SECRET",
            f"{'s' * 32} {'s' * 31}",
            "IMAGE_LINKS_SECRET is not usable. Write 32 characters or more, several secrets separated by blanks.",
        ),
        ("IMAGE_LINKS_DAYS", "0", "IMAGE_LINKS_DAYS is '0'. Write a whole number from 1 to 365."),
        (
            "IMAGE_LINKS_URL",
            "images.example.com",
            "IMAGE_LINKS_URL is 'images.example.com'. Write a complete URL, such as https://api.openai.com/v1.",
        ),
        *(
            (
                "IMAGE_LINKS_URL",
                f"https://images.example.com/{rest}",
                f"IMAGE_LINKS_URL is 'https://images.example.com/{rest}'. {BASE_URL_RULE}.",
            )
            for rest in ("?tenant=acme", "#pictures", "?")
        ),
        (
            "IMAGE_LINKS_ADDRESS",
            "9465",
            "IMAGE_LINKS_ADDRESS is '9465'. Write an IP address and a port of this host, such as 127.0.0.1:9464.",
        ),
        ("NOTIFY_LOOPBACK", "perhaps", "NOTIFY_LOOPBACK is 'perhaps'. Write true or false."),
        ("MISSING_USAGE", "zero", "MISSING_USAGE is 'zero'. Write 'estimate' or 'hold'."),
        ("UNKNOWN_OUTCOME", "pay", "UNKNOWN_OUTCOME is 'pay'. Write 'resend' or 'hold'."),
        (
            "PROVIDER",
            "Open AI",
            "PROVIDER is 'Open AI'. Write a name of lower-case letters, digits, dots and hyphens, such as openai.",
        ),
        (
            "WORKER_DEPLOYMENT_NAME",
            "image.runs",
            "WORKER_DEPLOYMENT_NAME is 'image.runs'. Write a name of letters, digits, hyphens and underscores, such as image-runs.",
        ),
        (
            "WORKER_BUILD_ID",
            "a b",
            "WORKER_BUILD_ID is 'a b'. Write letters, digits, dots, hyphens, underscores or plus signs, such as 1.4.2 or a commit.",
        ),
        (
            "OPENAI_BASE_URL",
            "http://[",
            "OPENAI_BASE_URL is 'http://['. Write a complete URL, such as https://api.openai.com/v1.",
        ),
        (
            "AZURE_OPENAI_ENDPOINT",
            "https://user:hunter2@:99999",
            "AZURE_OPENAI_ENDPOINT is not usable. Write a complete URL, such as https://api.openai.com/v1.",
        ),
    ],
)
def test_invalid_setting_is_reported_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    """It has the name, the value unless it may contain a secret, and what to write."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()

    assert str(raised.value) == sentence


@pytest.mark.parametrize(
    ("variables", "exports"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
)
def test_traces_are_exported_if_a_collector_is_configured(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, exports: bool
) -> None:
    """Both variables of the standard turn traces on, and OTEL_SDK_DISABLED turns them off."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert load_settings().exports_traces() is exports


def test_unsupported_trace_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector configured for gRPC would receive nothing."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(SettingsError) as raised:
        load_settings()

    assert str(raised.value) == (
        "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'. Write http/protobuf, and the collector's port for that, mostly 4318."
    )


@pytest.mark.parametrize("name", ["a b", "100%", "%3F", "ä#;@", "図"])
def test_default_ledger_is_in_data_dir_with_special_characters(tmp_path: Path, name: str) -> None:
    settings = Settings(data_dir=tmp_path / name)

    assert make_url(settings.ledger_url()).database == str(tmp_path / name / "ledger.db")


@pytest.mark.parametrize(
    ("variables", "provided"),
    [
        ({}, False),
        ({"OPENAI_API_KEY": "sk-x"}, True),
        ({"OPENAI_API_KEY": " \n"}, False),
        ({"OPENAI_BASE_URL": "http://gateway/v1"}, False),
        ({"AZURE_OPENAI_API_KEY": "x"}, False),
        ({"AZURE_OPENAI_ENDPOINT": "https://x.example", "AZURE_OPENAI_API_KEY": "x"}, True),
        ({"AZURE_OPENAI_ENDPOINT": "https://x.example", "OPENAI_API_KEY": "sk-x"}, False),
    ],
)
def test_provider_key_is_that_of_the_configured_provider(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, provided: bool
) -> None:
    """A blank key counts as unset."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert has_provider(load_settings()) is provided


def test_option_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid option gets the same message as a variable."""
    monkeypatch.setenv("IMAGES_PER_MINUTE", "250")
    assert load_settings().images_per_minute == 250
    assert load_settings({"images_per_minute": "20"}).images_per_minute == 20
    with pytest.raises(SettingsError, match="IMAGES_PER_MINUTE is 'many'"):
        load_settings({"images_per_minute": "many"})


@pytest.mark.parametrize("address", ["127.0.0.1:9464", "0.0.0.0:1", "[::1]:9464"])
def test_metrics_address_is_optional(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().metrics_address is None
    monkeypatch.setenv("METRICS_ADDRESS", address)
    assert load_settings().metrics_address == address
