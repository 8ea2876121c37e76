"""Answers that come while an edit's pictures are still on their way, from a server that reads no more: over plain sockets."""

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gpt_image_runs.provider import errors
from gpt_image_runs.provider.client import FilePart, ProviderSettings, open_client
from tests.support.servers.scripted_provider import KEY, OK, call, edit

WHOLE = 1 << 40
BIG = FilePart(data=b"\x89PNG" + bytes(12_000_000), media_type="image/png")
LIMIT = b'{"error": {"message": "Rate limit reached, try again in 20s", "code": "rate_limit_exceeded", "type": "requests"}}'


def error_body(code: str) -> bytes:
    return b'{"error": {"message": "no", "type": "x", "param": null, "code": "%s"}}' % code.encode()


def answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status} Some Reason", f"Content-Length: {len(body)}", "Connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


class Refusal(NamedTuple):
    """An answer, and the failure that it is."""

    status: int
    body: bytes
    kind: type[errors.ProviderFailure]


@dataclass
class HastyServer:
    """Reads `reads` bytes of each request, or all of it for `WHOLE`, answers, and then does what `ending` says.

    close: closes with the rest unread, so that the client's kernel is told of a reset. stay: neither reads nor closes.
    drain: reads on to the end, as a good server does. half: says that no more comes, and reads nothing.
    """

    said: bytes = b""
    ending: str = "close"
    reads: int = 1000
    pieces: int = 1
    tls: ssl.SSLContext | None = None
    url: str = ""
    connections: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def serve(self, listener: socket.socket) -> None:
        """Until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connections += 1
                threading.Thread(target=self._handle, args=[connection], daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            begun, missing = b"", self.reads
            while missing > 0 and (data := connection.recv(min(missing, 65536))):
                missing -= len(data)
                if self.reads == WHOLE and b"\r\n\r\n" not in begun:
                    begun += data
                    head, found, rest = begun.partition(b"\r\n\r\n")
                    if found:
                        length = re.search(rb"(?i)content-length: (\d+)", head)
                        missing = int(length[1]) - len(rest) if length else 0
            size = max(1, -(-len(self.said) // self.pieces))
            for start in range(0, len(self.said), size):
                connection.sendall(self.said[start : start + size])
            if self.ending == "stay":
                self.released.wait(30)
            if self.ending == "half":
                connection.shutdown(socket.SHUT_WR)
                self.released.wait(30)
            while self.ending == "drain" and connection.recv(65536):
                pass
        connection.close()


@pytest.fixture
def hasty() -> Iterator[HastyServer]:
    server = HastyServer()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        server.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        threading.Thread(target=server.serve, args=[listener], daemon=True).start()
        yield server
        server.released.set()


async def fail(server: HastyServer, **settings: int) -> errors.ProviderFailure:
    """An edit of 12 MB that has to fail, and how it does."""
    provider = ProviderSettings(api_key=KEY, base_url=server.url, **settings)  # type: ignore[arg-type]  # integers
    async with open_client(provider) as client, asyncio.timeout(60):
        with pytest.raises(errors.ProviderFailure) as raised:
            await client.send(edit((BIG,)))
    return raised.value


@pytest.mark.parametrize("ending", ["close", "stay", "half", "drain"])
@pytest.mark.parametrize("reads", [1000, 3_000_000])
@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(400, error_body("invalid_value"), errors.InvalidRequest),
        Refusal(400, error_body("moderation_blocked"), errors.ContentRefused),
        Refusal(401, error_body("invalid_api_key"), errors.AuthenticationFailed),
        Refusal(413, b"<html>Request Entity Too Large</html>", errors.InvalidRequest),
        Refusal(429, LIMIT, errors.RateLimited),
        Refusal(503, error_body("server_is_overloaded"), errors.ServerOverloaded),
    ],
    ids=lambda refusal: f"{refusal.status}-{refusal.kind.__name__}",
)
async def test_refusal_before_the_upload_ended_is_classified(
    hasty: HastyServer, refusal: Refusal, reads: int, ending: str
) -> None:
    """Whatever the server does with the rest of the pictures, its answer is read, and nothing was paid."""
    hasty.said = answer(refusal.status, refusal.body, "x-request-id: req_1")
    hasty.reads, hasty.ending = reads, ending

    failure = await fail(hasty)

    assert type(failure) is refusal.kind
    assert (failure.outcome, failure.http_status) == ("rejected", refusal.status)
    assert failure.provider_request_id == "req_1"
    assert hasty.connections == 1


async def test_429_before_the_upload_is_read_keeps_its_delay_every_time(hasty: HastyServer) -> None:
    """Of many such edits at once not one becomes a lost answer: each would have eaten a resend."""
    hasty.said = answer(429, LIMIT, "retry-after: 20")

    failures = await asyncio.gather(*(fail(hasty) for _ in range(26)))

    assert [(type(each), each.retry_after_seconds) for each in failures] == [(errors.RateLimited, 20)] * 26


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 520])
@pytest.mark.parametrize("ending", ["close", "stay"])
async def test_gateway_error_before_the_upload_ended_is_a_rejection(
    hasty: HastyServer, status: int, ending: str
) -> None:
    """It has not got the whole request, so nobody has: no answer of its is one that may have been paid for."""
    hasty.said, hasty.ending = answer(status, b"<html>Bad Gateway</html>"), ending

    failure = await fail(hasty)

    assert type(failure) is errors.ServerOverloaded
    assert (failure.outcome, failure.http_status, failure.retryable) == ("rejected", status, True)
    assert "before the request was sent whole" in str(failure)


async def test_gateway_that_answers_after_the_upload_stays_in_doubt(hasty: HastyServer) -> None:
    """A request that was sent whole may have been carried out behind it."""
    hasty.said, hasty.reads = answer(502, b"<html>Bad Gateway</html>"), WHOLE

    assert (await fail(hasty)).outcome == "unknown"


async def test_close_without_an_answer_stays_in_doubt(hasty: HastyServer) -> None:
    """Where there is no answer nothing is known, whoever closed when."""
    hasty.said = b""

    failure = await fail(hasty)

    assert type(failure) is errors.AnswerLost


async def test_interim_answer_does_not_end_the_upload(hasty: HastyServer) -> None:
    """`100 Continue` and its like are no answer: the pictures are sent whole, and the picture comes."""
    hasty.said, hasty.pieces = b"HTTP/1.1 100 Continue\r\n\r\n" + answer(200, OK), 3
    hasty.ending = "drain"
    async with open_client(ProviderSettings(api_key=KEY, base_url=hasty.url)) as client, asyncio.timeout(60):
        raw = await client.send(edit((BIG,)))

    assert raw.body == OK


async def test_server_that_reads_nothing_and_says_nothing_is_given_up_in_time(hasty: HastyServer) -> None:
    """The client's own time bounds an upload that nobody takes."""
    hasty.said, hasty.ending = b"", "stay"

    failure = await fail(hasty, timeout_seconds=1)

    assert failure.outcome == "unknown"


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def hasty_tls(hasty: HastyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HastyServer:
    """The same behind TLS, with a certificate that the client trusts."""
    path = make_certificate(tmp_path)
    hasty.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    hasty.tls.load_cert_chain(path)
    hasty.url = hasty.url.replace("http://", "https://")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return hasty


# Without "close": where the server resets the connection at once, the system may discard what has come and is not decrypted yet.
@pytest.mark.parametrize("ending", ["stay", "half", "drain"])
async def test_refusal_over_tls_before_the_upload_ended_is_classified(
    hasty_tls: HastyServer, ending: str
) -> None:
    """An answer that is encrypted is found as well while the pictures are sent."""
    hasty_tls.said, hasty_tls.ending = answer(429, LIMIT, "retry-after: 20"), ending

    failures = await asyncio.gather(*(fail(hasty_tls) for _ in range(5)))

    assert [(type(each), each.retry_after_seconds) for each in failures] == [(errors.RateLimited, 20)] * 5


async def test_large_upload_and_answer_over_tls_come_whole(hasty_tls: HastyServer) -> None:
    """Megabytes in both directions, for an edit and for a generation."""
    body = b'{"data": [{"b64_json": "' + b"QUJD" * 1_000_000 + b'"}]}'
    hasty_tls.said, hasty_tls.reads, hasty_tls.pieces = answer(200, body), WHOLE, 100
    async with (
        open_client(ProviderSettings(api_key=KEY, base_url=hasty_tls.url)) as client,
        asyncio.timeout(60),
    ):
        edited = await client.send(edit((BIG,)))
        generated = await client.send(call())

    assert edited.body == generated.body == body
