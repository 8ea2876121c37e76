"""One webhook over real HTTP and HTTPS: where it goes, and what becomes of it. Only the answers of DNS are made up."""

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
    """Gives its answers one after the other, the last one for ever."""

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
    """What a server called `name` has, and what trusts it and no other."""
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


async def test_by_https_to_the_checked_address(tmp_path: Path) -> None:
    """A name is resolved once, the connection goes to what came of it, and the certificate is the name's."""
    server, trust = make_certificate(tmp_path, NAME)
    async with run_receiver(server) as receiver:
        names = MadeUpNames(["127.0.0.1"], ["192.0.2.1"])
        client = make_client(f"{NAME}:{receiver.port}", names, trust)

        assert await send(client, f"https://{NAME}:{receiver.port}/a?b=c") == 204
        (told,) = receiver.received
    assert (told.path, told.headers["host"]) == ("/a?b=c", f"{NAME}:{receiver.port}")
    assert names.asked == 1


async def test_somebody_else_s_certificate(tmp_path: Path) -> None:
    """A server that has no certificate for the name gets nothing, and neither does one that nobody vouches for."""
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
async def test_a_name_that_leads_inside(addresses: list[str]) -> None:
    """Where one address of a name is not public, no connection is made: not to the others either."""
    async with run_receiver() as receiver:
        client = make_client(f"{NAME}:{receiver.port}", MadeUpNames(addresses), loopback=False)
        why = await fail(client, f"https://{NAME}:{receiver.port}/", DestinationRefused)

        assert f"{NAME} leads to " in why
        assert receiver.received == []


async def test_loopback_is_no_more_than_that() -> None:
    """The setting for tests lets a name lead to this host, and to no other machine of the network."""
    client = make_client(NAME, MadeUpNames(["10.0.0.1"]))
    assert "10.0.0.1" in await fail(client, f"https://{NAME}/", DestinationRefused)


async def test_a_name_that_nobody_knows() -> None:
    """A name that cannot be resolved may be there later."""
    client = make_client(NAME, MadeUpNames([]))
    assert "cannot be resolved" in await fail(client, f"https://{NAME}/", ReceiverUnavailable)


async def test_what_is_not_allowed_any_more() -> None:
    """The settings of today decide at each attempt, whatever they were when the run was admitted."""
    why = await fail(make_client("other.example.com"), f"https://{NAME}/x", DestinationRefused)
    assert why == (
        f"Nothing was sent to https://{NAME}; allowed: an address whose host and port are in the worker's"
        " setting NOTIFY_HOSTS."
    )


async def test_every_secret_signs() -> None:
    """Each secret's owner can verify the message as it came, byte for byte, and a changed one nobody can."""
    async with run_receiver() as receiver:
        await send(make_client(receiver.host), receiver.url)
        (told,) = receiver.received
    for secret in (SECRET, OTHER_SECRET):
        assert Webhook(secret).verify(told.body, told.headers) == {"a": "\u00e4"}
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(secret).verify(told.body + b" ", told.headers)
    assert told.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_yes(status: int) -> None:
    """Every 2xx is a yes."""
    async with run_receiver() as receiver:
        receiver.answers.append(status)
        assert await send(make_client(receiver.host), receiver.url) == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 413, 422])
async def test_no(status: int) -> None:
    """What would be answered alike again is final; a redirect is not followed."""
    async with run_receiver() as receiver:
        receiver.answers.append(web.Response(status=status, headers={"location": receiver.url}))
        why = await fail(make_client(receiver.host), receiver.url, NotificationRejected)

        assert f"answered {status}" in why
        assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_later(status: int) -> None:
    """What says "later" is tried again, with the receiver's own delay where it has one."""
    async with run_receiver() as receiver:
        receiver.answers.append(web.Response(status=status, headers={"retry-after": "7"}))
        with pytest.raises(ReceiverUnavailable) as raised:
            await send(make_client(receiver.host), receiver.url)
    assert raised.value.retry_after == "7"


async def test_no_answer_in_time() -> None:
    """A receiver that does not answer in time is one that is not there, and the attempt ends by itself."""
    released = asyncio.Event()

    async def never(_: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    async with run_receiver() as receiver:
        receiver.answers.append(never)
        client = make_client(receiver.host, timeout_seconds=0.2)
        assert "did not answer within 0.2 seconds" in await fail(client, receiver.url, ReceiverUnavailable)
        released.set()


async def test_an_answer_without_an_end() -> None:
    """Of a yes nothing more is read: a body without an end takes neither time nor memory."""
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


async def test_headers_without_an_end() -> None:
    """Headers beyond all measure are no answer."""
    async with run_receiver() as receiver:
        receiver.answers.append(web.Response(headers={"x": "y" * 100_000}))
        assert "no HTTP" in await fail(make_client(receiver.host), receiver.url, ReceiverUnavailable)


async def test_nobody_listens() -> None:
    """A port where nobody listens is told as that."""
    host = f"127.0.0.1:{choose_port()}"
    assert "no connection" in await fail(make_client(host), f"http://{host}/", ReceiverUnavailable)


async def test_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names is not asked: it would connect to what was not looked at."""
    async with run_receiver() as proxy, run_receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.host}")
        monkeypatch.delenv("no_proxy", raising=False)
        await send(make_client(receiver.host), receiver.url)
        assert (len(proxy.received), len(receiver.received)) == (0, 1)
