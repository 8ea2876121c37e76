"""The alerts as Prometheus evaluates them, each once firing and once silent: carried out where `promtool` is installed."""

import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.deploy.compose_tools import ROOT
from tests.support.deploy.promql import ALERTS, PROMETHEUS, read_rules

CASES = ROOT / "tests/deploy/alerts_test.yml"
PROMTOOL = shutil.which("promtool")
carried_out = pytest.mark.skipif(not PROMTOOL, reason="needs promtool, which comes with Prometheus")


def run_promtool(*words: str) -> None:
    done = subprocess.run([PROMTOOL or "", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@carried_out
def test_prometheus_loads_configuration_and_rules() -> None:
    run_promtool("check", "config", str(PROMETHEUS))
    run_promtool("check", "rules", str(ALERTS))


@carried_out
def test_alerts_fire_and_stay_silent_by_their_cases() -> None:
    """Series that are written out make each alert fire with its labels and its sentence, or keep it silent."""
    run_promtool("test", "rules", str(CASES))


def test_each_alert_has_a_firing_and_a_silent_case() -> None:
    tests: list[dict[str, Any]] = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    firing = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}

    assert firing == silent == {rule["alert"] for rule in read_rules()}
