"""One webhook over real HTTP and HTTPS: where it is sent, and its outcome. Only DNS answers are made up."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook

from gpt_image_runs.local_stack.processes import choose_port
from gpt_image_runs.webhooks.allowlist import Destinations
from gpt_image_runs.webhooks.client import (
    DestinationRefused,
    NotificationRejected,
    ReceiverUnavailable,
    WebhookClient,
    WebhookFailure,
)
from tests.support.servers.webhook_receiver import OTHER_SECRET, SECRET, run_receiver

NAME = "hooks.example.com"


class MadeUpNames(AbstractResolver):
    """A resolver that gives its answers one after the other, and repeats the last."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, _: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def make_client(
    hosts: str,
    names: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
    *,
    loopback: bool = True,
    timeout_seconds: float = 30,
) -> WebhookClient:
    destinations = Destinations.read(hosts, signed=True, loopback=loopback)
    secrets = [SECRET, OTHER_SECRET]
    return WebhookClient(destinations, secrets, resolver=names, tls=tls, timeout_seconds=timeout_seconds)


async def send(client: WebhookClient, url: str) -> int:
    return await client.send(url, "evt_1", '{"a": "\u00e4"}', "application/json")


async def fail(client: WebhookClient, url: str, kind: type[WebhookFailure]) -> str:
    with pytest.raises(kind) as raised:
        await send(client, url)
    assert type(raised.value) is kind
    return str(raised.value)


def make_certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Create the TLS contexts of a server called `name`, and of a client that trusts only it."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    trust = ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
    return server, trust


async def test_https_connects_to_the_checked_address(tmp_path: Path) -> None:
    """The name is resolved once, and the certificate must be the name's."""
    server, trust = make_certificate(tmp_path, NAME)
    async with run_receiver(server) as receiver:
        names = MadeUpNames(["127.0.0.1"], ["192.0.2.1"])
        client = make_client(f"{NAME}:{receiver.port}", names, trust)

        assert await send(client, f"https://{NAME}:{receiver.port}/a?b=c") == 204
        (told,) = receiver.received
    assert (told.path, told.headers["host"]) == ("/a?b=c", f"{NAME}:{receiver.port}")
    assert names.asked == 1


async def test_untrusted_certificate_gets_no_webhook(tmp_path: Path) -> None:
    """Covers a certificate for another name and one of an unknown issuer."""
    server, trust = make_certificate(tmp_path, "other.example.com")
    async with run_receiver(server) as receiver:
        url = f"https://{NAME}:{receiver.port}/"
        for tls in (trust, None):
            client = make_client(f"{NAME}:{receiver.port}", MadeUpNames(["127.0.0.1"]), tls)
            assert "certificate is not accepted" in await fail(client, url, ReceiverUnavailable)
        assert receiver.received == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["8.8.8.8", "::1"],
        ["2600::1", "fe80::1"],
        ["::ffff:127.0.0.1"],
        ["169.254.169.254"],
        ["0.0.0.0"],
    ],
)
async def test_name_with_a_private_address_is_refused(addresses: list[str]) -> None:
    """No connection is made, not even to its public addresses."""
    async with run_receiver() as receiver:
        client = make_client(f"{NAME}:{receiver.port}", MadeUpNames(addresses), loopback=False)
        why = await fail(client, f"https://{NAME}:{receiver.port}/", DestinationRefused)

        assert f"{NAME} resolves to " in why
        assert receiver.received == []


async def test_loopback_setting_allows_no_other_private_address() -> None:
    client = make_client(NAME, MadeUpNames(["10.0.0.1"]))
    assert "10.0.0.1" in await fail(client, f"https://{NAME}/", DestinationRefused)


async def test_unresolvable_name_is_retryable() -> None:
    client = make_client(NAME, MadeUpNames([]))
    assert "cannot be resolved" in await fail(client, f"https://{NAME}/", ReceiverUnavailable)


async def test_settings_are_checked_again_at_each_attempt() -> None:
    why = await fail(make_client("other.example.com"), f"https://{NAME}/x", DestinationRefused)
    assert why == (
        f"Nothing was sent to https://{NAME}; allowed: an address whose host and port are in the worker's"
        " setting NOTIFY_HOSTS."
    )


async def test_message_is_signed_with_every_secret() -> None:
    """Each secret verifies the message byte for byte, and no changed one."""
    async with run_receiver() as receiver:
        await send(make_client(receiver.host), receiver.url)
        (told,) = receiver.received
    for secret in (SECRET, OTHER_SECRET):
        assert Webhook(secret).verify(told.body, told.headers) == {"a": "\u00e4"}
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(secret).verify(told.body + b" ", told.headers)
    assert told.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2xx_is_success(status: int) -> None:
    async with run_receiver() as receiver:
        receiver.answers.append(status)
        assert await send(make_client(receiver.host), receiver.url) == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 413, 422])
async def test_permanent_status_is_not_retried(status: int) -> None:
    """Redirects are not followed."""
    async with run_receiver() as receiver:
        receiver.answers.append(web.Response(status=status, headers={"location": receiver.url}))
        why = await fail(make_client(receiver.host), receiver.url, NotificationRejected)

        assert f"answered {status}" in why
        assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_temporary_status_is_retryable_with_the_receivers_delay(status: int) -> None:
    async with run_receiver() as receiver:
        receiver.answers.append(web.Response(status=status, headers={"retry-after": "7"}))
        with pytest.raises(ReceiverUnavailable) as raised:
            await send(make_client(receiver.host), receiver.url)
    assert raised.value.retry_after == "7"


async def test_response_timeout_is_retryable() -> None:
    released = asyncio.Event()

    async def never(_: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    async with run_receiver() as receiver:
        receiver.answers.append(never)
        client = make_client(receiver.host, timeout_seconds=0.2)
        assert "did not answer within 0.2 seconds" in await fail(client, receiver.url, ReceiverUnavailable)
        released.set()


async def test_endless_body_is_not_read() -> None:
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        finally:
            ended.set()

    async with run_receiver() as receiver:
        receiver.answers.append(endless)
        assert await send(make_client(receiver.host), receiver.url) == 200
        await asyncio.wait_for(ended.wait(), 60)


async def test_oversize_headers_are_not_a_response() -> None:
    async with run_receiver() as receiver:
        receiver.answers.append(web.Response(headers={"x": "y" * 100_000}))
        assert "not valid HTTP" in await fail(make_client(receiver.host), receiver.url, ReceiverUnavailable)


async def test_closed_port_is_retryable() -> None:
    host = f"127.0.0.1:{choose_port()}"
    assert "the connection failed" in await fail(make_client(host), f"http://{host}/", ReceiverUnavailable)


async def test_environment_proxy_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would connect to an unchecked address."""
    async with run_receiver() as proxy, run_receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.host}")
        monkeypatch.delenv("no_proxy", raising=False)
        await send(make_client(receiver.host), receiver.url)
        assert (len(proxy.received), len(receiver.received)) == (0, 1)
