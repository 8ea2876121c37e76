"""How the lines of an economy batch divide into files: one endpoint and one model each, within the provider's limits. Pure."""

from dataclasses import dataclass, field

from activities.economy_documents import PlannedLine
from contracts.economy import Endpoint, PlannedPart
from imaging.batches import LARGEST_FILE, MOST_LINES


@dataclass
class _Part:
    number: int
    endpoint: Endpoint
    model: str
    lines: list[PlannedLine] = field(default_factory=list)
    size: int = 0


class PartSplitter:
    """Takes lines one by one; each goes to the open file of its kind, or begins a new one. `most_bytes` of a file at most."""

    def __init__(self, most_lines: int = MOST_LINES, most_bytes: int = LARGEST_FILE) -> None:
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._open: dict[tuple[Endpoint, str], _Part] = {}
        self._parts: list[_Part] = []

    def add(self, endpoint: Endpoint, model: str, line: PlannedLine, size: int) -> None:
        """Puts a line of that many bytes into a part."""
        part = self._open.get((endpoint, model))
        if part is None or len(part.lines) >= self._most_lines or part.size + size > self._most_bytes:
            part = _Part(len(self._parts), endpoint, model)
            self._parts.append(part)
            self._open[endpoint, model] = part
        part.lines.append(line)
        part.size += size

    def list_parts(self) -> list[tuple[PlannedPart, list[PlannedLine]]]:
        """Every part with its lines, in the order in which they were begun."""
        return [
            (
                PlannedPart(
                    number=part.number, endpoint=part.endpoint, model=part.model, lines=len(part.lines)
                ),
                part.lines,
            )
            for part in self._parts
        ]
