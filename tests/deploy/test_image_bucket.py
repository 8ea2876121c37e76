import os
import shutil
import subprocess

import pytest

from tests.support.deploy.compose_tools import ROOT
from tests.support.servers.s3_server import s3_client, s3_environment

SCRIPT = ROOT / "deploy/image-store/create-bucket.sh"
SHELL = shutil.which("sh")
pytestmark = pytest.mark.skipif(not (SHELL and shutil.which("curl")), reason="needs sh and curl")


def run_script(url: str, bucket: str) -> subprocess.CompletedProcess[str]:
    variables = s3_environment(url) | {"BUCKET": bucket}
    return subprocess.run(
        [str(SHELL), str(SCRIPT)], env=os.environ | variables, capture_output=True, text=True, check=False
    )


def test_bucket_job_creates_the_bucket_once(s3_url: str) -> None:
    """The job makes the bucket, and finds it when it runs again."""
    assert run_script(s3_url, "made-by-the-job").stdout == "The bucket made-by-the-job was made.\n"
    assert run_script(s3_url, "made-by-the-job").stdout == "The bucket made-by-the-job is there.\n"
    assert "made-by-the-job" in [bucket["Name"] for bucket in s3_client(s3_url).list_buckets()["Buckets"]]


def test_bucket_job_fails_without_a_bucket(s3_url: str) -> None:
    """The job ends with an error that says what went wrong, so that no worker starts without its store."""
    done = run_script(s3_url, "X")
    assert done.returncode == 1
    assert "The bucket X could not be made" in done.stderr
    assert "HTTP status 400" in done.stderr
