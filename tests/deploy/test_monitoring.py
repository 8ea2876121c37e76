"""Dashboard and alerts: PromQL that Prometheus takes, on metrics and labels that a real worker shows."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from activities.metrics import list_error_types
from tests.support.deploy.compose_tools import ROOT, install_tools
from tests.support.deploy.exposition import Exposition, show_runs
from tests.support.deploy.promql import ALERTS, PROMETHEUS, REQUIREMENTS, Selector, parse_all, read_rules

DASHBOARD = ROOT / "deploy/grafana/gpt-image-runs.json"
# The one metric that is no worker's: Prometheus writes it.
OF_PROMETHEUS = "up"


def read_panels() -> list[dict[str, Any]]:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def list_expressions() -> list[str]:
    """All PromQL, with Grafana's variables filled in as Grafana does."""
    targets = [target["expr"] for panel in read_panels() for target in panel["targets"]]
    filled = [
        expr.replace("$__rate_interval", "1m").replace("$simulated", "(false|true)") for expr in targets
    ]
    return [*(rule["expr"] for rule in read_rules()), *filled]


@pytest.fixture(scope="module")
def selectors(request: pytest.FixtureRequest) -> list[Selector]:
    tools = install_tools(request.config.cache.mkdir("promql-tools"), REQUIREMENTS)
    return [selector for found in parse_all(tools, list_expressions()) for selector in found]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Exposition:
    return asyncio.run(show_runs(tmp_path_factory.mktemp("shown")))


def test_queried_metrics_and_labels_are_exported(selectors: list[Selector], shown: Exposition) -> None:
    """Every metric and every label of every query is one that a worker shows: none is misspelt, renamed or gone."""
    assert len(selectors) > 30
    for metric, matchers in selectors:
        if metric == OF_PROMETHEUS:
            continue
        labels = [sample.labels.keys() for sample in shown.samples if sample.name == metric]
        assert labels, f"no worker shows {metric}"
        for name, _, _ in matchers:
            assert name in labels[0], f"{metric} has no label {name}"


def test_queried_label_values_are_possible(selectors: list[Selector], shown: Exposition) -> None:
    """Each value that a query asks for is one that the label can have: an alert on a failure that nothing is named for is none."""
    possible = {"simulated": {"true", "false"}, "kind": {"charge", "estimate", "hold"}}
    possible["error_type"] = {"none", *(error_type for error_type, _ in list_error_types())}
    for metric, matchers in selectors:
        for name, _, pattern in matchers:
            seen = {sample.labels.get(name, "") for sample in shown.samples if sample.name == metric}
            for value in re.split(r"\|", pattern.strip("()")):
                known = possible.get(name, seen) | (
                    {"gpt-image-worker"} if metric == OF_PROMETHEUS else set()
                )
                assert value in known, f"{metric}: {name} is never {value}"


def test_every_metric_is_on_dashboard_or_alert_and_documented(
    selectors: list[Selector], shown: Exposition
) -> None:
    """Each metric of ours is in the dashboard or in an alert, and in docs/reference/metrics.md by its name."""
    text = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    ours = set(re.findall(r"^# TYPE (gpt_image_\w+)", shown.text, re.MULTILINE))
    asked = {re.sub("_bucket$", "", selector.metric) for selector in selectors}
    assert ours - asked == set()
    assert [name for name in sorted(ours) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("rule", read_rules(), ids=lambda rule: rule["alert"])
def test_every_alert_has_severity_summary_and_documentation(rule: dict[str, Any]) -> None:
    """An alert has a severity and a sentence, and a line in docs/how-to/operate.md."""
    assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"].endswith(".")
    text = (ROOT / "docs/how-to/operate.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{rule['alert']}` \|.+\|$", text, re.MULTILINE)


def test_documented_alerts_exist() -> None:
    """The names of alerts in docs/how-to/operate.md are those of the file, once each."""
    text = (ROOT / "docs/how-to/operate.md").read_text(encoding="utf-8").partition("\n## Alerts\n")[2]
    assert re.findall(r"^\| `([A-Z]\w+)` \|", text, re.MULTILINE) == [rule["alert"] for rule in read_rules()]


def test_real_and_simulated_money_are_never_added(selectors: list[Selector]) -> None:
    """Every query on a metric that knows real from simulated asks for one of them."""
    apart = {"gpt_image_budgets", "gpt_image_highest_budget_use_percent"}  # real money alone
    apart.add("gpt_image_standing_read_timestamp_seconds")
    for metric, matchers in selectors:
        if metric.startswith("gpt_image_") and metric not in apart:
            assert "simulated" in {name for name, _, _ in matchers}, metric


def test_prometheus_configuration_names_alerts_and_job() -> None:
    """The example configuration loads the file of alerts beside it, under the job name that they ask for."""
    config = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))
    assert [Path(PROMETHEUS.parent, name) for name in config["rule_files"]] == [ALERTS]
    (job,) = config["scrape_configs"]
    assert f'up{{job="{job["job_name"]}"}}' in ALERTS.read_text(encoding="utf-8")


def test_panels_do_not_overlap() -> None:
    """No two panels take the same place, and none has the id of another."""
    panels = read_panels()
    taken = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(taken)) == len(panels) == len({panel["id"] for panel in panels})
