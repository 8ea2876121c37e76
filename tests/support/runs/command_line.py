"""How a test types a command: the types of the fixtures `run` and `run_process`. No test here."""

import json
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """All of stdout as one JSON document."""
        return json.loads(self.out)


class CommandLine(Protocol):
    """Carries out one command line."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ended:
        """Run the command to its end."""
