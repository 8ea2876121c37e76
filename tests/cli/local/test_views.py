"""What people see: the demo's table at the usual widths, and the models."""

from pathlib import Path

import pytest

from cli.local.demo import DemoRun, show_demo
from cli.output import Output
from cli.runs.view import describe_lines, describe_result
from gpt_image_runs.billing.reports.entries import CostTotals, make_empty_row
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.result import ResultBilling, ResultCost, ResultProvider, RunResult
from tests.support.runs.command_line import CommandLine

IMAGE = ImageRef(uri="file:///p/1.png", sha256="0" * 64, media_type="image/png", bytes=1, width=1, height=1)
LINK = "http://127.0.0.1:8233/namespaces/default/workflows/image%3Ademo%3Abare-8c21"
REAL = make_empty_row(simulated=False).model_copy(update={"runs": 1_234, "total_usd": "99999.123456"})
TOTALS = CostTotals(real=REAL, simulated=make_empty_row(simulated=True))


def make_demo_run(name: str, basis: str, state: str) -> DemoRun:
    """A run of the demo with a bill."""
    result = RunResult.model_validate(
        {
            "run_id": f"image:demo:{name}-8c21",
            "operation": "generate",
            "model": "gpt-image-1",
            "requested_model": "gpt-image-1",
            "images": (IMAGE,),
            "usage": {"input_tokens": 323, "output_tokens": 4160} if basis == "token_usage" else None,
            "cost": ResultCost(
                amount_usd="0.169630",
                basis="token_usage" if basis == "token_usage" else "size_quality_estimate",
                flags=(),
                rate_card="charge-1",
                list_cost_usd=None,
                line_items=(),
            ),
            "billing": ResultBilling.model_validate({"state": state, "entry_id": "ent_1", "reason": None}),
            "provider": ResultProvider(name="simulator", request_id=None, attempts=1, simulated=True),
        }
    )
    return DemoRun(result, (Path.cwd() / ".data" / "demo" / f"{name}-8c21-1.png",), LINK)


@pytest.mark.parametrize("width", [80, 120])
def test_the_demo_fits_into_a_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 80 and at 120 columns nothing of the demo's table is cut or broken, and links stay whole."""
    monkeypatch.setenv("COLUMNS", str(width))
    runs = [
        make_demo_run("hero", "token_usage", "billed"),
        make_demo_run("bare", "estimate", "estimated"),
    ]
    show_demo(runs, TOTALS, Output(as_json=False))
    out = capsys.readouterr().out

    assert max(len(line.rstrip()) for line in out.splitlines()) <= width
    whole = ("image:demo:bare-8c21", ".data/demo/bare-8c21-1.png", "0.169630", "estimated", LINK)
    assert all(text in out for text in (*whole, "size_quality_estimate"))
    assert "The ledger's total: 99999.123456 USD for 1,234 runs\n" in out
    assert "simulated" not in out


def test_models_have_dates_and_prices(run: CommandLine) -> None:
    """`models` lists each model with its end, its replacement, what it takes and what we charge."""
    document = run("models", "--json").document
    listed = {model["model"]: model for model in document["models"]}

    assert document["provider"] == "openai"
    assert (listed["gpt-image-1"]["lifecycle"], listed["gpt-image-1"]["shutdown"]) == (
        "retired",
        "2026-10-23",
    )
    assert listed["gpt-image-1"]["usd_per_million"] == {"input": "10.00", "output": "40.00"}
    assert "WIDTHxHEIGHT" in listed["gpt-image-2"]["sizes"]


def test_models_of_another_provider_have_no_dates(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another provider keeps its own calendar: there gpt-image-1 is live."""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1")
    document = run("models", "--json").document

    assert document["provider"] == "gateway.example"
    assert {model["lifecycle"] for model in document["models"]} == {"live"}


def test_models_for_people_break_no_name(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a narrow terminal names, dates and prices of models stay whole."""
    monkeypatch.setenv("COLUMNS", "64")
    out = run("models").out

    assert max(len(line.rstrip()) for line in out.splitlines()) <= 64
    assert all(text in out for text in ("gpt-image-2.5-sunburst", "shut down on 2026-10-23", "output 40.00"))


def test_a_long_name_keeps_its_distance() -> None:
    """Values stand in one column, with a blank before them, however long the longest name is."""
    told = describe_lines("t", [("owed", "1 USD"), ("difference", "-1 USD"), ("none", "")]).plain

    assert told == "t\n  owed       1 USD\n  difference -1 USD"


def test_reversed_run_shows_no_rates() -> None:
    """A run whose bill was taken back is told with its amount alone, and without words for what it does not have."""
    result = make_demo_run("bare", "token_usage", "billed").result
    cost = result.cost.model_copy(update={"amount_usd": "0.000000", "basis": "none", "rate_card": None})
    told = describe_result(result.model_copy(update={"cost": cost}), None, None).plain

    assert "charge    0.000000 USD\n" in told
