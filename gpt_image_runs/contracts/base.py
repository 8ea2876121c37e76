"""The base of every contract: frozen, and tolerant of fields that a newer peer has added."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)


class Contract(BaseModel):
    """A value between two processes that may run different versions of this code.

    Unknown fields are ignored, so an older reader survives a newer writer.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    # What a value inside a field allows, by its path, where the field's own description does not say it.
    nested_descriptions: ClassVar[Mapping[str, str]] = {}


class SparseContract(Contract):
    """A contract that leaves out what holds None: absent and None mean the same, and histories stay small."""

    @model_serializer(mode="wrap")
    def _omit_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema of the fields: pydantic cannot look into the serializer."""
        return handler({key: part for key, part in core_schema.items() if key != "serialization"})


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
    """An annotation: the text's pattern in a JSON Schema. It validates nothing; of several the last one applies."""

    pattern: str

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core_schema), "pattern": self.pattern}
