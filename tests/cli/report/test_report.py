"""The `report` command: page and CSV of a month, with amounts worked out by hand."""

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.contracts.money import parse_usd
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from tests.support.files.sheets import HOSTILE, ReadPage
from tests.support.ledger.dated_bills import DatedBills, correct
from tests.support.ledger.ledger_examples import ESTIMATE, HOLD, describe_attempt, identify
from tests.support.runs.command_line import CommandLine

OCTOBER, FIRST, SECOND = (
    datetime(2026, 10, 31, 9, tzinfo=UTC),
    datetime(2026, 11, 1, 9, tzinfo=UTC),
    datetime(2026, 11, 2, 9, tzinfo=UTC),
)
MONTH = ("report", "--month", "2026-11", "--out")


@pytest.fixture
def database(data_dir: Path) -> Iterator[Database]:
    """Create the ledger of this DATA_DIR."""
    data_dir.mkdir()
    database = open_database(f"sqlite:///{data_dir / 'ledger.db'}", create=True)
    yield database
    database.close()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "november.html"


def fill(database: Database) -> None:
    """November: 0.166900 twice, an estimate of 0.042240, a hold, -0.000340 for October, a lost request, one simulated."""
    bill = DatedBills(database)
    october = bill("october", ESTIMATE, at=OCTOBER)
    bill("req-1", at=FIRST)
    bill("req-2", at=SECOND, tenant="zoo", model="gpt-image-2")
    bill("req-3", ESTIMATE, at=SECOND)
    bill("req-4", HOLD, at=SECOND)
    correct(database, october, -340, at=SECOND)
    bill("req-5", at=SECOND, simulated=True)
    log, lost = AttemptLog(database), identify("acme", "lost")
    log.claim_run(lost)
    log.begin(replace(describe_attempt(lost.run_id), sent_at=SECOND))


def read_rows(page: Path) -> list[list[str]]:
    """Return each row of the page's tables as texts."""
    source = page.read_text(encoding="utf-8")
    rows = re.findall(r"<tr>(.*?)</tr>", source, re.DOTALL)
    return [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in rows
    ]


def test_page_shows_every_sum_of_the_month(run: CommandLine, database: Database, page: Path) -> None:
    """Charged 0.333460 = 2 x 0.166900 - 0.000340, estimated 0.042240, one pending, exposure 0.250000; simulated apart."""
    fill(database)
    ended = run(*MONTH, str(page))

    rows = read_rows(page)
    assert ended.status == 0
    assert ended.out.startswith("November 2026: 0.375700 USD for 4 runs, and 1 simulated ones.")
    assert ["Total", "0.333460", "0.042240", "0.375700", "0.333300+", "1"] in rows
    assert ["2026-11-01", "0.166900", "0.000000", "0.166900", "0.166650", "0"] in rows
    assert ["2026-11-02", "0.166560", "0.042240", "0.208800", "0.166650+", "1"] in rows
    assert ["zoo", "0.166900", "0.000000", "0.166900", "0.166650", "0"] in rows
    assert ["gpt-image-2", "1", "1", "50", "4,160", "0.166900", "0.166650", "0.000250"] in rows
    assert ["2026-11-02", "1", "0.250000", "0"] in rows
    text = ReadPage(page).text
    assert text.index("Simulated runs: nobody pays these") > text.index("Perhaps paid for nothing")
    assert ["Total", "0.166900", "0.000000", "0.166900", "0.166650", "0"] in rows


def test_csv_has_a_row_for_each_day_tenant_and_model(
    run: CommandLine, database: Database, page: Path
) -> None:
    """The rows add up to what `costs` prints for the month."""
    fill(database)
    document = run(*MONTH, str(page), "--json").document
    with page.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert rows[0] == {
        "day": "2026-11-01",
        "tenant": "acme",
        "model": "gpt-image-1",
        "simulated": "false",
        "runs": "1",
        "images": "1",
        "charged_usd": "0.166900",
        "estimated_usd": "0.000000",
        "pending_runs": "0",
        "list_cost_usd": "0.166650",
        "list_cost_unknown": "0",
        "input_tokens": "50",
        "output_tokens": "4160",
    }
    assert [row["charged_usd"] for row in rows] == ["0.166900", "-0.000340", "0.166900", "0.166900"]
    month = ("--since", "2026-11-01", "--until", "2026-12-01", "--json")
    told = run("costs", *month).document["totals"]["real"]
    real = [row for row in rows if row["simulated"] == "false"]
    for name in ("charged_usd", "estimated_usd", "list_cost_usd"):
        assert sum(parse_usd(row[name]) for row in real) == parse_usd(told[name])
        assert document["real"][name] == told[name]
    assert sum(int(row["pending_runs"]) for row in real) == told["pending"] == 1
    assert document["rows"] == len(rows)


def test_tenant_option_leaves_out_every_other_tenant(
    run: CommandLine, database: Database, page: Path
) -> None:
    fill(database)
    run(*MONTH, str(page), "--tenant", "zoo")
    assert ReadPage(page).text.count("Spend of zoo in November 2026") == 2
    assert "acme" not in page.read_text() + page.with_suffix(".csv").read_text()


def test_page_loads_nothing_and_each_plot_has_a_table(
    run: CommandLine, database: Database, page: Path
) -> None:
    fill(database)
    run(*MONTH, str(page))
    read = ReadPage(page)
    policies = [data["content"] for tag, data in read.elements if data.get("http-equiv")]
    plots = [data for tag, data in read.elements if tag == "svg" and data.get("class") == "plot"]

    assert len(policies) == 1
    assert "script-src 'none'" in (policies[0] or "")
    assert read.count("script") == 0
    assert not re.findall(r'(?:src|href)="(?!data:,|#report)', read.source)
    assert not any("style" in data for _, data in read.elements)
    assert len(plots) == 7
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    order = [tag for tag, data in read.elements if tag == "table" or data.get("class") == "plot"]
    assert all(order[place + 1] == "table" for place, tag in enumerate(order) if tag == "svg")


def test_untrusted_names_make_no_elements_and_no_formulas(
    run: CommandLine, database: Database, page: Path
) -> None:
    DatedBills(database)("req-1", at=FIRST, model="plain")
    run(*MONTH, str(page))
    expected = [tag for tag, _ in ReadPage(page).elements]
    hostile = f"=1+{HOSTILE}".replace("\ud800", "").replace("\x00", "")
    DatedBills(database)("req-2", at=FIRST, model=hostile)
    run(*MONTH, str(page))

    read = ReadPage(page)
    assert {tag for tag, _ in read.elements} == set(expected)
    assert not any(name.startswith("on") for _, data in read.elements for name in data)
    with page.with_suffix(".csv").open(newline="") as file:
        assert [row["model"][:3] for row in csv.DictReader(file)] == ["'=1", "pla"]


def test_month_without_entries_is_reported_as_empty(run: CommandLine, database: Database, page: Path) -> None:
    ended = run("report", "--month", "2026-09", "--out", str(page))
    assert ended.status == 0
    assert ended.out.startswith("No entry was written in September 2026.\n")
    assert "No entry of a real run was written in September 2026." in ReadPage(page).text
    assert page.with_suffix(".csv").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("month", "told"),
    [
        ("2026-13", "'2026-13' is not a valid month. Use YYYY-MM, for example 2026-11."),
        ("November", "'November' is not a valid month"),
        ("0000-01", "'0000-01' is not a valid month"),
        ("9998-01", "9998-01 has not begun yet, so there is nothing to report. Nothing was written."),
    ],
)
def test_invalid_or_future_month_is_refused_and_nothing_is_written(
    run: CommandLine, database: Database, page: Path, month: str, told: str
) -> None:
    ended = run("report", "--month", month, "--out", str(page))
    assert ended.status == 2
    assert told in ended.err
    assert not page.parent.exists()


def test_unwritable_target_leaves_neither_file(run: CommandLine, database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken.csv").mkdir()
    below, taken = run(*MONTH, str(tmp_path / "file" / "r.html")), run(*MONTH, str(tmp_path / "taken.html"))
    ending = run(*MONTH, str(tmp_path / "report.pdf"))

    assert (below.status, taken.status, ending.status) == (1, 1, 2)
    assert "cannot be written (" in below.err
    assert "cannot be written (it is a folder). Choose another place." in taken.err
    assert "report.pdf does not end in .html" in ending.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file", "taken.csv"]
