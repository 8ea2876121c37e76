"""How lines divide into the provider's files."""

from activities.economy.documents import PlannedLine
from activities.economy.plan import PartSplitter

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


def line(number: int) -> PlannedLine:
    return PlannedLine(
        line=number,
        page=0,
        run_id=f"image:acme:{number}",
        tenant="acme",
        request_id=str(number),
        fingerprint="a1",
        operation="generate",
        requested_model="gpt-image-1",
        missing_usage="hold",
        options={},
    )


def test_one_endpoint_and_one_model_a_file() -> None:
    """Lines of each endpoint and model go into a file of their own, however they are mixed."""
    splitter = PartSplitter()
    for number in range(6):
        endpoint = GENERATIONS if number % 2 else EDITS
        splitter.add(endpoint, "gpt-image-1" if number < 4 else "gpt-image-2", line(number), 10)  # type: ignore[arg-type]  # one of the two

    assert [
        (part.number, part.endpoint, part.model, [each.line for each in lines])
        for part, lines in splitter.list_parts()
    ] == [
        (0, EDITS, "gpt-image-1", [0, 2]),
        (1, GENERATIONS, "gpt-image-1", [1, 3]),
        (2, EDITS, "gpt-image-2", [4]),
        (3, GENERATIONS, "gpt-image-2", [5]),
    ]


def test_a_file_ends_at_either_limit() -> None:
    """A file takes exactly as many lines, and as many bytes, as the provider does: the next line begins another."""
    by_lines, by_bytes = PartSplitter(2, 1000), PartSplitter(50_000, 100)
    for number in range(5):
        by_lines.add("/v1/images/generations", "gpt-image-1", line(number), 1)
        by_bytes.add("/v1/images/generations", "gpt-image-1", line(number), 50)

    for splitter in (by_lines, by_bytes):
        assert [part.lines for part, _ in splitter.list_parts()] == [2, 2, 1]
