"""PromQL as a parser of its own reads it (installed apart, as `tests/support/deploy/compose_tools.py` does): no test here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.deploy.compose_tools import ROOT

ALERTS = ROOT / "deploy/prometheus/alerts.yml"
PROMETHEUS = ROOT / "deploy/prometheus/prometheus.yml"

REQUIREMENTS = Path(__file__).with_name("promql-tools.txt")

# The parser refuses what Prometheus would: unknown functions, wrong types, wrong syntax.
_PARSE = """
import json
import sys
import promql_parser

def read(expression):
    found = []
    def visit(node):
        if isinstance(node, promql_parser.MatrixSelector):
            return True
        if isinstance(node, promql_parser.VectorSelector):
            found.append([node.name, [[each.name, str(each.op), each.value] for each in node.matchers.matchers]])
        return True
    promql_parser.walk(promql_parser.parse(expression), visit)
    return found

json.dump([read(expression) for expression in json.load(sys.stdin)], sys.stdout)
"""


class Selector(NamedTuple):
    """One metric that an expression asks for, and what it asks of its labels: name, operator, value."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


def read_rules() -> list[dict[str, Any]]:
    """Read the alerting rules that Prometheus is given."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def parse_all(tools: Path, expressions: list[str]) -> list[list[Selector]]:
    """Parse the selectors of each expression. Fails on the first invalid one."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tools)}
    done = subprocess.run(
        [sys.executable, "-c", _PARSE],
        input=json.dumps(expressions),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [
        [
            Selector(metric, tuple((name, op, value) for name, op, value in matchers))
            for metric, matchers in each
        ]
        for each in json.loads(done.stdout)
    ]
