"""The language of the code: docstrings that begin with a verb, messages in plain English, log events that are keys."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gpt_image_runs", "activities", "workflows", "cli", "simulator")
# First words of docstrings that describe a thing, or what somebody does, instead of what the function does.
_WORDS = (
    "a about after all also an and another any as at because before below both but by each either "
    "every everything everybody for from half here how if in is it its just later least like most "
    "much neither no nobody none not nothing of on once one ones only or other our several so some "
    "somebody someone something such that the their then there these they this those three two under "
    "until what whatever when where wherever whether which while who whoever whom whose why with "
    "within without you your accepts adds answers asks begins books brings builds carries changes "
    "checks chooses claims closes collects compares copies counts creates decides deletes does draws "
    "drops ends fetches finds follows gets gives goes has hears holds keeps knows leaves lets limits "
    "lists loads looks maps marks measures names notes opens parses prints puts reads records "
    "refuses registers removes renders replaces reports resolves returns runs saves says sends sets "
    "shows sleeps sorts splits starts stops stores takes tells tries turns types updates uses "
    "verifies waits works writes yields "
)
NOT_VERBS = frozenset(_WORDS.split())
# "There is no attempt" is plain English, "'x' is no attempt" is not.
IS_NO = re.compile(
    r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|other\b|older\b|newer\b)[a-z]",
    re.IGNORECASE,
)
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parse_files(package: str) -> Iterator[tuple[Path, ast.Module]]:
    """Parse the Python files of a package."""
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def list_docstring_faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """List functions whose docstring does not begin with a verb. Properties may be described by a noun."""
    for node in ast.walk(tree):
        if not isinstance(node, FUNCTIONS) or any(_is_property(each) for each in node.decorator_list):
            continue
        first = re.match(r"[\w'-]+", ast.get_docstring(node) or "")
        if first and first[0].removesuffix("'s").lower() in NOT_VERBS:
            yield node.lineno, f'{node.name} begins with "{first[0]}"'


def _is_property(decorator: ast.expr) -> bool:
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
    return name in {"property", "cached_property", "setter", "computed_field"}


def list_message_faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """List texts that say "is no <noun>" in place of "is not a valid <noun>"."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            for found in IS_NO.finditer(node.value):
                yield node.lineno, repr(node.value[max(found.start() - 20, 0) : found.end() + 15])
        elif isinstance(node, ast.JoinedStr):
            # `f"{value!r} is no month"` has its words in a constant; `f"{what} is no {kind}"` only as a whole.
            for left, right in pairwise(node.values):
                text = left.value if isinstance(left, ast.Constant) else ""
                if re.search(r"(?<!there )\b(?:is|are|was|were) no $", str(text)) and isinstance(
                    right, ast.FormattedValue
                ):
                    yield node.lineno, repr(text)


def list_event_faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """List calls of structlog loggers whose event is not a snake_case key."""
    loggers = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "structlog.get_logger" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        if node.func.attr not in LOG_METHODS or ast.unparse(node.func.value) not in loggers:
            continue
        event = node.args[0]
        if isinstance(event, ast.JoinedStr) or (
            isinstance(event, ast.Constant) and not EVENT.fullmatch(str(event.value))
        ):
            yield node.lineno, ast.unparse(event)


CHECKS = {
    "docstrings": list_docstring_faults,
    "messages": list_message_faults,
    "log_events": list_event_faults,
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
@pytest.mark.parametrize("package", PACKAGES)
def test_package_keeps_to_plain_technical_english(package: str, check: object) -> None:
    assert callable(check)
    faults = [f"{path}:{line} {what}" for path, tree in parse_files(package) for line, what in check(tree)]

    assert faults == []


def test_checks_find_what_they_are_for() -> None:
    tree = ast.parse(
        'import structlog\nlog = structlog.get_logger("x")\n'
        'def f():\n    """What it does."""\n    log.info("It is done.")\n    log.info("done")\n'
        'def g():\n    """Returns it."""\n    raise ValueError(f"{1} is no month, {2} is no {3}, 4 is no longer")\n'
        'class C:\n    """The C."""\n    @property\n    def id(self):\n        """The id."""\n'
        'def h():\n    """Return it."""\n'
    )

    assert [line for line, _ in list_docstring_faults(tree)] == [3, 7]
    assert [what for _, what in list_event_faults(tree)] == ["'It is done.'"]
    assert len(list(list_message_faults(tree))) == 2
