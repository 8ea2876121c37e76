"""The campaign as a command: `python -m tests.chaos --runs 300 --seed 1`. Exit status 0 if nothing is wrong, else 1."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.audit import find_violations
from tests.chaos.campaign import Campaign, Progress
from tests.chaos.figures import list_figures
from tests.chaos.opening import open_site
from tests.chaos.plan import Numbers, make_plan
from tests.chaos.tampering import tamper_with_copy

_TAMPERED_ROWS_OF_EACH_KIND = 1
_MAX_SHOWN = 40


def main() -> int:
    """Run one campaign and report its result."""
    options = _read_options()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    violations = asyncio.run(_run(options, folder))
    command = f"make chaos RUNS={options.runs} SEED={options.seed} SECONDS={options.seconds} LEDGER={options.ledger}"
    if violations:
        shown = "\n".join(f"- {violation}" for violation in violations[:_MAX_SHOWN])
        sys.stderr.write(
            f"{len(violations)} promises were broken:\n{shown}\n"
            f"Again: {command}\nThe site's files are kept in {folder}.\n"
        )
        return 1
    shutil.rmtree(folder)
    sys.stdout.write(f"Every promise was kept. Again: {command}\n")
    return 0


async def _run(options: argparse.Namespace, folder: Path) -> list[str]:
    console = Console()
    plan = make_plan(options.seed, Numbers.for_runs(options.runs))
    console.print(
        f"Seed {plan.seed}: {len(plan.runs)} runs, {len(plan.events)} events, ledger on {options.ledger}."
    )
    with console.status("The site is opened ...") as status:

        def tell(progress: Progress) -> None:
            status.update(
                f"{len(plan.all_runs)} runs are planned; {progress.ended} executions have ended,"
                f" {progress.executions['Running']} are running;"
                f" {progress.happened.total()} of {len(plan.events)} events have happened."
            )

        async with open_site(folder, ledger_kind=options.ledger, skews=plan.skews) as site:
            campaign = Campaign(plan, site, tell)
            evidence = await campaign.carry_out(seconds=options.seconds)
            restarts = dict(site.restarts)
            status.update("A copy of the ledger is tampered with ...")
            copy = await asyncio.to_thread(site.ledger.copy)
            tampering = await asyncio.to_thread(
                tamper_with_copy, copy, plan.seed, _TAMPERED_ROWS_OF_EACH_KIND
            )
    table = Table(show_header=False)
    for name, figure in list_figures(plan, evidence, campaign.progress.happened, restarts):
        table.add_row(name, figure)
    table.add_row("tampering", tampering.describe())
    console.print(table)
    return [*find_violations(plan, evidence), *tampering.find_violations()]


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="how many requests (default: 300)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed is the same plan (default: 1)")
    parser.add_argument(
        "--seconds", type=int, default=900, help="a run that takes longer hangs (default: 900)"
    )
    parser.add_argument("--ledger", choices=["postgresql", "sqlite"], default="postgresql")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
