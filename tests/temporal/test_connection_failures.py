"""Servers with TLS on loopback, and clients whose settings do not match them."""

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from temporalio.testing import WorkflowEnvironment

from gpt_image_runs.client.errors import TemporalUnavailable
from gpt_image_runs.local_stack.temporal_server import find_temporal_binary
from gpt_image_runs.temporal.connection import connect_to_temporal

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as objects and as PEM files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    certificate_path: Path
    key_path: Path


Authority = Callable[..., Pair]
Listen = Callable[..., str]
Fail = Callable[..., Awaitable[str]]


@pytest.fixture
def certify(tmp_path: Path) -> Authority:
    """Make a certificate for a name, signed by `issuer` or by itself."""

    def certify(
        name: str, issuer: Pair | None = None, *, begins: timedelta = -DAY, ends: timedelta = 30 * DAY
    ) -> Pair:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(issuer.key if issuer else key, hashes.SHA256())
        )
        stem = tmp_path / str(certificate.serial_number)
        made = Pair(certificate, key, stem.with_suffix(".pem"), stem.with_suffix(".key"))
        made.certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return made

    return certify


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Listen on loopback, with TLS where a certificate is given, and with client certificates where their CA is given."""
    with ExitStack() as servers:

        def listen(
            pair: Pair | None = None, clients: Pair | None = None, newest: ssl.TLSVersion | None = None
        ) -> str:
            context = _make_context(pair, clients, newest) if pair else None
            return f"localhost:{servers.enter_context(serve(context))}"

        yield listen


def _make_context(pair: Pair, clients: Pair | None, newest: ssl.TLSVersion | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate_path, pair.key_path)
    context.set_alpn_protocols(["h2"])
    if newest:
        context.maximum_version = newest
    if clients:
        context.load_verify_locations(clients.certificate_path)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def serve(context: ssl.SSLContext | None) -> Iterator[int]:
    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            speaking = context.wrap_socket(connection, server_side=True) if context else connection
            with speaking:
                while speaking.recv(4096):
                    pass

    def accept(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Connect with these TEMPORAL_* settings, which has to fail; return the sentence."""

    async def fail(address: str, **settings: object) -> str:
        monkeypatch.setenv("TEMPORAL_ADDRESS", address)
        for name, value in settings.items():
            monkeypatch.setenv(f"TEMPORAL_{name}", str(value))
        with pytest.raises(TemporalUnavailable) as raised:
            await connect_to_temporal(tmp_path, patience_seconds=5)
        return str(raised.value)

    return fail


STARTS_WITH = "The TLS handshake with the Temporal server at "


async def test_plain_text_to_a_tls_port_says_to_turn_tls_on(
    certify: Authority, listen: Listen, fail: Fail
) -> None:
    authority = certify("ca")
    for clients in (None, authority):
        told = await fail(listen(certify("localhost", authority), clients))
        assert told.startswith(STARTS_WITH)
        assert "the server speaks TLS, and TLS is off. Set TEMPORAL_TLS=true" in told


@pytest_asyncio.fixture
async def plain_temporal() -> AsyncIterator[str]:
    binary = str(find_temporal_binary())
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=binary) as server:
        yield server.client.service_client.config.target_host


@pytest.mark.parametrize("setting", [{"TLS": "true"}, {"API_KEY": "a-key"}, {"TLS_SERVER_NAME": "temporal"}])
async def test_tls_to_a_plain_port_says_so(plain_temporal: str, setting: dict[str, str], fail: Fail) -> None:
    told = await fail(plain_temporal, **setting)
    assert told.startswith(
        f"{STARTS_WITH}{plain_temporal} failed: the server does not speak TLS, and TLS is on"
    )
    assert "Set TEMPORAL_TLS=false" in told


async def test_tls_to_a_silent_port_is_reported(listen: Listen, fail: Fail) -> None:
    told = await fail(listen(), TLS="true")
    assert "the server takes the connection and does not answer." in told
    assert "TEMPORAL_TLS=false" in told


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_missing_client_certificate_is_named(
    certify: Authority, listen: Listen, fail: Fail, newest: ssl.TLSVersion
) -> None:
    authority = certify("ca")
    address = listen(certify("localhost", authority), authority, newest)
    told = await fail(address, TLS_SERVER_CA_CERT_PATH=authority.certificate_path)
    assert told.startswith(
        f"{STARTS_WITH}{address} failed: the server wants a client certificate, and none is set."
    )
    assert "TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH" in told


@pytest.mark.parametrize(("of_another_ca", "ends"), [(True, 30 * DAY), (False, -DAY / 2)])
async def test_refused_client_certificate_is_named(
    certify: Authority, listen: Listen, fail: Fail, *, of_another_ca: bool, ends: timedelta
) -> None:
    authority, other = certify("ca"), certify("other ca")
    client = certify("client", other if of_another_ca else authority, ends=ends)
    told = await fail(
        listen(certify("localhost", authority), authority),
        TLS_SERVER_CA_CERT_PATH=authority.certificate_path,
        TLS_CLIENT_CERT_PATH=client.certificate_path,
        TLS_CLIENT_KEY_PATH=client.key_path,
    )
    assert "failed: the server refuses the client certificate (" in told
    assert "TEMPORAL_TLS_CLIENT_CERT_PATH" in told


async def test_client_key_of_another_certificate_is_refused(
    certify: Authority, listen: Listen, fail: Fail
) -> None:
    authority = certify("ca")
    told = await fail(
        listen(certify("localhost", authority), authority),
        TLS_SERVER_CA_CERT_PATH=authority.certificate_path,
        TLS_CLIENT_CERT_PATH=certify("client", authority).certificate_path,
        TLS_CLIENT_KEY_PATH=certify("client", authority).key_path,
    )
    assert "TEMPORAL_TLS_CLIENT_KEY_PATH is not the key of TEMPORAL_TLS_CLIENT_CERT_PATH." in told


async def test_client_certificate_that_is_not_pem_is_refused(
    certify: Authority, listen: Listen, fail: Fail, tmp_path: Path
) -> None:
    authority = certify("ca")
    garbage = tmp_path / "garbage"
    garbage.write_text("garbage")
    told = await fail(
        listen(certify("localhost", authority), authority),
        TLS_SERVER_CA_CERT_PATH=authority.certificate_path,
        TLS_CLIENT_CERT_PATH=garbage,
        TLS_CLIENT_KEY_PATH=garbage,
    )
    assert "TEMPORAL_TLS_CLIENT_KEY_PATH is not a private key in PEM." in told


async def test_client_certificate_without_a_key_is_refused(
    certify: Authority, listen: Listen, fail: Fail
) -> None:
    authority = certify("ca")
    told = await fail(
        listen(certify("localhost", authority), authority),
        TLS_SERVER_CA_CERT_PATH=authority.certificate_path,
        TLS_CLIENT_CERT_PATH=certify("client", authority).certificate_path,
    )
    assert told.startswith(
        "Only one of TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH is set."
    )


@pytest.mark.parametrize("address", ["two words:7233", "localhost:99999"])
async def test_malformed_address_is_refused(address: str, fail: Fail) -> None:
    told = await fail(address)
    assert told.startswith(f"The TEMPORAL_* settings cannot be used for '{address}': invalid target URL: ")
    assert "Set TEMPORAL_ADDRESS to HOST:PORT." in told


@pytest.mark.parametrize("trusted", ["system", "another"])
async def test_certificate_of_an_unknown_ca_is_reported(
    certify: Authority, listen: Listen, fail: Fail, trusted: str
) -> None:
    address = listen(certify("localhost", certify("ca")))
    another = {"TLS_SERVER_CA_CERT_PATH": certify("other ca").certificate_path}
    told = await fail(address, **(another if trusted == "another" else {"TLS": "true"}))
    assert told.startswith(
        f"{STARTS_WITH}{address} failed: the server's certificate is signed by a CA that is not trusted"
    )
    assert "Set TEMPORAL_TLS_SERVER_CA_CERT_PATH" in told


async def test_certificate_for_another_name_is_reported(
    certify: Authority, listen: Listen, fail: Fail
) -> None:
    authority = certify("ca")
    address = listen(certify("elsewhere.example", authority))
    told = await fail(address, TLS_SERVER_CA_CERT_PATH=authority.certificate_path)
    assert "the server's certificate is for elsewhere.example, not for localhost." in told
    assert "TEMPORAL_TLS_SERVER_NAME" in told


async def test_expired_certificate_is_reported(certify: Authority, listen: Listen, fail: Fail) -> None:
    authority = certify("ca")
    expired = certify("localhost", authority, begins=-3 * DAY, ends=-DAY)
    told = await fail(listen(expired), TLS_SERVER_CA_CERT_PATH=authority.certificate_path)
    ended = f"{expired.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    assert f"the server's certificate expired on {ended}." in told


async def test_certificate_that_is_not_valid_yet_is_reported(
    certify: Authority, listen: Listen, fail: Fail
) -> None:
    authority = certify("ca")
    coming = certify("localhost", authority, begins=DAY)
    told = await fail(listen(coming), TLS_SERVER_CA_CERT_PATH=authority.certificate_path)
    assert "the server's certificate is not valid before " in told
    assert "clock" in told


@pytest.mark.parametrize("tls", ["true", "false"])
async def test_absent_server_is_not_reported_as_a_tls_error(
    unused_tcp_port: int, tls: str, fail: Fail
) -> None:
    told = await fail(f"127.0.0.1:{unused_tcp_port}", TLS=tls)
    assert told.startswith(
        f"No Temporal server answers at 127.0.0.1:{unused_tcp_port}. Start the embedded one"
    )


async def test_plain_port_of_another_server_is_reported(listen: Listen, fail: Fail) -> None:
    assert (await fail(listen())).startswith("No Temporal server answers at localhost:")
