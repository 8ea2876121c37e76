"""Two independent readers of a Compose file, installed apart from the environment, once, into pytest's cache.

check-jsonschema carries the Compose specification's schema as it is today. docker-compose 1.29.2 is the last one in
Python: its own loader interpolates, merges and validates. It asks for PyYAML<6 and jsonschema<4, which the
environment cannot have and its loader does not need; setuptools brings the distutils that newer Pythons lack.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
COMPOSE_FILE = ROOT / "docker-compose.yml"
_REQUIREMENTS = Path(__file__).with_name("compose-tools.txt")

# What `docker-compose config` does, without the rest of its command line, which Python 3.13 can no longer import.
_CONFIG = """
import sys
import setuptools
from compose.config import config, environment, serialize
from compose.config.errors import ConfigurationError

try:
    variables = environment.Environment.from_env_file(".")
    details = config.find(".", ["docker-compose.yml"], variables)
    sys.stdout.write(serialize.serialize_config(config.load(details)))
except ConfigurationError as error:
    sys.exit(error.msg)
"""


def install_tools(cache: Path, requirements: Path = _REQUIREMENTS) -> Path:
    """Return the folder of the tools. Installs them where they are missing, safe for concurrent processes."""
    tools = cache / _fingerprint(requirements)
    if not tools.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            fresh = Path(folder) / "tools"
            options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--target"]
            pip = [sys.executable, "-m", "pip", "install", *options, str(fresh), "-r", str(requirements)]
            done = subprocess.run(pip, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"pip could not install {requirements.name}:\n{done.stderr}"
            if not tools.exists():
                shutil.move(fresh, tools)
    return tools


def _fingerprint(requirements: Path) -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = requirements.read_text(encoding="utf-8").split()
    return "-".join([version, *(word for word in lines if "==" in word)])


def run_config(tools: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `docker-compose config` with these variables in .env alone; a refusal is on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(COMPOSE_FILE, folder)
        lines = [f"{name}={value}\n" for name, value in variables.items()]
        Path(folder, ".env").write_text("".join(lines), encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tools)}
        command = [sys.executable, "-c", _CONFIG]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )


def read_schema(tools: Path) -> Any:
    """Read the JSON Schema of the Compose specification."""
    path = tools / "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
    return json.loads(path.read_text(encoding="utf-8"))
