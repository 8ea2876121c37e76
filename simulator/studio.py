"""Carries out an order: draws the pictures and writes the answer. CPU work: call it in a thread."""

import base64
import json
import time
from functools import lru_cache

from simulator.faults import Fault, FaultKind, strip_fault
from simulator.orders import ImageOrder
from simulator.pictures import Brief, Encoding, coarsen, draw_picture, edit_picture
from simulator.provenance import stamp_picture
from simulator.spoiling import Document, spoil_document
from simulator.tokens import Usage
from simulator.uploads import Inputs


def carry_out(order: ImageOrder, inputs: Inputs, usage: Usage, fault: Fault | None, request_id: str) -> bytes:
    """The body of the answer, spoilt as the fault says."""
    encoding = Encoding(order.output_format, order.output_compression)
    if fault is not None and fault.kind is FaultKind.WRONG_FORMAT:
        encoding = encoding._replace(output_format="jpeg" if order.output_format == "png" else "png")
    pictures = [
        stamp_picture(_make_picture(order, inputs, encoding, index), request_id) for index in range(order.n)
    ]
    document = _write_answer(order, pictures, usage)
    if fault is not None:
        spoil_document(document, fault)
    return json.dumps(document).encode()


def draw_partials(order: ImageOrder, inputs: Inputs, request_id: str) -> list[bytes]:
    """The partial pictures of a stream, each less coarse than the one before."""
    encoding = Encoding(order.output_format, order.output_compression)
    finished = _make_picture(order, inputs, encoding, 0) if order.partial_images else b""
    return [
        stamp_picture(coarsen(finished, encoding, step), request_id)
        for step in range(order.partial_images or 0)
    ]


def _make_picture(order: ImageOrder, inputs: Inputs, encoding: Encoding, index: int) -> bytes:
    count = f"  /  {index + 1} of {order.n}" if order.n > 1 else ""
    brief = Brief(
        text=strip_fault(order.prompt),
        note=f"Simulated  /  {order.model_name}  /  {order.size_name}  /  {order.quality}{count}",
        size=order.size,
        variant=index,
        transparent=order.background == "transparent",
    )
    if inputs.images:
        return edit_picture(brief, encoding, inputs.images[0], inputs.mask)
    width, height = brief.size
    return (_draw_once if width * height <= _SMALL_PIXELS else draw_picture)(brief, encoding)


# The same brief is the same picture; under a load of many like requests drawing would be most of what the machine does.
_SMALL_PIXELS = 1024 * 1024


@lru_cache(maxsize=64)
def _draw_once(brief: Brief, encoding: Encoding) -> bytes:
    return draw_picture(brief, encoding)


def _write_answer(order: ImageOrder, pictures: list[bytes], usage: Usage) -> Document:
    document: Document = {
        "created": int(time.time()),
        "background": order.background,
        "data": [{"b64_json": base64.b64encode(picture).decode()} for picture in pictures],
        "output_format": order.output_format,
        "quality": order.quality,
        "size": order.size_name,
        "usage": usage.to_json(with_output_details=order.model.reports_output_details),
    }
    if order.safety_identifier is not None:
        document["safety_identifier"] = order.safety_identifier
    return document
