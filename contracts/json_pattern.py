"""What validators check in Python, said again as patterns for JSON Schema.

In what ECMA-262 and the engines of other languages share: no lookaround, and characters as they are instead of escapes,
which each engine spells its own way. Half a surrogate pair cannot be named like that, so the patterns let it pass.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import GetJsonSchemaHandler

# Control characters apart from tab and line ends; blanks of all scripts; joiners and marks of direction.
_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_WIDE_BLANKS = "\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_BLANKS = f" \t\n\r{_WIDE_BLANKS}"
_INVISIBLE = (
    f"\x00-\x1f\x7f-\x9f{_WIDE_BLANKS}\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
)

PLAIN_TEXT = f"^[^{_CONTROLS}]*$"
NOT_BLANK = f"^[{_BLANKS}]*[^{_CONTROLS}{_BLANKS}][^{_CONTROLS}]*$"
LABEL = f"^[^ {_INVISIBLE}]([^{_INVISIBLE}]*[^ {_INVISIBLE}])?$"
PLAIN_USD = r"^[0-9]{1,15}(\.[0-9]{1,6}0*)?$"
USD = r"^-?[0-9]{1,15}\.[0-9]{6,12}$"


@dataclass(frozen=True, slots=True)
class JsonPattern:
    """An annotation: the text's pattern in a JSON Schema. It validates nothing here; the last of several counts."""

    pattern: str

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core_schema), "pattern": self.pattern}
