"""The wheel: carries the grammar and its tables, templates and examples, and works from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ftdsl.cli.main import VERBS
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

LOADS = """
import ftdsl, ftdsl.language.lexing as lexing
lexing.save = lexing.build = None
lexing.parser()
print(ftdsl.__file__)
"""


def test_the_wheel_works_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    inside = tmp_path / "inside"
    with zipfile.ZipFile(next(tmp_path.glob("ftdsl-*.whl"))) as wheel:
        wheel.extractall(inside)
    (page,) = inside.glob("ftdsl-*.data/data/share/man/man1/ftc.1")
    manual = page.read_text(encoding="utf-8")
    for verb in VERBS:
        assert f"ftc {verb}" in manual.replace("\\fR", "").replace("\\fB", "").replace("\\-", "-"), verb
    for name in (
        "language/ft.lark",
        "language/ft.lark.bin",
        "targets/templates/bash/run.sh.j2",
        "examples/quickstart.ft",
    ):
        assert (inside / "ftdsl" / name).exists(), name
    place = tmp_path / "elsewhere"
    place.mkdir()

    def ftc(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from ftdsl.cli.main import main; sys.exit(main(sys.argv[1:]))"
        env = {**os.environ, "PYTHONPATH": str(inside)}
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments],
            cwd=place,
            capture_output=True,
            text=True,
            env=env,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    where = subprocess.run(
        [sys.executable, "-P", "-c", LOADS],
        cwd=place, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(inside)}, check=False,
    )  # fmt: skip
    assert where.returncode == 0, f"the shipped table is current and loads: {where.stderr}"
    assert where.stdout.startswith(str(inside))
    ftc("init")
    ftc("check", "quickstart.ft")
    ftc("compile", "quickstart.ft")
    assert (place / "build" / "quickstart" / "30-base" / "train.yaml").exists()
    assert "stages" in ftc("check", "quickstart.ft").stdout
