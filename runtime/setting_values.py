"""What the value of a setting has to be, beyond its type: each kind returns it as it is, or says what to write instead."""

from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from runtime.webhook_destinations import Destinations
from runtime.webhook_signing import is_signing_secret

_SHORTEST_SECRET = 32


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
    if any(len(one) < _SHORTEST_SECRET for one in split_secrets(secrets)):
        raise ValueError(f"Write {_SHORTEST_SECRET} characters or more, several with blanks between them")
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
