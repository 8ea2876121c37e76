"""Asking the provider whether it answers and takes the key."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cli.local.doctor import ProviderSilent, ask_provider
from gpt_image_runs.settings import Settings, load_settings

PATIENCE_SECONDS = 5.0


@contextmanager
def provider_that_answers(status: int, asked: list[tuple[str, str | None]]) -> Iterator[str]:
    """A server on loopback that answers every GET with a status, and notes path and credentials."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"] or self.headers["api-key"]))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def settings_for(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """The settings of an environment with these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


async def test_provider_that_accepts_the_key_is_named(
    data_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models are asked for with the key, its newline aside, and the provider's name is told."""
    asked: list[tuple[str, str | None]] = []
    with provider_that_answers(200, asked) as url:
        settings = settings_for(monkeypatch, OPENAI_BASE_URL=url, OPENAI_API_KEY="sk-1\n", PROVIDER="gateway")
        answer = await ask_provider(settings, None, PATIENCE_SECONDS)

    assert answer == "gateway takes the key"
    assert asked == [("/v1/models", "Bearer sk-1")]


async def test_azure_is_asked_with_its_own_url_and_header(
    data_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure has another path and another header."""
    asked: list[tuple[str, str | None]] = []
    with provider_that_answers(200, asked) as url:
        settings = settings_for(
            monkeypatch,
            AZURE_OPENAI_ENDPOINT=url.removesuffix("/v1"),
            AZURE_OPENAI_API_KEY="az-1",
            OPENAI_API_VERSION="2026-01-01",
        )
        await ask_provider(settings, None, PATIENCE_SECONDS)

    assert asked == [("/openai/models?api-version=2026-01-01", "az-1")]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "The provider refuses the key (HTTP 401)"),
        (403, "The provider refuses the key (HTTP 403)"),
        (500, "The provider answered HTTP 500"),
        (307, "The provider answered HTTP 307"),
    ],
)
async def test_provider_that_refuses_is_reported(
    data_dir: object, monkeypatch: pytest.MonkeyPatch, status: int, sentence: str
) -> None:
    """Every other answer is a sentence without the key."""
    with provider_that_answers(status, []) as url:
        settings = settings_for(monkeypatch, OPENAI_BASE_URL=url, OPENAI_API_KEY="sk-secret")
        with pytest.raises(ProviderSilent) as silent:
            await ask_provider(settings, None, PATIENCE_SECONDS)

    assert str(silent.value).startswith(sentence)
    assert "sk-secret" not in str(silent.value)


async def test_provider_without_an_answer_is_reported(
    data_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address at which nobody answers is named, without a password or options in it."""
    url = "http://user:hunter2@127.0.0.1:1/v1"
    settings = settings_for(monkeypatch, OPENAI_BASE_URL=url, OPENAI_API_KEY="sk-1", PROVIDER="gateway")

    with pytest.raises(ProviderSilent) as silent:
        await ask_provider(settings, None, PATIENCE_SECONDS)

    assert str(silent.value) == (
        "Nobody answers at http://127.0.0.1:1/v1/models (ConnectError). Check the network and OPENAI_BASE_URL."
    )


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"OPENAI_API_KEY": "sk-é"}, "OPENAI_API_KEY contains a space or a character that keys do not have"),
        (
            {"AZURE_OPENAI_ENDPOINT": "http://x.example", "AZURE_OPENAI_API_KEY": "az"},
            "set OPENAI_API_VERSION",
        ),
        ({"AZURE_OPENAI_ENDPOINT": "http://x.example"}, "AZURE_OPENAI_API_KEY is not set."),
    ],
)
async def test_settings_that_the_worker_refuses_are_reported(
    data_dir: object, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    """What the worker's client refuses is told before anybody is asked."""
    with pytest.raises(ProviderSilent, match=sentence):
        await ask_provider(settings_for(monkeypatch, **variables), None, PATIENCE_SECONDS)


async def test_the_simulator_needs_no_key(data_dir: object) -> None:
    """The simulator of the embedded stack is asked with the key that its worker uses."""
    asked: list[tuple[str, str | None]] = []
    with provider_that_answers(200, asked) as url:
        answer = await ask_provider(load_settings(), url, PATIENCE_SECONDS)

    assert answer == f"simulator at {url}"
    assert asked == [("/v1/models", "Bearer simulated")]
