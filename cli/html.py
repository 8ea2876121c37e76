"""HTML pages from Jinja2 templates, each one self-contained file with its style and script inside.

A page loads nothing: its Content-Security-Policy allows its own style, its own script and embedded pictures. It allows no
connection, frame or form, and no script that could be smuggled in with untrusted text.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_BASE = Path(__file__).parent / "templates" / "base"

# Controls, halves of surrogate pairs and noncharacters: a parser drops or replaces them, and UTF-8 cannot encode the halves.
_NOT_ALLOWED_IN_HTML = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
# White space is collapsed; to show 200 of 32,000 characters, the rest need not be read.
_READ_TO_SHORTEN = 8


def load_templates(folder: Path, **filters: Callable[..., Any]) -> Environment:
    """Load the templates of one page: `*.html.j2`, `page.css`, and `page.js` where it has a script.

    Autoescape is on. `base.html.j2`, which a page extends, writes the style, the script and the policy that allows them.
    """
    css = _read(_BASE / "base.css") + _read(folder / "page.css")
    script = folder / "page.js"
    js = _read(script) if script.exists() else ""
    environment = Environment(
        loader=FileSystemLoader([folder, _BASE]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_replace_not_allowed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"css": css, "js": js, "policy": _build_policy(css, js)}
    environment.filters |= {
        "shorten": shorten,
        "thousands": format_thousands,
        "counted": format_count,
        **filters,
    }
    return environment


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _build_policy(css: str, js: str) -> str:
    script = f"'{_hash(js)}'" if js else "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(css)}'; script-src {script};"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(source: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _replace_not_allowed(value: Any) -> Any:
    # Markup comes from our own templates, whose values went through here before.
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _NOT_ALLOWED_IN_HTML.sub("\ufffd", value.replace("\r\n", "\n").replace("\r", "\n"))


def shorten(text: str, most: int) -> str:
    """Return the beginning of a text on one line, `most` characters at most."""
    line = " ".join(text[: most * _READ_TO_SHORTEN].split())
    if len(line) <= most and len(text) <= most * _READ_TO_SHORTEN:
        return line
    return line[: most - 1].rstrip() + "…"


def format_thousands(number: int) -> str:
    """Format a number with commas: 1,234,567."""
    return f"{number:,}"


def format_count(number: int, noun: str) -> str:
    """Format a number with its noun: "1 line", "2,000 lines"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
