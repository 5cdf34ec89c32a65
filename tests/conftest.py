"""What tests share: recipes written on the spot, checked in memory or by the real command."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings

from ftdsl.diagnostics import Diagnostic
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import Checked, check
from ftdsl.session import Session
from tests.command import ftc, ftc_process

__all__ = ["ftc", "ftc_process"]  # most tests want them beside the recipes below

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.ft"))
COMPILED = [path for path in EXAMPLES if path.stem != "search"]
"""Artifacts are of one set of values, and a recipe that searches has many."""
CORPUS = sorted((ROOT / "tests" / "corpus").glob("*.ft"))

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of tests start a Python: each would compile all it imports
os.environ["XDG_STATE_HOME"] = mkdtemp(prefix="ftc-state-")  # what runs measured before is no part of a test
settings.register_profile("busy", deadline=None)  # a machine that does much else is no fault of the code
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("busy")
if os.environ.get("CI"):
    settings.load_profile("ci")  # a submission is judged by what it changed, not by a new throw of the dice
sys.setrecursionlimit(20_000)  # as ftc does


AMPLE = {"FTC_MAIN_MEMORY": str(10**12)}
"""Main memory in which every recipe of the tests fits, so that none is warned of on a small machine."""
os.environ.update(AMPLE)

NOWHERE = {"FTC_ENGINE_PYTHON": "nowhere/bin/python", **AMPLE}
"""No engine: versions are those a clean checkout has, and nothing is missing in it."""


_NUMBERS = count()


def examples_in(folder: Path) -> Path:
    """The examples and their data, copied below a folder: `ftc` writes its lock beside a recipe."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("*.lock"))
    return folder / "examples"


_EXAMPLES = sorted((ROOT / "examples").rglob("*"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """No test writes into the checkout: what one leaves beside an example, another one takes for part of it."""
    left = sorted(set((ROOT / "examples").rglob("*")) - set(_EXAMPLES))
    if left and not hasattr(session.config, "workerinput"):
        print(f"\ntests left files in examples/: {', '.join(str(path.relative_to(ROOT)) for path in left)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection() -> None:
    """Ten thousand collected tests are objects that stay: a search for cycles goes through them in vain (1 s of 8)."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Nor does any search after it."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the test. pytest's own fixture lists the folders of all tests before to number a new one (1 ms at 1,500)."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    folder = tmp_path_factory.getbasetemp() / f"{name}-{next(_NUMBERS)}"
    folder.mkdir(mode=0o700)
    return folder


@dataclass
class Outcome:
    """What a check found."""

    checked: Checked
    found: list[Diagnostic]

    @property
    def codes(self) -> list[str]:
        return [one.code for one in self.found if one.severity.value != "info"]

    def only(self, code: str) -> Diagnostic:
        """The one error or warning there is."""
        assert self.codes == [code], [(one.code, one.message) for one in self.found]
        return next(one for one in self.found if one.code == code)


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., Outcome]:
    """Check a recipe's text, with files beside it."""

    def run(text: str, files: dict[str, str] | None = None, options: Options | None = None, **env: str) -> Outcome:
        for name, content in {"recipe.ft": text, **(files or {})}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
        session = Session(env={**NOWHERE, **env})
        result = check(tmp_path / "recipe.ft", options or Options(), session)
        return Outcome(result, session.sink.ordered())

    return run


def until(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Waits for something that another process does; a machine that does much else may take its time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.02)


ALPACA = '{"instruction": "q", "input": "", "output": "a"}\n' * 4
SMALL = """\
hardware {{ gpu = none, count = 1 }}
{file}
sft {{
  model    = hf("Qwen/Qwen3-0.6B")
  data     = file("rows.jsonl")
  duration = 1 epoch
  {stage}
}}
"""


def small(stage: str = "", file: str = "") -> str:
    """A recipe of one stage that is fine, with something added."""
    return SMALL.format(stage=stage, file=file)


ROWS = {"rows.jsonl": ALPACA}
