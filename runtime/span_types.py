"""What a span is told, wherever spans go: known without OpenTelemetry."""

from collections.abc import Callable, Mapping

Attributes = Mapping[str, str | int]
Note = Callable[[Attributes], None]
"""Tells a span that has begun of what has become known since."""
