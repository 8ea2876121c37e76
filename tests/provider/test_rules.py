"""What each model allows, field by field."""

from dataclasses import replace
from typing import Any

import pytest

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.provider.catalog import Catalog, ModelEntry
from gpt_image_runs.provider.request_rules import check_rules

CATALOGUE = Catalog.load("simulator")
FIRST = ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "chatgpt-image-latest"]
WITH_MORE_QUALITIES = [
    "gpt-image-2.5-sunburst",
    "gpt-image-2.5-flare",
    "gpt-image-2.6-sunburst",
    "gpt-image-2.6-flare",
]
FLEXIBLE = ["gpt-image-2", *WITH_MORE_QUALITIES]
EVERY = [*FIRST, *FLEXIBLE]
ONE_IMAGE = ["store://pictures/a.png"]


def find(model: str) -> ModelEntry:
    entry = CATALOGUE.find(model)
    assert entry
    return entry


def check(model: str, **fields: Any) -> list[tuple[str, str]]:
    """The problems of a request with these fields, as pairs of field and what is allowed."""
    request = ImageRequest.model_validate({"model": model, "prompt": "a lamp", **fields})
    return [(problem.field, problem.allowed) for problem in check_rules(request, find(model))]


@pytest.mark.parametrize("model", EVERY)
def test_the_documented_request_is_allowed_everywhere(model: str) -> None:
    """The seven fields of the provider's documentation are allowed on every model, and so is saying nothing."""
    assert check(model) == []
    assert check(model, n=1, size="1024x1024", quality="high", background="auto", output_format="png") == []


@pytest.mark.parametrize("model", EVERY)
def test_partial_pictures_where_the_stream_tells_all_that_is_billed(model: str) -> None:
    """Models that write billable text are refused, as a stream's usage does not tell it from the picture."""
    writes_text = model in {"gpt-image-1.5", "chatgpt-image-latest"}
    refused = [
        ("partial_images", f"nothing on {model}: its stream does not report everything that is billed")
    ]
    assert check(model, partial_images=2) == (refused if writes_text else [])


@pytest.mark.parametrize("model", FIRST)
@pytest.mark.parametrize("size", ["auto", "1024x1024", "1536x1024", "1024x1536"])
def test_the_first_family_has_four_sizes(model: str, size: str) -> None:
    """The sizes of the first family are allowed as they are listed."""
    assert check(model, size=size) == []


@pytest.mark.parametrize("model", FIRST)
@pytest.mark.parametrize("size", ["256x256", "1792x1024", "1024x1025", "2048x2048", "1536x1536"])
def test_the_first_family_has_no_other_size(model: str, size: str) -> None:
    """Any other size is refused with the list of those that are allowed."""
    assert check(model, size=size) == [
        ("size", f"on {model}: auto, 1024x1024, 1536x1024 or 1024x1536"),
    ]


@pytest.mark.parametrize("model", FLEXIBLE)
@pytest.mark.parametrize(
    "size",
    [
        "auto",
        "1024x1024",
        "1536x864",
        "3840x2160",
        "2160x3840",
        "2880x2880",  # 8,294,400 pixels: the most
        "640x1024",  # 655,360 pixels: the fewest
        "1024x640",
        "1536x512",  # 3:1, the most elongated
        "512x1536",
        "3840x1280",
    ],
)
def test_flexible_sizes_within_the_bounds(model: str, size: str) -> None:
    """Any size within the bounds is allowed on the second family, the bounds themselves included."""
    assert check(model, size=size) == []


SIXTEEN = "both sides divisible by 16"
EDGE = "no side over 3840"
RATIO = "a ratio from 1:3 to 3:1"
PIXELS = "655,360 to 8,294,400 pixels"
BOUNDS = f"auto or WIDTHxHEIGHT with {SIXTEEN}; {EDGE}; {RATIO}; {PIXELS}"


@pytest.mark.parametrize("model", FLEXIBLE)
@pytest.mark.parametrize(
    ("size", "broken"),
    [
        ("1032x1024", [SIXTEEN]),
        ("1024x1032", [SIXTEEN]),
        ("3856x2144", [EDGE]),
        ("2144x3856", [EDGE]),
        ("1552x512", [RATIO]),
        ("512x1552", [RATIO]),
        ("640x1008", [PIXELS]),  # 645,120
        ("2896x2880", [PIXELS]),  # 8,340,480
        ("16x16", [PIXELS]),
        ("99999x1", [SIXTEEN, EDGE, RATIO, PIXELS]),
    ],
)
def test_flexible_sizes_beyond_a_bound(model: str, size: str, broken: list[str]) -> None:
    """A size just beyond a bound is refused with all the rules, and with the ones that it breaks."""
    assert check(model, size=size) == [
        ("size", f"on {model}: {BOUNDS}. It breaks: {'; '.join(broken)}"),
    ]


def test_a_flexible_model_without_auto_wants_a_size() -> None:
    """Where the data does not list auto for a model, auto is refused like any other size."""
    request = ImageRequest(model="gpt-image-2", prompt="a lamp", size="auto")
    (problem,) = check_rules(request, replace(find("gpt-image-2"), sizes=("1024x1024",)))
    assert problem.allowed.endswith("It breaks: a size has to be named")


@pytest.mark.parametrize("model", EVERY)
@pytest.mark.parametrize("quality", ["auto", "low", "medium", "high"])
def test_four_qualities_are_everywhere(model: str, quality: str) -> None:
    """The four common qualities are allowed on every model."""
    assert check(model, quality=quality) == []


@pytest.mark.parametrize("quality", ["xhigh", "max"])
def test_xhigh_and_max_came_with_2_5(quality: str) -> None:
    """The qualities xhigh and max are allowed on 2.5 and 2.6, and refused before."""
    for model in WITH_MORE_QUALITIES:
        assert check(model, quality=quality) == []
    for model in [*FIRST, "gpt-image-2"]:
        assert check(model, quality=quality) == [("quality", f"on {model}: auto, low, medium or high")]


@pytest.mark.parametrize("model", EVERY)
@pytest.mark.parametrize("quality", ["standard", "hd", "ultra"])
def test_other_qualities_are_nowhere(model: str, quality: str) -> None:
    """A quality of retired models or of none is refused on every model."""
    assert [field for field, _ in check(model, quality=quality)] == ["quality"]


def test_transparency_needs_a_format_that_has_it() -> None:
    """A transparent background is allowed with png, which is the default, and webp, and refused with jpeg."""
    assert check("gpt-image-2", background="transparent") == []
    assert check("gpt-image-2", background="transparent", output_format="png") == []
    assert check("gpt-image-2", background="transparent", output_format="webp") == []
    assert check("gpt-image-2", background="opaque", output_format="jpeg") == []
    assert check("gpt-image-2", background="transparent", output_format="jpeg") == [
        ("background", "auto or opaque with jpeg; transparent with output_format png or webp"),
    ]


def test_transparency_needs_a_model_that_has_it() -> None:
    """A transparent background is refused on a model without one, whatever the format."""
    request = ImageRequest(model="gpt-image-2", prompt="a lamp", background="transparent")
    (problem,) = check_rules(request, replace(find("gpt-image-2"), transparent_background=False))
    assert (problem.field, problem.allowed) == ("background", "on gpt-image-2: auto or opaque")


def test_a_format_has_to_be_the_models() -> None:
    """An output format that the data does not list for a model is refused with those that it does."""
    request = ImageRequest(model="gpt-image-2", prompt="a lamp", output_format="webp")
    (problem,) = check_rules(request, replace(find("gpt-image-2"), output_formats=("png",)))
    assert (problem.field, problem.allowed) == ("output_format", "on gpt-image-2: png")


@pytest.mark.parametrize("percent", [0, 50, 100])
def test_only_jpeg_and_webp_are_compressed(percent: int) -> None:
    """output_compression is allowed with jpeg and webp, and refused with png, named or by default."""
    for output_format in ("jpeg", "webp"):
        assert check("gpt-image-2", output_compression=percent, output_format=output_format) == []
    refused = [("output_compression", "nothing with png: only jpeg or webp are compressed by percent")]
    # The documented default, written out.
    expected = [] if percent == 100 else refused
    assert check("gpt-image-2", output_compression=percent, output_format="png") == expected
    assert check("gpt-image-2", output_compression=percent) == expected


def test_moderation_is_for_generations() -> None:
    """Moderation is allowed on a generation and refused on an edit, where the provider takes none."""
    assert check("gpt-image-2", moderation="low") == []
    assert check("gpt-image-2", moderation="low", images=ONE_IMAGE) == [
        ("moderation", "nothing on an edit: the provider accepts it for generations only"),
    ]


@pytest.mark.parametrize(
    ("model", "low", "high"),
    [
        ("gpt-image-1", None, None),
        ("gpt-image-1.5", None, None),
        ("chatgpt-image-latest", None, None),
        ("gpt-image-1-mini", None, "on gpt-image-1-mini: low"),
        *[(model, *[f"on {model}: nothing; leave it out"] * 2) for model in FLEXIBLE],
    ],
)
def test_input_fidelity_differs_by_model(model: str, low: str | None, high: str | None) -> None:
    """On an edit, input_fidelity may be low or high, only low, or must be left out, by the model."""
    for fidelity, allowed in (("low", low), ("high", high)):
        expected = [("input_fidelity", allowed)] if allowed else []
        assert check(model, images=ONE_IMAGE, input_fidelity=fidelity) == expected


def test_input_fidelity_belongs_to_an_edit() -> None:
    """Without images there is nothing to be faithful to: the field is refused on a generation."""
    assert check("gpt-image-1.5", input_fidelity="low") == [
        ("input_fidelity", "nothing without images: it belongs to an edit"),
    ]


@pytest.mark.parametrize("model", EVERY)
def test_every_model_edits(model: str) -> None:
    """Images and a mask are allowed on every GPT Image model."""
    assert check(model, images=ONE_IMAGE, mask="store://pictures/m.png") == []


def test_a_model_that_does_not_edit_takes_no_pictures() -> None:
    """Where the data says that a model does not edit, its images and its mask are refused."""
    request = ImageRequest.model_validate(
        {"model": "gpt-image-2", "prompt": "a lamp", "images": ONE_IMAGE, "mask": "store://pictures/m.png"}
    )
    problems = check_rules(request, replace(find("gpt-image-2"), edits=False))
    assert [(problem.field, problem.value, problem.allowed) for problem in problems] == [
        ("images", "a list of 1", "on gpt-image-2: nothing, it does not edit"),
        ("mask", "given", "on gpt-image-2: nothing, it does not edit"),
    ]


def test_every_problem_is_told_at_once_and_in_order() -> None:
    """All that is wrong is reported together, in the order of the request's fields, with values as they were sent."""
    request = ImageRequest.model_validate(
        {
            "model": "gpt-image-2",
            "prompt": "a lamp",
            "images": ONE_IMAGE,
            "input_fidelity": "high",
            "moderation": "low",
            "output_compression": 5,
            "output_format": "png",
            "quality": "hd",
            "size": "10x10",
        }
    )
    problems = check_rules(request, find("gpt-image-2"))
    assert [(problem.field, problem.value) for problem in problems] == [
        ("size", "'10x10'"),
        ("quality", "'hd'"),
        ("output_compression", "5"),
        ("moderation", "'low'"),
        ("input_fidelity", "'high'"),
    ]
