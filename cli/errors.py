"""Failures of a command, each with its message and exit status."""

from typing import Any

from gpt_image_runs.contracts.problems import Problem

FAILED, REFUSED, INTERRUPTED = 1, 2, 130


class CommandFailed(Exception):
    """A command failed; the message says what is wrong and what to do."""

    status = "error"

    def __init__(self, message: str, *, exit_status: int = FAILED, **details: Any) -> None:
        super().__init__(message)
        self.exit_status = exit_status
        self._details = details

    def document(self) -> dict[str, Any]:
        """Return the failure as JSON: what `--json` prints instead of a result."""
        return {"status": self.status, "message": str(self), **self._details}


class RequestRefused(CommandFailed):
    """A request is refused; nothing was sent. `problems` may be empty if the message says everything."""

    status = "refused"

    def __init__(self, message: str, problems: tuple[Problem, ...] = (), **details: Any) -> None:
        listed = [problem.model_dump(mode="json") for problem in problems]
        super().__init__(message, exit_status=REFUSED, problems=listed, **details)
        self.problems = problems


class RunFailed(CommandFailed):
    """A run ended without a result; `failure_type` is the name of its failure."""

    status = "failed"

    def __init__(self, message: str, *, run_id: str, failure_type: str) -> None:
        super().__init__(message, run_id=run_id, failure_type=failure_type)


class Interrupted(CommandFailed):
    """Ctrl-C or SIGTERM ended the command early."""

    status = "interrupted"

    def __init__(self) -> None:
        super().__init__("Interrupted.", exit_status=INTERRUPTED)


class WaitInterrupted(CommandFailed):
    """Ctrl-C while waiting for a run. The run continues."""

    status = "running"

    def __init__(self, run_id: str) -> None:
        message = f"The run continues. Attach to it again: python starter.py wait {run_id}"
        super().__init__(message, exit_status=INTERRUPTED, run_id=run_id)
