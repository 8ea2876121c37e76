"""Who is told that a run has ended: a field of the request."""

from typing import Annotated, Any

from pydantic import ConfigDict, GetJsonSchemaHandler, StringConstraints, model_validator

from contracts.base import SparseContract

LONGEST_URL = 2_048
_HOST = r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_REST = r"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*"
URL_PATTERN = rf"^https?://{_HOST}(:[0-9]{{1,5}})?([/?]{_REST})?$"
"""Narrow on purpose: no credentials, no fragment, and nothing that two readers could take for two different hosts."""

Destination = Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=LONGEST_URL)]
"""An https address; plain http too by its shape, which a setting may allow to this host, for tests."""


class Notify(SparseContract):
    """Where a run's end is told, written as an object with a `url`, or as the URL alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: Destination

    @model_validator(mode="before")
    @classmethod
    def _from_any_spelling(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Both spellings, where pydantic sees only the one that it makes of them."""
        whole = handler.resolve_ref_schema(handler(core_schema))
        spelling = {"type": "string", "maxLength": LONGEST_URL, "pattern": URL_PATTERN}
        as_an_object = {
            "type": "object",
            "properties": {"url": spelling},
            "required": ["url"],
            "additionalProperties": False,
        }
        return {"description": whole["description"], "anyOf": [spelling, as_an_object]}
