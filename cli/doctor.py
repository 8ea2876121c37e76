"""`doctor`: what is reachable, what is missing, and what to do about it."""

import asyncio
from dataclasses import asdict

from rich.text import Text

from cli import options
from cli.health_checks import Check, check_everything
from cli.output import Output
from cli.session import open_session

_NAMES_WIDTH = 18


def doctor(*, as_json: options.AsJson = False) -> int:
    """Say what is reachable, what is missing, and what to do about it.

    It costs nothing, and writes nothing but a probe into the image store. Exit status 0 once all that a run needs answers.
    """
    session = open_session()  # unusable settings end here, with a sentence for each
    settings = Check("settings", ok=True, message=f"DATA_DIR is {session.settings.data_dir.resolve()}")
    checks = [settings, *asyncio.run(check_everything(session))]
    ok = all(check.ok for check in checks)
    document = {"status": "ok" if ok else "not ready", "checks": [asdict(check) for check in checks]}
    Output(as_json=as_json).answer(document, _describe(checks))
    return 0 if ok else 1


def _describe(checks: list[Check]) -> Text:
    text = Text()
    for check in checks:
        text.append("✓ " if check.ok else "✗ ", style="green" if check.ok else "bold red")
        text.append(f"{check.name:<{_NAMES_WIDTH}}", style="bold")
        text.append(f"{check.message}\n")
    text.rstrip()
    return text
