import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from activities.registry import GRACE
from tests.support.deploy.compose_file import (
    APPLICATION,
    is_required,
    list_mounted_files,
    list_mounts,
    list_services,
    load_compose_file,
)
from tests.support.deploy.compose_tools import ROOT

SERVICES = list_services()
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())


def count_seconds(duration: str) -> int:
    """The seconds of a Compose duration such as 12m or 1m30s."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration))


@each_service
def test_images_are_pinned_to_a_whole_version(service: dict[str, Any]) -> None:
    """Every image is named with a whole version, so that the same file gives the same system."""
    assert re.fullmatch(r"[a-z0-9/-]+:\d+\.\d+(\.\d+)?", service["image"])


def test_application_image_has_the_project_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {SERVICES[name]["image"] for name in APPLICATION} == {f"{project['name']}:{project['version']}"}


def test_service_has_a_healthcheck_or_is_an_awaited_job() -> None:
    """Each service has a healthcheck and comes back, or is a job whose success another service waits for."""
    awaited = {
        name
        for service in SERVICES.values()
        for name, wait in service.get("depends_on", {}).items()
        if wait["condition"] == "service_completed_successfully"
    }
    stays = {name for name, service in SERVICES.items() if "healthcheck" in service}
    comes_back = {name for name, service in SERVICES.items() if service.get("restart") == "unless-stopped"}
    assert stays == comes_back
    assert stays | awaited == SERVICES.keys()
    assert stays & awaited == set()


def test_dependents_wait_until_a_service_is_healthy() -> None:
    """Nobody starts after a service that has only been started: it has to be healthy, or to have ended well."""
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            healthy = "healthcheck" in SERVICES[name]
            assert wait == {"condition": "service_healthy" if healthy else "service_completed_successfully"}


def test_service_dependencies_have_no_circle() -> None:
    """No service waits for itself, however indirectly, and the worker comes last."""
    graph = {name: service.get("depends_on", {}).keys() for name, service in SERVICES.items()}
    order = list(TopologicalSorter(graph).static_order())
    waits_for, found = set(graph["worker"]), set[str]()
    while waits_for:
        found.add(name := waits_for.pop())
        waits_for |= set(graph[name])
    assert sorted(order) == sorted(SERVICES)
    assert SERVICES.keys() - found == {"worker", "temporal-ui"}


def test_data_is_in_named_volumes() -> None:
    """What a service keeps is in a volume with a name; everything else that is mounted is a file of ours, read-only."""
    volumes = set(load_compose_file()["volumes"])
    kept = {
        name for service in SERVICES.values() for name in list_mounts(service).values() if name in volumes
    }
    assert kept == volumes
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in volumes or mount.endswith(":ro")


@each_service
def test_mounted_files_exist(service: dict[str, Any]) -> None:
    mounts = list_mounts(service)
    assert all(path.exists() for path in mounts.values() if isinstance(path, Path))
    files = {file.name for file in list_mounted_files(service)}
    words = [*service.get("entrypoint", ()), *(str(value) for value in service["environment"].values())]
    asked = {Path(word).name for word in words if word.startswith("/deploy/")}
    assert asked <= files


@each_service
def test_compose_file_holds_no_secret(service: dict[str, Any]) -> None:
    """What is called a password or key is a variable that has to be set, and no address holds one."""
    for name, value in service["environment"].items():
        if re.search(r"PASSWORD|PWD|SECRET|KEY|TOKEN", name):
            assert value is None or is_required(value), f"{name} is {value}"
        assert not re.search(r"://[^/]*:[^/]*@", str(value)), f"{name} holds a password"


@each_service
def test_ports_are_published_on_loopback_only(service: dict[str, Any]) -> None:
    """Nobody on the network reaches a service that has no login of its own."""
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_stop_grace_period_exceeds_the_worker_grace_period() -> None:
    assert count_seconds(SERVICES["worker"]["stop_grace_period"]) > GRACE.total_seconds()


def test_environment_file_is_ignored_by_git() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
