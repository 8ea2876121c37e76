"""Token counts and prices against published numbers and sums worked out by hand."""

import pytest
from openai import AsyncOpenAI

from simulator.models import Family
from simulator.server import Simulator
from simulator.tokens import Usage, count_input_image, count_output_image, count_text, price_usage


@pytest.mark.parametrize(
    ("family", "size", "quality", "tokens"),
    [
        ("1", (1024, 1024), "high", 4160),
        ("1-mini", (1024, 1536), "medium", 1584),
        ("1.5", (1536, 1024), "high", 6208),
        ("2", (1024, 1024), "low", 196),
        ("2", (1536, 1024), "medium", 1372),
        ("2", (3840, 2160), "high", 13342),
        ("2.5", (1072, 1072), "low", 202),
        ("2.5", (2048, 2048), "medium", 892),
        ("2.5", (2560, 1440), "xhigh", 3276),
        ("2.6", (1024, 1024), "low", 588),  # three times 196
        ("2.6", (1024, 1024), "high", 1756),
    ],
)
def test_output_tokens_follow_published_tables_and_formula(
    family: Family, size: tuple[int, int], quality: str, tokens: int
) -> None:
    assert count_output_image(family, size, quality) == tokens


@pytest.mark.parametrize(
    ("family", "size", "high_fidelity", "tokens"),
    [
        ("1", (1024, 1024), False, 194),  # 512 x 512: 65 + 129
        ("1", (1536, 1024), False, 323),  # 768 x 512: 65 + 2 * 129
        ("1", (300, 4000), False, 581),  # 154 x 2048: 65 + 4 * 129
        ("1.5", (1024, 1024), True, 4354),  # 194 + 4160
        ("1.5", (1536, 1024), True, 6563),  # 323 + 6240
        ("2", (1024, 1024), False, 1024),
        ("2", (1536, 1024), False, 1536),
        ("2.5", (341, 512), False, 704),
        ("2.5", (1179, 2556), False, 1482),
    ],
)
def test_input_image_tokens_follow_observed_tiles_and_patches(
    family: Family, size: tuple[int, int], *, high_fidelity: bool, tokens: int
) -> None:
    assert count_input_image(family, size, high_fidelity=high_fidelity) == tokens


@pytest.mark.parametrize(
    ("prompt", "tokens"), [("a", 7), ("abcd", 7), ("abcde", 8), ("ééé", 8), ("x" * 400, 106)]
)
def test_text_tokens_are_a_quarter_of_the_bytes_plus_six(prompt: str, tokens: int) -> None:
    assert count_text(prompt) == tokens


@pytest.mark.parametrize(
    ("family", "usage", "micro_usd"),
    [
        ("1", Usage(text_in=10, image_in=40, image_out=4160, text_out=0), 166_850),
        ("1-mini", Usage(text_in=7, image_in=323, image_out=272, text_out=0), 2_998),  # 2997.5
        ("1.5", Usage(text_in=13, image_in=0, image_out=1056, text_out=40), 34_257),
        ("2", Usage(text_in=10, image_in=40, image_out=4160, text_out=0), 125_170),
    ],
)
def test_list_price_sums_token_classes_in_micro_usd(family: Family, usage: Usage, micro_usd: int) -> None:
    assert price_usage(family, usage) == micro_usd


async def test_usage_of_several_images_counts_the_input_each_time(client: AsyncOpenAI) -> None:
    answer = await client.images.generate(model="gpt-image-1", prompt="abcd", n=3, quality="low")
    assert answer.usage is not None
    assert answer.usage.model_dump(exclude_unset=True) == {
        "input_tokens": 21,
        "input_tokens_details": {"text_tokens": 21, "image_tokens": 0},
        "output_tokens": 816,
        "total_tokens": 837,
    }


async def test_gpt_image_1_5_text_output_is_reported_and_priced_as_text(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    answer = await client.images.generate(model="gpt-image-1.5", prompt="abcd", quality="low")
    assert answer.usage is not None
    assert answer.usage.output_tokens_details is not None
    assert answer.usage.output_tokens_details.model_dump() == {"image_tokens": 272, "text_tokens": 40}
    assert answer.usage.output_tokens == 312
    # 7 * 5 + 272 * 32 + 40 * 10
    assert simulator.books.paid[0].list_price_micro_usd == 9_139


@pytest.mark.parametrize(
    ("model", "quality", "tokens"),
    [
        ("gpt-image-2.6-sunburst", "high", 1756),
        ("gpt-image-2.6-flare", "medium", 1317),
        ("gpt-image-1", "medium", 1056),
    ],
)
async def test_auto_size_and_quality_are_resolved_in_response_and_bill(
    client: AsyncOpenAI, model: str, quality: str, tokens: int
) -> None:
    answer = await client.images.generate(model=model, prompt="abcd", size="auto", quality="auto")
    assert answer.usage is not None
    assert (answer.size, answer.quality, answer.usage.output_tokens) == ("1024x1024", quality, tokens)
