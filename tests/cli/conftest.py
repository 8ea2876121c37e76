"""What the command line's tests share: a machine on which nothing runs and nothing is set."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.app import main
from tests.support.runs.command_line import CommandLine, Ended

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "127.0.0.1:1"
"""An address at which no server of a test machine listens."""
_OURS = ("OPENAI_", "AZURE_", "TEMPORAL_", "AWS_")
_SETTINGS = (
    "DATABASE_URL",
    "IMAGE_STORE_URL",
    "PROVIDER",
    "RATE_CARD",
    "RETIRED_MODELS",
    "DEFAULT_MODEL",
    "COLUMNS",
)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty DATA_DIR, no keys, and a Temporal address at which nobody listens."""
    for name in list(os.environ):
        if name.startswith(_OURS) or name in _SETTINGS:
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", NOBODY)
    return tmp_path / "data"


@pytest.fixture
def run(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Carries out a command line in this process."""

    def run(*arguments: str, stdin: bytes = b"") -> Ended:
        assert not stdin, "a command in this process has no stdin: use run_process"
        status = main(arguments)
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


@pytest.fixture
def run_process(data_dir: Path) -> CommandLine:
    """Carries out `python starter.py ...` in a process of its own, as a user does."""

    def run(*arguments: str, stdin: bytes = b"") -> Ended:
        command = [sys.executable, str(ROOT / "starter.py"), *arguments]
        ended = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
        return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG file of 64 by 32 pixels, without an alpha channel."""
    encoded = io.BytesIO()
    Image.new("RGB", (64, 32), "navy").save(encoded, "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(encoded.getvalue())
    return path
