"""Which fault strikes a request: the one in its prompt, else the next one that was scripted, else one by chance."""

import random
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from simulator.errors import StartupError
from simulator.faults import Fault, FaultKind, find_fault, parse_fault


class Scripted(NamedTuple):
    """A fault that waits for the next request whose prompt contains `match` (None: any request)."""

    fault: Fault
    match: str | None


class FaultScript:
    """A queue of faults, each for one request, first in first out, and a die for random ones."""

    def __init__(self, rates: Mapping[str, float], seed: int) -> None:
        """`rates` are probabilities by a fault as it is written in a prompt, such as {"server_error": 0.1}.

        Raises:
            StartupError: a rate is no probability, or names no fault.
        """
        self._queue: list[Scripted] = []
        self._dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._rates = _read_rates(rates)

    @property
    def queued(self) -> tuple[Scripted, ...]:
        """What is still waiting."""
        return tuple(self._queue)

    def add(self, faults: Iterable[Fault], match: str | None) -> None:
        """Scripts faults for the next matching requests, one each."""
        self._queue.extend(Scripted(fault, match) for fault in faults)

    def clear(self) -> None:
        """Forgets what is still waiting."""
        self._queue.clear()

    def take_for(self, prompt: str) -> Fault | None:
        """The fault of one request, None if all goes well; a scripted one is used up.

        Raises:
            ValueError: the prompt asks for a fault that does not exist.
        """
        asked_for = find_fault(prompt)
        if asked_for:
            return asked_for
        for index, scripted in enumerate(self._queue):
            if scripted.match is None or scripted.match in prompt:
                del self._queue[index]
                return scripted.fault
        return self._roll()

    def _roll(self) -> Fault | None:
        chance = self._dice.random()
        for fault, rate in self._rates:
            if chance < rate:
                return fault
            chance -= rate
        return None


def read_fault(fault: Fault | FaultKind | str) -> Fault:
    """A fault from any spelling: itself, its kind, or its text as in a prompt."""
    if isinstance(fault, Fault):
        return fault
    return Fault(kind=fault) if isinstance(fault, FaultKind) else parse_fault(fault)


def _read_rates(rates: Mapping[str, float]) -> list[tuple[Fault, float]]:
    if any(not 0 <= rate <= 1 for rate in rates.values()) or sum(rates.values()) > 1:
        raise StartupError(
            f"The fault rates {dict(rates)} are no probabilities: each 0 to 1, together at most 1."
        )
    try:
        return [(parse_fault(text), rate) for text, rate in rates.items()]
    except ValueError as error:
        raise StartupError(f"The fault rates name no fault: {error}.") from error
