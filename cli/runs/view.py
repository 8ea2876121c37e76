"""Format runs and results for people."""

from pathlib import Path
from typing import Any

from rich.text import Text

from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.images.store import ImageStore

_NAMES_WIDTH = 10
_UNITS = ((1024 * 1024, "MB"), (1024, "KB"))


def describe_result(result: RunResult, store: ImageStore | None, link: str | None) -> Text:
    """Format a run's images and bill. `store` gives local paths of images, `link` is its page in the Web UI."""
    rows = [("model", _describe_model(result))]
    rows += [("picture", describe_picture(image, store)) for image in result.images]
    rows += [("warning", warning) for warning in result.warnings]
    rows += [
        ("tokens", describe_tokens(result.usage)),
        ("charge", _describe_charge(result)),
        ("flags", ", ".join(result.cost.flags)),
        ("billing", f"{result.billing.state}, entry {result.billing.entry_id}"),
        ("reason", result.billing.reason or ""),
        ("provider", _describe_provider(result)),
        ("Web UI", link or ""),
    ]
    return describe_lines(f"✓ {result.run_id} {result.status}", rows, style="bold green")


def describe_lines(title: str, rows: list[tuple[str, str]], *, style: str = "bold") -> Text:
    """Format a title and a line for each value that is not empty."""
    text = Text(title, style=style)
    shown = [(name, value) for name, value in rows if value]
    width = max([_NAMES_WIDTH, *(len(name) + 1 for name, _ in shown)])
    for name, value in shown:
        text.append(f"\n  {name:<{width}}", style="not bold dim")
        text.append(value, style="not bold default")
    return text


def describe_picture(image: ImageRef, store: ImageStore | None) -> str:
    """Format an image: its location, size in pixels, type and bytes."""
    path = store.local_path(image.uri) if store else None
    kind = image.media_type.removeprefix("image/")
    return f"{shorten_path(path) if path else image.uri}  {image.width}x{image.height} {kind}, {describe_bytes(image.bytes)}"


def describe_bytes(size: int) -> str:
    """Format a number of bytes."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def describe_tokens(usage: Any) -> str:
    """Format the totals of the provider's usage object."""
    if not isinstance(usage, dict):
        return "no usage reported"
    counts = [(usage.get(f"{side}put_tokens"), side) for side in ("in", "out")]
    return ", ".join(f"{_describe_count(count)} {side}" for count, side in counts)


def shorten_path(path: Path) -> str:
    """Make a path relative if it is below the working directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _describe_count(count: Any) -> str:
    return f"{count:,}" if isinstance(count, int) else "no"


def _describe_model(result: RunResult) -> str:
    if result.model == result.requested_model:
        return result.model
    return f"{result.model} (requested: {result.requested_model})"


def _describe_charge(result: RunResult) -> str:
    cost = result.cost
    if cost.amount_usd is None:
        return "not known yet"
    listed = f"; at list price {cost.list_cost_usd} USD" if cost.list_cost_usd else ""
    # What was taken back has neither a basis nor rates.
    derived = f" by {cost.basis} on {cost.rate_card}" if cost.rate_card else ""
    return f"{cost.amount_usd} USD{derived}{listed}"


def _describe_provider(result: RunResult) -> str:
    provider = result.provider
    requests = "1 request" if provider.attempts == 1 else f"{provider.attempts} requests"
    simulated = " (simulated: no money was spent)" if provider.simulated else ""
    return f"{provider.name}{simulated}, {requests} sent, {provider.request_id or 'no request id'}"
