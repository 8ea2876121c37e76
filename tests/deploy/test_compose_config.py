import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.deploy.compose_file import (
    find_required,
    list_required,
    list_services,
    load_compose_file,
    make_secrets,
)
from tests.support.deploy.compose_tools import COMPOSE_FILE, ROOT, read_schema, run_config


def test_compose_file_is_valid_by_the_specification(compose_tools: Path) -> None:
    errors = Draft202012Validator(read_schema(compose_tools)).iter_errors(load_compose_file())
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_compose_file_resolves_with_the_environment_file(resolved: dict[str, Any]) -> None:
    """`docker-compose config` accepts the file and puts the variables of .env where they are asked for."""
    assert resolved["worker"]["environment"]["PGPASSWORD"] == "secret-of-ledger_worker_password"
    assert resolved["image-store"]["environment"]["RUSTFS_SECRET_KEY"] == "secret-of-image_store_secret_key"
    assert resolved["worker"]["environment"]["LOG_LEVEL"] is None


def test_optional_setting_of_the_environment_file_reaches_the_worker(compose_tools: Path) -> None:
    assert "LOG_LEVEL: DEBUG" in run_config(compose_tools, make_secrets() | {"LOG_LEVEL": "DEBUG"}).stdout


@pytest.mark.parametrize("name", sorted(list_required()))
def test_empty_secret_is_refused_by_name(compose_tools: Path, name: str) -> None:
    """A password or key that is empty in .env is named, and what to do about it."""
    done = run_config(compose_tools, make_secrets() | {name: ""})
    assert done.returncode != 0
    assert f"set {name} in .env" in done.stderr


def test_example_environment_file_lists_every_variable() -> None:
    """.env.example lists what is required with an empty value, what is optional in comments, and nothing else."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    required = {line.removesuffix("=") for line in lines if line and not line.startswith("#")}
    optional = {match[1] for line in lines if (match := re.fullmatch(r"# ([A-Z_]+)=\S*", line))}
    passed_on = {
        name
        for service in list_services().values()
        for name, value in service["environment"].items()
        if value is None
    }
    assert required == list_required()
    assert optional == passed_on
    assert COMPOSE_FILE.read_text(encoding="utf-8").count("$") == len(find_required())
