import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from tests.support.deploy.compose_tools import ROOT

LINES = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
COPIED = [
    source
    for line in LINES
    if line.startswith("COPY ") and "--from=" not in line
    for source in line.split()[1:-1]
]
OURS = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {path.stem for path in ROOT.glob("*.py")}


def test_copied_files_exist_and_reach_the_build() -> None:
    """.dockerignore lets through exactly what the Dockerfile copies."""
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert let_through == set(COPIED)
    assert [source for source in COPIED if not (ROOT / source).exists()] == []


def test_image_holds_what_its_programs_import() -> None:
    """No file in the image imports a package of ours that stays out of it."""
    copied = {PurePosixPath(source).stem for source in COPIED} & OURS
    for source in COPIED:
        path = ROOT / source
        for file in path.rglob("*.py") if path.is_dir() else [path] * (path.suffix == ".py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                missing = {name.partition(".")[0] for name in names} & OURS - copied
                assert not missing, f"{file.relative_to(ROOT)} imports {missing}"


@pytest.mark.parametrize(
    "program",
    [["worker.py"], ["-m", "gpt_image_runs.database.migrate"], ["starter.py"]],
    ids=lambda program: program[-1],
)
def test_programs_start_from_the_copied_files(program: list[str], tmp_path: Path) -> None:
    """The worker, the migrations and the command line run where there is nothing but the image's files."""
    for source in COPIED:
        target = tmp_path / source
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, target)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, *program, "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_both_stages_use_the_same_python_version() -> None:
    """What was installed with one Python runs with the same one, which the project supports."""
    bases = {line.split()[1] for line in LINES if line.startswith("FROM ")}
    assert len(bases) == 1
    assert (match := re.fullmatch(r"python:3\.(\d+)\.\d+-slim-[a-z]+", bases.pop()))
    assert int(match[1]) >= 11


def test_program_is_the_first_process_and_not_root() -> None:
    """The program is the container's first process, in exec form, and not root."""
    entry = next(line.removeprefix("ENTRYPOINT ") for line in LINES if line.startswith("ENTRYPOINT "))
    user = [line.split()[1] for line in LINES if line.startswith("USER ")]
    assert json.loads(entry) == ["python"]
    assert user == ["worker"]
