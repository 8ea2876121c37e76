"""`reconcile`, `reprice`, `reverse`, `pending` and `exposure`, typed beside a running worker."""

import json
from pathlib import Path

import pytest

from tests.support.runs.commands import type_command
from tests.support.runs.correction_runs import USAGE, run_without_usage, state_of
from tests.support.runs.tenants import new_tenant
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_reconcile_settles_a_run_once(stack: Stack, tmp_path: Path) -> None:
    """`reconcile` settles a run by a usage from stdin; again it finds the entry; pending and show know it."""
    tenant = new_tenant()
    run_id = await run_without_usage(stack, tenant=tenant)
    words = ("reconcile", run_id, "--usage", "-", "--reason", "ticket 7", "--actor", "ada")
    usage = json.dumps(USAGE).encode()

    before = await type_command(stack, tmp_path, "pending", "--tenant", tenant, "--json")
    first = await type_command(stack, tmp_path, *words, "--json", stdin=usage)
    again = await type_command(stack, tmp_path, *words, stdin=usage)
    after = await type_command(stack, tmp_path, "pending", "--tenant", tenant)
    shown = await type_command(stack, tmp_path, "show", run_id, "--json")

    assert [run["run_id"] for run in before.document["runs"]] == [run_id]
    assert (first.status, again.status) == (0, 0)
    assert (first.document["outcome"], first.document["total_usd"]) == ("settled", "0.166900")
    assert again.out.startswith(f"✓ {run_id} was already settled")
    assert after.out == "No bills are waiting.\n"
    assert len(stack.entries(run_id)) == 2
    assert stack.entries(run_id)[1].actor == "ada"
    assert shown.document["billing"]["state"] == "reconciled"
    assert shown.document["cost"]["amount_usd"] == "0.166900"
    assert shown.document["usage"] == USAGE


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
async def test_reconcile_settles_the_runs_of_a_file(stack: Stack, tmp_path: Path, kind: str) -> None:
    """A file settles its runs, names those that were settled before, and those that are refused: then the status is 2."""
    tenant = new_tenant()
    held, settled, estimated = [
        await run_without_usage(stack, tenant=tenant, missing_usage=missing)
        for missing in ("hold", "hold", "estimate")
    ]
    nobody = f"image:{tenant}:nobody"
    file = tmp_path / f"usages.{kind}"
    lines = {
        "jsonl": [
            json.dumps({"run_id": run, "usage": USAGE, "reason": "ticket 7"})
            for run in (held, settled, estimated, nobody)
        ],
        "csv": [
            "run_id,input_tokens,output_tokens,reason",
            *(f"{run},50,4160,ticket 7" for run in (held, settled, estimated, nobody)),
        ],
    }
    usage = tmp_path / "usage.json"
    usage.write_text(json.dumps(USAGE))
    file.write_text("\n".join(lines[kind]) + "\n")
    await type_command(stack, tmp_path, "reconcile", settled, "--usage", str(usage), "--reason", "ticket 6")

    ended = await type_command(stack, tmp_path, "reconcile", "--file", str(file), "--json")
    again = await type_command(stack, tmp_path, "reconcile", "--file", str(file))

    assert (ended.status, again.status) == (2, 2)
    counts = {name: ended.document[name] for name in ("settled", "already_settled", "refused", "failed")}
    assert counts == {"settled": 2, "already_settled": 1, "refused": 1, "failed": 0}
    assert [run["outcome"] for run in ended.document["runs"]] == [
        "settled",
        "already_settled",
        "settled",
        "refused",
    ]
    assert "has no entry in the ledger" in ended.document["runs"][3]["problem"]
    assert [run["settlement"]["difference_usd"] for run in ended.document["runs"][:3]] == [
        "0.166900",
        "0.166900",
        "0.000500",
    ]
    assert "3 already settled, 1 refused." in again.out
    assert [len(stack.entries(run)) for run in (held, settled, estimated)] == [2, 2, 2]


async def test_reconcile_with_one_invalid_line_settles_nothing(stack: Stack, tmp_path: Path) -> None:
    """One wrong line of three refuses the file by the number of the line, and no run is settled."""
    run_id = await run_without_usage(stack)
    file = tmp_path / "usages.jsonl"
    good = json.dumps({"run_id": run_id, "usage": USAGE, "reason": "ticket 7"})
    file.write_text(f'{good}\n\n{{"run_id": "req-2", "usage": {{"input_tokens": -1}}, "reason": "x"}}\n')

    ended = await type_command(stack, tmp_path, "reconcile", "--file", str(file), "--json")

    assert ended.status == 2
    (problem,) = ended.document["lines"]
    assert problem.startswith("line 3: usage.input_tokens is -1: ")
    assert len(stack.entries(run_id)) == 1


async def test_reconcile_with_an_older_usage_is_refused(stack: Stack, tmp_path: Path) -> None:
    """Who asks for an older usage again is not told that it counts: status 2, and the entry that does."""
    run_id = await run_without_usage(stack)
    words = ("reconcile", run_id, "--usage", "-", "--reason", "ticket 7", "--json")
    for tokens in (4160, 1056):
        usage = json.dumps({"input_tokens": 50, "output_tokens": tokens}).encode()
        assert (await type_command(stack, tmp_path, *words, stdin=usage)).status == 0

    ended = await type_command(stack, tmp_path, *words, stdin=json.dumps(USAGE).encode())

    assert ended.status == 2
    assert f"entry {stack.entries(run_id)[2].entry_id} counts, and 0.042740 USD" in ended.document["message"]
    assert len(stack.entries(run_id)) == 3


async def test_reprice_leaves_out_runs_without_usage(stack: Stack, tmp_path: Path) -> None:
    """`reprice` takes up the runs whose usage is kept, and says what a run that is named still lacks."""
    tenant = new_tenant()
    run_id = await run_without_usage(stack, tenant=tenant)
    malformed = await stack.run(
        {**CONTRACT, "prompt": "A cup [simulate:malformed_usage=negative]", "tenant": tenant},
        run_id=new_run_id(tenant),
    )

    named = await type_command(stack, tmp_path, "reprice", run_id, "--json")
    bulk = await type_command(stack, tmp_path, "reprice", "--tenant", tenant, "--json")
    still = await type_command(stack, tmp_path, "reprice", malformed.run_id)

    assert (named.status, bulk.status, still.status) == (2, 0, 2)
    assert "It has no usage that could be priced" in named.document["message"]
    assert bulk.document["pending"] == 1
    assert [run["run_id"] for run in bulk.document["runs"]] == [malformed.run_id]
    assert f"The run {malformed.run_id} is still pending; nothing was written: usage." in still.err


async def test_reverse_takes_a_charge_back(stack: Stack, tmp_path: Path) -> None:
    """`reverse` takes a charge back for a reason, and `show` says that nothing is owed."""
    result = await stack.run(CONTRACT)

    ended = await type_command(stack, tmp_path, "reverse", result.run_id, "--reason", "A gift", "--json")
    shown = await type_command(stack, tmp_path, "show", result.run_id, "--json")

    assert (ended.status, ended.document["total_usd"]) == (0, "0.000000")
    assert state_of(stack, result.run_id) == "reconciled"
    assert shown.document["cost"]["amount_usd"] == "0.000000"


async def test_exposure_lists_the_worst_case_of_a_cut_off_answer(stack: Stack, tmp_path: Path) -> None:
    """A request whose answer was cut off is exposed with the most that it can have cost, although the run succeeded.

    23 bytes of prompt and 100 tokens around it at 10 micro-USD, 4160 tokens at 40.
    """
    tenant = new_tenant()
    stack.simulator.script("reset_after_payment", match="is sent once")
    payload = {**CONTRACT, "prompt": "A cup that is sent once", "tenant": tenant}
    result = await stack.run(payload, run_id=new_run_id(tenant))

    ended = await type_command(stack, tmp_path, "exposure", "--tenant", tenant, "--json")
    for_people = await type_command(stack, tmp_path, "exposure", "--tenant", tenant, "--by", "model")

    assert ended.status == 0
    row = {"key": result.run_id, "simulated": True, "attempts": 1, "unpriced": 0, "reserved_usd": "0.167630"}
    assert ended.document["rows"] == [row]
    assert ended.document["totals"]["simulated"] == {**row, "key": "total"}
    (attempt,) = ended.document["attempts"]
    assert (attempt["number"], attempt["client_request_id"]) == (
        1,
        stack.calls(result.run_id)[0].client_request_id,
    )
    assert ended.document["in_flight"] == []
    assert "gpt-image-1 (simulated)" in for_people.out
    assert "0.167630" in for_people.out
