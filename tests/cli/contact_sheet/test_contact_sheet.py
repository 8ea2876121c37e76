"""The contact sheet as a file: its content, hostile input, and that it loads nothing."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cli.contact_sheet.render import SheetRow, write_contact_sheet
from cli.errors import CommandFailed
from gpt_image_runs.images.store import ImageStore
from tests.support.files.sheets import HOSTILE, ReadPage, make_row, put_picture


def find_file(store: ImageStore, uri: str) -> Path:
    """Return the file of a picture in the store."""
    path = store.local_path(uri)
    assert path
    return path


def list_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore.from_url((tmp_path / "store").as_uri())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sheets" / "sheet.html"


async def test_card_shows_every_field_of_a_line(store: ImageStore, path: Path) -> None:
    picture = await put_picture(store, "navy", (640, 320))

    written = await write_contact_sheet(
        "Spring", [make_row(7, picture)], store, path, link_to_run=lambda run: f"http://ui.example/{run}"
    )

    page = ReadPage(path)
    assert written.bytes == len(page.source.encode())
    assert page.source.startswith("<!doctype html>")
    for told in ("A lighthouse, number 7", "640x320", "0.166900 USD", "done", picture.uri, picture.sha256):
        assert told in page.text
    assert ("a", "http://ui.example/image:acme:line-7") in [
        (tag, data.get("href")) for tag, data in page.elements
    ]
    (image,) = [data for tag, data in page.elements if tag == "img"]
    assert (image["width"], image["height"], image["alt"]) == ("240", "120", "Line 7: A lighthouse, number 7")
    assert (image["src"] or "").startswith("data:image/webp;base64,UklGR")


async def test_untrusted_texts_make_no_elements(store: ImageStore, path: Path) -> None:
    """No direction mark reaches beyond its own element."""
    picture = await put_picture(store, "navy")
    plain = make_row(1, picture, error="e", size="s")
    hostile = make_row(
        1,
        picture,
        run_id=HOSTILE,
        prompt=HOSTILE,
        model=HOSTILE,
        size=HOSTILE,
        quality=HOSTILE,
        state=HOSTILE,
        billing_state=HOSTILE,
        error=HOSTILE,
    )
    link = "http://ui.example/"

    await write_contact_sheet("t", [plain], store, path, note="n", link_to_run=lambda _: link)
    expected = [tag for tag, _ in ReadPage(path).elements]
    await write_contact_sheet(HOSTILE, [hostile], store, path, note=HOSTILE, link_to_run=lambda _: link)
    page = ReadPage(path)

    assert [tag for tag, _ in page.elements] == expected
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not re.search(r"[\x00\x1b\ud800-\udfff]", page.source)
    assert "document.title = 'owned'" in page.text
    without_values = re.sub(r'="[^"]*"', "", page.source)
    around = re.findall("<([^<>]*)>[^<>]*\u202e", without_values)
    assert len(around) > 12
    assert {tag for tag in around if tag != "title" and not re.match(r"bdi|.* dir\b", tag)} == set()


async def test_link_that_is_not_http_is_left_out(store: ImageStore, path: Path) -> None:
    await write_contact_sheet("t", [make_row()], store, path, link_to_run=lambda _: "javascript:alert(1)")
    assert "javascript:" not in ReadPage(path).source


async def test_long_prompt_is_shortened_in_the_card_only(store: ImageStore, path: Path) -> None:
    prompt = "word " * 6_400

    await write_contact_sheet("t", [make_row(prompt=prompt)], store, path)

    page = ReadPage(path)
    assert prompt in page.texts
    (short,) = [text for text in page.texts if text.startswith("word") and text != prompt]
    assert len(short) <= 200
    assert short.endswith("…")


async def test_totals_are_exact_and_count_pending_bills_apart(store: ImageStore, path: Path) -> None:
    rows = [
        make_row(1, charge_usd="0.100001"),
        make_row(2, charge_usd="9007199254.740993"),
        make_row(3, charge_usd="0.2", billing_state="estimated"),
        make_row(4, charge_usd=None, billing_state="pending"),
        make_row(5, charge_usd=None, billing_state="pending"),
        make_row(6, charge_usd=None, billing_state=None, state="failed", error="Refused."),
    ]

    written = await write_contact_sheet("t", rows, store, path)

    totals = written.totals
    page = ReadPage(path)
    assert (totals.charged_usd, totals.charged_lines, totals.pending_lines) == ("9007199255.040994", 3, 2)
    assert dict(totals.states) == {"done": 5, "failed": 1}
    assert "9007199255.040994 USD" in page.text
    assert "for 3 lines, 0.200000 of it estimated" in page.text
    assert "2 lines" in page.texts
    charges = [data.get("data-charge") for tag, data in page.elements if tag == "li"]
    assert charges == ["100001", "9007199254740993", "200000", None, None, None]
    assert page.texts.count("not known yet") == 2
    assert "0.000000" not in page.text


async def test_unknown_charges_are_not_shown_as_zero(store: ImageStore, path: Path) -> None:
    await write_contact_sheet("t", [make_row(charge_usd=None, billing_state="pending")], store, path)
    page = ReadPage(path)
    assert "nothing yet" in page.texts
    assert not [text for text in page.texts if text.endswith(" USD")]


async def test_invalid_charge_leaves_the_earlier_sheet(store: ImageStore, path: Path) -> None:
    await write_contact_sheet("earlier", [make_row()], store, path)
    earlier = ReadPage(path).source

    with pytest.raises(ValueError, match=r"'0\.1e3' is not a valid amount in USD"):
        await write_contact_sheet("t", [make_row(), make_row(2, charge_usd="0.1e3")], store, path)

    assert ReadPage(path).source == earlier
    assert list_names(path.parent) == [path.name]


async def test_lost_picture_is_shown_with_its_hash_beside_the_others(store: ImageStore, path: Path) -> None:
    sound, gone, changed, other = [
        await put_picture(store, color) for color in ("red", "green", "blue", "gold")
    ]
    cut = await store.put_image(find_file(store, sound.uri).read_bytes()[:60])
    find_file(store, gone.uri).unlink()
    find_file(store, changed.uri).write_bytes(b"x" * changed.bytes)
    elsewhere = sound.model_copy(update={"uri": "s3://elsewhere/picture.png", "sha256": "e" * 64})
    exchanged = other.model_copy(update={"sha256": "f" * 64})
    lost = (gone, changed, cut, elsewhere, exchanged)

    rows = [make_row(line, picture) for line, picture in enumerate((*lost, sound), start=1)]
    written = await write_contact_sheet("t", rows, store, path)

    page = ReadPage(path)
    assert (written.totals.pictures, written.totals.pictures_lost) == (6, 5)
    assert page.count("img") == 1
    faults = re.findall(r'<p class="lost"><b>(\w+)</b> <code title="(\w{64})">', page.source)
    kinds = ("missing", "damaged", "damaged", "missing", "damaged")
    assert faults == [(kind, picture.sha256) for kind, picture in zip(kinds, lost, strict=True)]
    assert "There is no picture" in page.text
    assert f"The picture {other.uri} is another one" in page.text


async def test_later_pictures_have_smaller_thumbnails_and_then_none(
    store: ImageStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.contact_sheet.rows.LARGE_UP_TO", 1)
    monkeypatch.setattr("cli.contact_sheet.rows.SMALL_UP_TO", 3)
    pictures = [await put_picture(store, color, (512, 512)) for color in ("red", "green", "blue", "gold")]

    written = await write_contact_sheet("t", [make_row(1, *pictures)], store, path)

    page = ReadPage(path)
    assert [data["width"] for tag, data in page.elements if tag == "img"] == ["240", "112", "112"]
    assert "not embedded" in page.texts
    assert pictures[3].sha256 in page.text
    assert written.totals.pictures_lost == 0


async def test_at_most_nine_rows_are_read_ahead(store: ImageStore, path: Path) -> None:
    taken, told, ahead = 0, 0, 0
    picture = await put_picture(store, "navy")

    def count() -> Iterator[SheetRow]:
        nonlocal taken, ahead
        for line in range(1, 201):
            taken += 1
            ahead = max(ahead, taken - told)
            yield make_row(line, picture)

    async def count_slowly() -> AsyncIterator[SheetRow]:
        for row in count():
            await asyncio.sleep(0)
            yield row

    def tell(written: int) -> None:
        nonlocal told
        told = written

    for rows in (count(), count_slowly()):
        taken = told = ahead = 0
        written = await write_contact_sheet("t", rows, store, path, tell=tell)
        assert (told, written.totals.lines) == (200, 200)
        assert ahead <= 9
        lines = re.findall(r'<span class="line">Line (\d+)</span>', ReadPage(path).source)
        assert lines == [str(line) for line in range(1, 201)]


async def test_unwritable_target_is_reported_before_any_row_is_read(
    store: ImageStore, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    taken = []

    def take() -> Iterator[SheetRow]:
        taken.append(1)
        yield make_row()

    for path in (tmp_path / "folder", tmp_path / "file" / "sheet.html"):
        with pytest.raises(
            CommandFailed, match=r"The contact sheet .* cannot be written \(.+\)\. Choose another"
        ) as told:
            await write_contact_sheet("t", take(), store, path)
        assert str(path) in str(told.value)
    assert taken == []
    assert list_names(tmp_path) == ["file", "folder", "store"]


async def test_page_loads_nothing_from_outside(store: ImageStore, path: Path) -> None:
    picture = await put_picture(store, "#ff000080", mode="RGBA")

    await write_contact_sheet("t", [make_row(1, picture)], store, path)

    page = ReadPage(path)
    loading = [
        data.get(name) for _, data in page.elements for name in ("src", "srcset", "data", "poster", "action")
    ]
    loading += [data.get("href") for tag, data in page.elements if tag != "a"]
    assert {(address or "data:").partition(":")[0] for address in loading} == {"data"}
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import ", page.source)
    assert page.count("script") == page.count("style") == 1
    (policy,) = [
        data["content"] or ""
        for _, data in page.elements
        if data.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


async def test_store_that_fails_three_times_is_not_asked_again(store: ImageStore, path: Path) -> None:
    picture = await put_picture(store, "navy")
    shutil.rmtree(path.parents[1] / "store")

    written = await write_contact_sheet("t", [make_row(line, picture) for line in range(1, 11)], store, path)

    page = ReadPage(path)
    assert written.totals.pictures_lost == 10
    assert page.texts.count("not read") == 20
    assert page.text.count("The image store did not answer any more.") >= 10 - 3 - 4


async def test_target_lost_while_writing_leaves_no_draft(store: ImageStore, path: Path) -> None:
    with pytest.raises(CommandFailed, match="cannot be written"):
        await write_contact_sheet("t", [make_row()], store, path, tell=lambda _: path.mkdir())
    assert list_names(path.parent) == [path.name]
