"""The Compose file as another program reads it, with a value for every variable that it requires."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deploy.compose_file import make_secrets
from tests.support.deploy.compose_tools import install_tools, run_config


@pytest.fixture(scope="session")
def compose_tools(request: pytest.FixtureRequest) -> Path:
    return install_tools(request.config.cache.mkdir("compose-tools"))


@pytest.fixture(scope="session")
def resolved(compose_tools: Path) -> dict[str, Any]:
    """Resolve the services by `docker-compose config`."""
    done = run_config(compose_tools, make_secrets())
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return services


@pytest.fixture
def worker_environment(resolved: dict[str, Any]) -> dict[str, str]:
    """Return the worker's environment where .env holds the required variables only."""
    given: dict[str, str | None] = resolved["worker"]["environment"]
    return {name: value for name, value in given.items() if value is not None}
