"""docker-compose.yml as it is written, and questions to it. `compose_tools` has the readers of other makes."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.deploy.compose_tools import COMPOSE_FILE, ROOT

APPLICATION = {"ledger-schema", "worker"}
_REQUIRED = re.compile(r"\$\{([A-Z_]+):\?set \1 in \.env\}")


def load_compose_file() -> dict[str, Any]:
    """Load the file with its anchors resolved and its variables in place."""
    content: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    return content


def list_services() -> dict[str, Any]:
    """List the services by name."""
    services: dict[str, Any] = load_compose_file()["services"]
    return services


def find_required() -> list[str]:
    """Find the required variables, as often as the file asks for them."""
    return _REQUIRED.findall(COMPOSE_FILE.read_text(encoding="utf-8"))


def list_required() -> set[str]:
    """List the required variables."""
    return set(find_required())


def is_required(value: Any) -> bool:
    """Return whether a value is only a variable that must be set."""
    return isinstance(value, str) and _REQUIRED.fullmatch(value) is not None


def make_secrets() -> dict[str, str]:
    """Make a value for each required variable, no two the same."""
    return {name: f"secret-of-{name.lower()}" for name in list_required()}


def list_mounts(service: dict[str, Any]) -> dict[str, Path | str]:
    """List a service's mounts by their place in the container: a path here, or a volume's name."""
    mounts: dict[str, Path | str] = {}
    for mount in service.get("volumes", ()):
        source, target = mount.split(":")[:2]
        mounts[target] = ROOT / source if source.startswith("./") else source
    return mounts


def list_mounted_files(service: dict[str, Any]) -> list[Path]:
    """List the files of this repository that a service can read."""
    paths = [path for path in list_mounts(service).values() if isinstance(path, Path)]
    return [file for path in paths for file in (path.iterdir() if path.is_dir() else [path])]
