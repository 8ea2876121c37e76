"""The contact sheet in a real browser: its filters, its order, its dialog, and the silence around it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.contact_sheet.render import write_contact_sheet
from gpt_image_runs.images.store import ImageStore
from tests.support.files.sheets import HOSTILE, make_row, put_picture
from tests.support.servers.browser import Tab, find_browser, open_browser

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="there is no Chromium here: install one to try the contact sheet's page"
)
LINES = "Array.from(document.querySelectorAll('#cards > .card .line'), line => line.textContent.slice(5)).join(' ')"
SHOWN = "document.getElementById('shown').value"
KEY_CODES = {"Enter": 13, "Escape": 27, "ArrowRight": 39}
DIALOG = "document.getElementById('detail')"


@pytest.fixture
async def sheet(tmp_path: Path) -> Path:
    """Write a sheet of six lines."""
    store = ImageStore.from_url((tmp_path / "store").as_uri())
    wide, small = await put_picture(store, "navy", (640, 320)), await put_picture(store, "red", (32, 32))
    rows = [
        make_row(1, wide, charge_usd="0.100000"),
        make_row(2, small, charge_usd="0.300000", prompt="A harbour at Dusk"),
        make_row(
            3, charge_usd=None, billing_state=None, state="failed", error="Refused: moderation_blocked."
        ),
        make_row(4, wide, charge_usd=None, billing_state="pending"),
        make_row(5, small, charge_usd="0.200001", prompt=HOSTILE),
        make_row(6, charge_usd=None, billing_state=None, state="waiting", prompt="word " * 6_400 + "end"),
    ]
    path = tmp_path / "sheet.html"
    await write_contact_sheet("Spring", rows, store, path)
    return path


@pytest.fixture
async def tab(sheet: Path, tmp_path: Path) -> AsyncIterator[Tab]:
    """Open the sheet."""
    assert BROWSER
    async with open_browser(BROWSER, tmp_path / "profile") as opened:
        await opened.open(sheet.as_uri())
        yield opened


async def type_text(tab: Tab, text: str) -> None:
    await tab.evaluate(
        f"(document.getElementById('text').value = {text!r},"
        " document.getElementById('text').dispatchEvent(new Event('input', {bubbles: true})))"
    )


async def choose_order(tab: Tab, order: str) -> None:
    await tab.evaluate(
        f"(document.getElementById('order').value = {order!r},"
        " document.getElementById('order').dispatchEvent(new Event('input', {bubbles: true})))"
    )


async def click(tab: Tab, selector: str) -> None:
    await tab.evaluate(f"document.querySelector({selector!r}).click()")


async def press(tab: Tab, key: str) -> None:
    pressed = {"key": key, "code": key, "windowsVirtualKeyCode": KEY_CODES[key]}
    typed = {"text": "\r"} if key == "Enter" else {}
    await tab.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **typed)
    await tab.call("Input.dispatchKeyEvent", type="keyUp", **pressed)


async def test_cards_are_filtered_and_sorted(tab: Tab, sheet: Path) -> None:
    """Text, states and bills narrow the lines and their exact total; order is by line, charge, size or state, and what is not known comes last."""
    assert await tab.evaluate(LINES) == "1 2 3 4 5 6"
    assert await tab.evaluate(SHOWN) == "6 of 6 lines · 0.600001 USD · 1 pending"

    await type_text(tab, "DUSK harbour")
    assert (await tab.evaluate(LINES), await tab.evaluate(SHOWN)) == ("2", "1 of 6 lines · 0.300000 USD")
    await type_text(tab, "moderation_blocked")
    assert (await tab.evaluate(LINES), await tab.evaluate(SHOWN)) == ("3", "1 of 6 lines · no charge")
    await type_text(tab, "nowhere")
    assert await tab.evaluate("document.getElementById('nothing').hidden") is False
    await click(tab, "#reset")

    await click(tab, "input[value=failed]")
    await click(tab, "input[value=waiting]")
    assert await tab.evaluate(LINES) == "3 6"
    await click(tab, "#reset")
    await click(tab, "input[value=pending]")
    assert (await tab.evaluate(LINES), await tab.evaluate(SHOWN)) == (
        "4",
        "1 of 6 lines · no charge · 1 pending",
    )
    await click(tab, "#reset")

    orders = {
        "charge-down": "2 5 1 3 4 6",
        "charge-up": "1 5 2 3 4 6",
        "pixels-down": "1 4 2 5 3 6",
        "pixels-up": "2 5 1 4 3 6",
        "state": "1 2 4 5 3 6",
        "line": "1 2 3 4 5 6",
    }
    for order, lines in orders.items():
        await choose_order(tab, order)
        assert (order, await tab.evaluate(LINES)) == (order, lines)

    assert await tab.evaluate("document.title") == "Spring"
    assert tab.requests == [sheet.as_uri()]
    assert tab.complaints == []


async def test_line_is_opened_and_left_by_keyboard(tab: Tab) -> None:
    """Enter on Details opens the whole prompt with the picture's hash, an arrow shows the next line, Escape goes back to where one was."""
    await tab.evaluate("document.querySelectorAll('summary')[4].focus()")
    await press(tab, "Enter")
    text = f"{DIALOG}.open && {DIALOG}.innerText"
    told = await tab.evaluate(text)
    assert all(part in told for part in ("Line 5", "document.title = 'owned'", "0.200001 USD", "sha256 "))

    await press(tab, "ArrowRight")
    told = await tab.evaluate(text)
    assert "Line 6" in told
    assert told.count("word") == 6_400

    await press(tab, "Escape")
    assert await tab.evaluate(f"{DIALOG}.open") is False
    assert await tab.evaluate("document.activeElement.getAttribute('aria-label')") == "Details of line 6"
    assert tab.complaints == []


async def test_more_cards_are_shown_on_scrolling(tmp_path: Path) -> None:
    """Of 320 lines 300 are in the page at first, the rest at its end; all are counted, found and printed from the start."""
    assert BROWSER
    path = tmp_path / "sheet.html"
    store = ImageStore.from_url((tmp_path / "store").as_uri())
    await write_contact_sheet("t", (make_row(line) for line in range(1, 321)), store, path)
    count = "document.getElementById('cards').children.length"

    async with open_browser(BROWSER, tmp_path / "profile") as tab:
        await tab.open(path.as_uri())
        assert (await tab.evaluate(count), await tab.evaluate(SHOWN)) == (
            300,
            "320 of 320 lines · 53.408000 USD",
        )
        await type_text(tab, "line-320")
        assert await tab.evaluate(LINES) == "320"
        await click(tab, "#reset")
        await tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert await tab.evaluate(count) == 320
        await click(tab, "#reset")
        assert await tab.evaluate(count) == 300
        while await tab.evaluate(count) == 300:
            await tab.evaluate("scrollTo(0, document.body.scrollHeight)")
        assert await tab.evaluate(count) == 320
