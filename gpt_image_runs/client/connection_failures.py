"""Explain why a connection to Temporal failed, in a sentence that names the setting to check.

The SDK's native core reports a failed handshake as text only. That text is parsed here; if it is not specific, the
port is probed once for TLS.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from temporalio.envconfig import ClientConnectConfig
from temporalio.service import TLSConfig

# Short together, because a user waits for `doctor`.
_PROBE_SECONDS = 1.5
_ALERT_SECONDS = 1.0
_MAX_CAUSE = 300

_CA = "TEMPORAL_TLS_SERVER_CA_CERT_PATH"
_CLIENT_CERTIFICATE = "TEMPORAL_TLS_CLIENT_CERT_PATH"
_CLIENT_KEY = "TEMPORAL_TLS_CLIENT_KEY_PATH"
_NO_CLIENT_CERTIFICATE = (
    f"the server wants a client certificate, and none is set. Set {_CLIENT_CERTIFICATE} and {_CLIENT_KEY}."
)
_IS_PLAIN = (
    "the server does not speak TLS, and TLS is on (TEMPORAL_TLS, TEMPORAL_TLS_* and TEMPORAL_API_KEY turn it on)."
    " Set TEMPORAL_TLS=false, or TEMPORAL_ADDRESS to the port with TLS."
)
_IS_SILENT = (
    "the server takes the connection and does not answer. If the port is one without TLS set TEMPORAL_TLS=false, else check"
    " TEMPORAL_ADDRESS."
)
_NEEDS_TLS = "the server speaks TLS, and TLS is off. Set TEMPORAL_TLS=true, or TEMPORAL_TLS_* or TEMPORAL_API_KEY, which turn it on."
_WORDS = {
    "KeyMismatch": f"{_CLIENT_KEY} is not the key of {_CLIENT_CERTIFICATE}. Set both to files of one pair.",
    "PrivateKeyParseError": f"{_CLIENT_KEY} is not a private key in PEM. Set it to the key of {_CLIENT_CERTIFICATE}.",
    "CertificateParseError": f"a certificate is not in PEM. Check {_CLIENT_CERTIFICATE} and {_CA}.",
    "InvalidMessage": _IS_PLAIN,
}
# Alerts by which a server refuses the client's certificate, or its absence.
_CERTIFICATE_ALERTS = {
    "CertificateRequired",
    "HandshakeFailure",
    "BadCertificate",
    "UnknownCA",
    "CertificateExpired",
    "CertificateRevoked",
    "CertificateUnknown",
    "UnsupportedCertificate",
    "AccessDenied",
}
_MISSING_CERTIFICATE_REASONS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "SSLV3_ALERT_BAD_CERTIFICATE",
}

Answer = Literal["tls", "client certificate", "plain", "silent"]


async def explain_connection_failure(config: ClientConnectConfig, error: Exception) -> str:
    """Return a sentence about a failed connection. Connects again if the error is not specific."""
    address, cause = config["target_host"], str(error)
    if isinstance(error, ValueError):  # before anything was sent
        return _describe_unusable(address, cause)
    if denied := re.search(r"code: (?:Unauthenticated|PermissionDenied), message: \"([^\"]*)\"", cause):
        return (
            f"The Temporal server at {address} denied access: {denied[1] or 'no reason given'}. Check TEMPORAL_API_KEY,"
            " TEMPORAL_TLS_* and TEMPORAL_NAMESPACE."
        )
    trouble = _read_cause(cause, config)
    if trouble is None and not re.search(r"dns error|tcp connect error", cause):
        trouble = _read_answer(await asyncio.to_thread(_probe, address), config, error)
    if trouble:
        return f"The TLS handshake with the Temporal server at {address} failed: {trouble}"
    return (
        f"No Temporal server answers at {address}. Start the embedded one with `make up`,"
        " or set TEMPORAL_ADDRESS to a server of yours."
    )


def _describe_unusable(address: str, cause: str) -> str:
    if "client cert and private key" in cause:
        return (
            f"Only one of {_CLIENT_CERTIFICATE} and {_CLIENT_KEY} is set. Set both, or neither where the server wants no"
            " client certificate."
        )
    return (
        f"The TEMPORAL_* settings cannot be used for {address!a}: {cause}. Set TEMPORAL_ADDRESS to HOST:PORT."
    )


def _has_tls(config: ClientConnectConfig) -> bool:
    return bool(config.get("tls"))


def _has_client_certificate(config: ClientConnectConfig) -> bool:
    tls = config.get("tls")
    return isinstance(tls, TLSConfig) and tls.client_cert is not None


def _read_cause(cause: str, config: ClientConnectConfig) -> str | None:
    """Parse the text of the SDK's core (rustls). Return None if it is not about TLS."""
    if alert := re.search(r"received fatal alert: (\w+)", cause):
        return _describe_alert(alert[1], config)
    if invalid := re.search(r"InvalidCertificate\((\w+)(.*)", cause):
        describe = _INVALID_CERTIFICATES.get(invalid[1])
        return describe(invalid[2]) if describe else _describe_other_certificate(invalid[0])
    return next((sentence for word, sentence in _WORDS.items() if word in cause), None)


def _describe_alert(alert: str, config: ClientConnectConfig) -> str:
    if alert in _CERTIFICATE_ALERTS and not _has_client_certificate(config):
        return _NO_CLIENT_CERTIFICATE
    if alert in _CERTIFICATE_ALERTS:
        return _describe_refused(f"alert {alert}")
    return f"the server ended it with the alert {alert}. Check TEMPORAL_ADDRESS and TEMPORAL_TLS_SERVER_NAME."


def _describe_refused(how: str) -> str:
    return (
        f"the server refuses the client certificate ({how}). Set {_CLIENT_CERTIFICATE} and {_CLIENT_KEY} to a certificate"
        " that the server's CA has signed and that has not expired."
    )


def _describe_unknown_issuer(_: str) -> str:
    return f"the server's certificate is signed by a CA that is not trusted here. Set {_CA} to the certificate of that CA."


def _describe_other_name(details: str) -> str:
    expected = re.search(r"expected: \w+\(\"?([^\")]*)", details)
    presented = ", ".join(re.findall(r"DnsName\(\\\"([^\\]*)", details))
    return (
        f"the server's certificate is for {presented or 'another name'}, not for"
        f" {expected[1] if expected else 'this server'}. Set TEMPORAL_ADDRESS to the server's own name, or"
        " TEMPORAL_TLS_SERVER_NAME to the name in the certificate."
    )


def _describe_expired(details: str) -> str:
    ended = re.search(r"not_after: UnixTime\((\d+)\)", details)
    when = f" on {_format_moment(ended[1])}" if ended else ""
    return f"the server's certificate expired{when}. Have its operator renew it; if that is done, check this machine's clock."


def _describe_not_yet_valid(details: str) -> str:
    begins = re.search(r"not_before: UnixTime\((\d+)\)", details)
    when = f" before {_format_moment(begins[1])}" if begins else " yet"
    return f"the server's certificate is not valid{when}. Check this machine's clock."


def _describe_other_certificate(words: str) -> str:
    return f"the server's certificate is not accepted ({words[:_MAX_CAUSE]}). Check {_CA} and TEMPORAL_TLS_SERVER_NAME."


_INVALID_CERTIFICATES: dict[str, Callable[[str], str]] = {
    "UnknownIssuer": _describe_unknown_issuer,
    "NotValidForName": _describe_other_name,
    "NotValidForNameContext": _describe_other_name,
    "Expired": _describe_expired,
    "ExpiredContext": _describe_expired,
    "NotValidYet": _describe_not_yet_valid,
    "NotValidYetContext": _describe_not_yet_valid,
}


def _format_moment(seconds: str) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M UTC")


def _read_answer(answer: Answer | None, config: ClientConnectConfig, error: Exception) -> str | None:
    if not _has_tls(config):
        return _NEEDS_TLS if answer in ("tls", "client certificate") else None
    if answer == "plain":
        return _IS_PLAIN
    if answer == "silent":
        return _IS_SILENT
    if answer != "client certificate":
        return None
    if not _has_client_certificate(config):
        return _NO_CLIENT_CERTIFICATE
    # A reset connection may lose the alert.
    return None if isinstance(error, TimeoutError) else _describe_refused("it ended the connection")


def _probe(address: str) -> Answer | None:
    """Check whether a port speaks TLS, sending nothing else. Return None if it cannot be connected to.

    The certificate is not verified, because no data is exchanged.
    """
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host = host.strip("[]")
    try:
        connection = socket.create_connection((host, int(port)), timeout=_PROBE_SECONDS)
    except (OSError, ValueError):
        return None
    with connection:
        try:
            with context.wrap_socket(connection, server_hostname=host) as speaking:
                return _wait_for_alert(speaking)
        except TimeoutError:
            return "silent"
        except ssl.SSLError as error:
            if error.reason in _MISSING_CERTIFICATE_REASONS:
                return "client certificate"
            return "tls" if "ALERT" in (error.reason or "") else "plain"
        except (OSError, ValueError):
            return None


def _wait_for_alert(speaking: ssl.SSLSocket) -> Answer:
    """Wait for the alert of a TLS 1.3 server that misses a client certificate.

    Such a server sends it only after the client's part of the handshake.
    """
    speaking.settimeout(_ALERT_SECONDS)
    try:
        speaking.recv(1)
    except ssl.SSLError as error:
        return "client certificate" if error.reason in _MISSING_CERTIFICATE_REASONS else "tls"
    except OSError:
        return "tls"
    return "tls"
