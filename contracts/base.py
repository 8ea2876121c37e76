"""The base of every contract: frozen, and tolerant of fields that a newer peer has added."""

from typing import Any

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


class SparseContract(Contract):
    """A contract that leaves out what holds None: absent and None mean the same, and histories stay small."""

    @model_serializer(mode="wrap")
    def _omit_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema of the fields: of the serializer pydantic knows only that it makes some object."""
        return handler({key: part for key, part in core_schema.items() if key != "serialization"})
