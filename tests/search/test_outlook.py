"""`ftc plan` of a recipe that searches: the space, how much of it cannot run, time and money against the budget."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.observe.outlook import StudyOutlook, head, lines
from ftdsl.source import Source, Span
from tests.conftest import ALPACA, ftc

CARD = """
name = "card"
hardware { gpu = rtx4090, count = 1, price = 0.5 USD }
BUDGET
sft {
  model    ~ choice(hf("Qwen/Qwen3-0.6B"), hf("Qwen/Qwen3-4B"), hf("Qwen/Qwen3-32B"))
  data     = file("rows.jsonl")
  duration = 500 steps
  lora     { rank ~ uniform(8 .. 64) }
  parallel { strategy = ddp }
  evaluate { data = 25% }
}
search { trials = 30, goal = minimize(sft.eval_loss), parallel = 2, pruner = median }
"""


def plan(place: Path, text: str) -> dict[str, Any]:
    (place / "rows.jsonl").write_text(ALPACA * 20, encoding="utf-8")
    (place / "s.ft").write_text(text, encoding="utf-8")
    document: dict[str, Any] = json.loads(ftc("plan", "s.ft", "--json", cwd=place).stdout)
    return document


@pytest.mark.slow
def test_a_third_of_the_space_does_not_fit_the_card(tmp_path: Path) -> None:
    found = plan(tmp_path, CARD.replace("BUDGET", ""))["search"]
    assert found["points"] == 16 and 2 <= found["refused"] <= 9, found
    assert all("GiB" in reason or "memory" in reason for reason, _ in found["reasons"]), found
    assert found["wanted"] == 30 and found["affordable"] is None
    assert len(found["seconds"]) == 16 - found["refused"] and found["money"]
    assert plan(tmp_path, CARD.replace("BUDGET", ""))["search"] == found, "the same points are drawn"
    shown = ftc("plan", "s.ft", cwd=tmp_path).stdout
    assert "search  30 trials by tpe, pruned by median: minimize(sft.eval_loss)" in shown
    assert f"{found['refused']} of 16 points drawn cannot run" in " ".join(shown.split())


@pytest.mark.slow
def test_the_budget_ends_it_after_so_many(tmp_path: Path) -> None:
    free = plan(tmp_path, CARD.replace("BUDGET", ""))["search"]
    each = sum(free["money"]) / len(free["money"])
    limit = round(max(5 * each, 1.5 * max(free["money"])), 2)
    found = plan(tmp_path, CARD.replace("BUDGET", f"budget {{ cost = {limit} USD }}"))["search"]
    assert found["affordable"] == int(limit / each) < 30


def test_a_recipe_without_a_search_has_none(tmp_path: Path) -> None:
    fixed = CARD.replace("BUDGET", "").partition("search {")[0].replace("~ uniform(8 .. 64)", "= 8")
    fixed = fixed.replace(
        '~ choice(hf("Qwen/Qwen3-0.6B"), hf("Qwen/Qwen3-4B"), hf("Qwen/Qwen3-32B"))', '= hf("Qwen/Qwen3-0.6B")'
    )
    assert "search" not in plan(tmp_path, fixed)


def outlook(**more: Any) -> StudyOutlook:
    known: dict[str, Any] = {
        "goals": "minimize(sft.eval_loss)", "sampler": "grid", "pruner": "", "wanted": 10, "parallel": 1,
        "dimensions": {"rank": "uniform(8 .. 64)"}, "points": 16, "refused": 0,
    }  # fmt: skip
    return StudyOutlook(**{**known, **more})


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "not known: no stage of a trial has a forecast"),
        ({"seconds": (60.0, 60.0)}, "1 min a trial; all 10 min"),
        ({"seconds": (30.0, 90.0), "parallel": 2, "shared": 60.0}, "(30 s to 1 min 30 s); all 6 min, 2 side by side"),
        ({"seconds": (60.0,), "pruner": "asha"}, "all at most 10 min"),
        ({"seconds": (3600.0,), "money": (2.0,), "budget_cost": 7.0}, "the budget of 7.00 USD ends it after about 3 trials"),
        ({"seconds": (3600.0,), "budget_seconds": 4 * 3600.0}, "ends it after about 4 trials"),
        ({"seconds": (60.0,), "budget_seconds": 4 * 3600.0}, "all 10 min"),
    ],
)  # fmt: skip
def test_what_it_takes(more: dict[str, Any], text: str) -> None:
    shown = dict(lines(outlook(**more)))["takes"]
    assert text in " ".join(shown.split()).replace(" 00 s", ""), shown
    assert ("budget" in shown) is ("ends it" in text)


def test_the_head() -> None:
    assert head(outlook()) == "10 trials by grid: minimize(sft.eval_loss)"


def test_points_are_drawn_within_the_bounds() -> None:
    from ftdsl.search.outlook import drawn

    span = Span(Source("s.ft", "x"), 0, 1)
    rng = random.Random(0)
    log = Dimension("lr", "lr", "log", span, low=1e-6, high=1e-2)
    values = [float(drawn(log, rng)) for _ in range(400)]
    assert all(1e-6 <= value <= 1e-2 for value in values)
    assert 0.4 < sum(value < 1e-4 for value in values) / 400 < 0.6, "as likely in each decade"
    steps = Dimension("rank", "rank", "uniform", span, low=8, high=64, step=8, whole=True)
    assert {drawn(steps, rng) for _ in range(200)} == {str(8 * at) for at in range(1, 9)}
    choice = Dimension("a", "a", "choice", span, choices=("x", "y"))
    assert {drawn(choice, rng) for _ in range(50)} == {"x", "y"}
