"""docs/parallelism.md says what is so: its recipes are compiled, its codes exist, its tables are those of the code."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from ftdsl.diagnostics.codes import CODES
from ftdsl.engines.shared.parallel.check import STARTS
from ftdsl.targets.artifacts import launch_text
from tests.conftest import ROOT, ROWS, Outcome
from tests.engines.test_parallel import job_of, recipe

TEXT = (ROOT / "docs" / "parallelism.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading."""
    part = TEXT.split(f"## {heading}\n", 1)[1]
    rows = re.search(r"(\|.*\n)+", part)
    assert rows is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[0].splitlines()[2:]]


@pytest.mark.parametrize(("stage", "nodes", "words"), table("What a launcher becomes"))
def test_a_launcher_becomes_what_is_said(stage: str, nodes: str, words: str, checked: Callable[..., Outcome]) -> None:
    job = job_of(checked(recipe(f"full {{}}\n  {stage.strip('`')}", nodes=nodes), ROWS))
    assert words.strip("`") in " ".join(launch_text(job).replace("\\\n", "").split())


def test_who_can_start_what() -> None:
    said = {}
    for names, _, launchers, _ in table("What a strategy becomes"):
        spread = names.replace("`zero0` to `zero2`", "`zero0`, `zero1`, `zero2`")
        said |= {name: set(launchers.split(", ")) for name in re.findall(r"`(\w+)`", spread)}
    strategies = {name for names in STARTS.values() for name in names if name}
    assert said == {name: {who for who, can in STARTS.items() if name in can} for name in strategies}


def test_every_code_exists() -> None:
    assert set(re.findall(r"\bFT\d{3}\b", TEXT)) <= CODES.keys()
