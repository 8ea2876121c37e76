"""Commands whose stdin, stdout or stderr has been closed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "status"),
    [("models --json >&-", 0), ("models --json 2>&-", 0), ("bogus >&- 2>&-", 2), ("submit - <&-", 2)],
)
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_closed_stream_is_not_an_error(data_dir: Path, words: str, status: int) -> None:
    """A closed stream is as if it were empty, or read by nobody."""
    command = f'"{sys.executable}" "{ROOT / "starter.py"}" {words}'
    ended = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)

    assert ended.returncode == status
    assert b"Traceback" not in ended.stderr
    assert b"defect" not in ended.stderr
