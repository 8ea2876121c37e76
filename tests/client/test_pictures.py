"""Reading a result's images from a local store, from S3, and by a link."""

import hashlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpt_image_runs import ImageUnavailable
from gpt_image_runs.client.pictures import read_image
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.images.store import ImageStore
from tests.support.files.picture_files import make_picture


def refer(uri: str, data: bytes) -> ImageRef:
    digest = hashlib.sha256(data).hexdigest()
    return ImageRef(uri=uri, sha256=digest, media_type="image/png", bytes=len(data), width=1, height=1)


async def test_image_of_either_store_is_read(store: ImageStore) -> None:
    data = make_picture()

    assert await read_image(await store.put_image(data)) == data


async def test_file_uri_with_escaped_characters_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a b%20ü.png"
    path.write_bytes(b"picture")

    assert await read_image(refer(path.as_uri(), b"picture")) == b"picture"


async def test_missing_file_says_where_images_are(tmp_path: Path) -> None:
    image = refer((tmp_path / "none.png").as_uri(), b"picture")

    with pytest.raises(ImageUnavailable, match=r"No such file.* mount the folder at the same path") as raised:
        await read_image(image)

    assert raised.value.uri == image.uri


async def test_other_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"other")

    with pytest.raises(ImageUnavailable, match="are not the image of the result"):
        await read_image(refer((tmp_path / "a.png").as_uri(), b"picture"))


async def test_unknown_scheme_is_named() -> None:
    with pytest.raises(ImageUnavailable, match="begins with 'ftp'"):
        await read_image(refer("ftp://example.com/a.png", b"picture"))


async def test_s3_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gpt_image_runs.images.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)

    with pytest.raises(
        ImageUnavailable, match=r"obstore is not installed.*`pip install gpt-image-runs\[app\]"
    ):
        await read_image(refer("s3://bucket/sha256/ab/ab.png", b"picture"))


async def test_s3_object_that_is_not_there_is_told(s3_store: ImageStore) -> None:
    image = await s3_store.put_image(make_picture())
    other = image.model_copy(update={"uri": image.uri.replace(image.sha256, image.sha256[:2] + "0" * 62)})

    with pytest.raises(ImageUnavailable, match="There is no picture"):
        await read_image(other)


@contextmanager
def serve(data: bytes) -> Iterator[str]:
    """Answer "/a.png" with these bytes, and anything else with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.path == "/a.png"
            self.send_response(200 if is_known else 404)
            self.end_headers()
            self.wfile.write(data if is_known else b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_link_is_downloaded() -> None:
    with serve(b"picture") as url:
        assert await read_image(refer(f"{url}/a.png", b"picture")) == b"picture"
        with pytest.raises(ImageUnavailable, match="are not the image"):
            await read_image(refer(f"{url}/a.png", b"short"))
        with pytest.raises(ImageUnavailable, match=r"cannot be downloaded .*starter.py links RUN"):
            await read_image(refer(f"{url}/b.png", b"picture"))
