"""Faults that spoil an answer that was paid for: its pictures, its usage, its text."""

import base64
from collections.abc import Callable
from typing import Any

from simulator.faults import Fault, FaultKind

Document = dict[str, Any]
"""The provider's answer, as parsed JSON."""

_OVERSIZE_BYTES = 3 * 1024 * 1024
_NO_PICTURE = base64.b64encode(b"This is no picture, but it was paid for.").decode()


def spoil_document(document: Document, fault: Fault) -> None:
    """Does to an answer what the fault says, in place. A fault of another sort leaves it as it is."""
    if fault.kind in _SPOILERS:
        _SPOILERS[fault.kind](document, fault)


def _drop_data(document: Document, _: Fault) -> None:
    del document["data"]


def _break_base64(document: Document, _: Fault) -> None:
    document["data"] = [{"b64_json": "!" + picture["b64_json"][:41]} for picture in document["data"]]


def _replace_pictures(document: Document, _: Fault) -> None:
    document["data"] = [{"b64_json": _NO_PICTURE} for _ in document["data"]]


def _drop_picture(document: Document, _: Fault) -> None:
    document["data"] = document["data"][:-1]


def _respell_base64(document: Document, fault: Fault) -> None:
    for picture in document["data"]:
        text = picture["b64_json"]
        wrapped = base64.encodebytes(base64.b64decode(text)).decode()
        spelled = {
            "wrapped": wrapped,
            "crlf": wrapped.replace("\n", "\r\n"),
            "newline": f"{text}\n",
            "url_safe": text.translate(str.maketrans("+/", "-_")),
            "unpadded": text.rstrip("="),
            "data_uri": f"Data:image/png;charset=binary;base64,{text}",
            "data_uri_in_url": f"data:image/png;base64,{text}",
        }[fault.spelling]
        picture.clear()
        picture["url" if fault.spelling == "data_uri_in_url" else "b64_json"] = spelled


def _link_pictures(document: Document, _: Fault) -> None:
    document["data"] = [{"url": f"https://img.example.net/a/{n}.png"} for n in range(len(document["data"]))]


def _lose_picture(document: Document, fault: Fault) -> None:
    filtered = {"violence": {"filtered": True, "severity": "high"}}
    damaged = document["data"][-1]["b64_json"][:400]
    document["data"][-1] = {
        "null": None,
        "filter": {"content_filter_results": filtered, "b64_json": None, "url": None},
        "damaged": {"b64_json": damaged},
        "empty": {"b64_json": ""},
    }[fault.instead]


def _drop_usage(document: Document, _: Fault) -> None:
    del document["usage"]


def _null_usage(document: Document, _: Fault) -> None:
    document["usage"] = None


def _zero_usage(document: Document, _: Fault) -> None:
    document["usage"] = {
        "input_tokens": 0,
        "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
        "output_tokens": 0,
        "total_tokens": 0,
    }


def _drop_usage_field(document: Document, fault: Fault) -> None:
    document["usage"].pop(fault.field, None)


def _leave_one_count(document: Document, fault: Fault) -> None:
    kept = "output_tokens" if fault.field == "input_tokens" else "input_tokens"
    document["usage"] = {kept: document["usage"][kept]}


def _mix_names(document: Document, _: Fault) -> None:
    usage = document["usage"]
    document["usage"] = {
        "input_tokens": 0,
        "output_tokens": 0,
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
    }


def _deform_usage(document: Document, fault: Fault) -> None:
    tokens = document["usage"]["output_tokens"]
    if fault.form == "list":
        document["usage"] = [tokens]
        return
    forms = {
        "negative": -tokens,
        "string": str(tokens),
        "float": tokens + 0.5,
        "bool": True,
        "absurd": 10**13,
    }
    document["usage"]["output_tokens"] = forms[fault.form]


def _inflate_usage(document: Document, _: Fault) -> None:
    document["usage"]["trace"] = "x" * _OVERSIZE_BYTES


_SPOILERS: dict[FaultKind, Callable[[Document, Fault], None]] = {
    FaultKind.NO_DATA: _drop_data,
    FaultKind.BAD_BASE64: _break_base64,
    FaultKind.NOT_AN_IMAGE: _replace_pictures,
    FaultKind.WRONG_COUNT: _drop_picture,
    FaultKind.ODD_BASE64: _respell_base64,
    FaultKind.URL_ONLY: _link_pictures,
    FaultKind.LOST_PICTURE: _lose_picture,
    FaultKind.MISSING_USAGE: _drop_usage,
    FaultKind.NULL_USAGE: _null_usage,
    FaultKind.ZERO_USAGE: _zero_usage,
    FaultKind.PARTIAL_USAGE: _drop_usage_field,
    FaultKind.SPARSE_USAGE: _leave_one_count,
    FaultKind.MIXED_USAGE: _mix_names,
    FaultKind.MALFORMED_USAGE: _deform_usage,
    FaultKind.OVERSIZE_USAGE: _inflate_usage,
}
