"""A recipe whose stage is scored in milliseconds, and reports on the way as a training does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import ftc

SHARED = 'shell rows { run = "echo made >> inputs/rows.log; echo 1 > rows.txt", outputs = ["rows.txt"] }\n'
SCORE = '''
let lr ~ log(1e-4 .. 1e-1)
let rank ~ choice(4, 8)
shell score {
  after = rows
  run = """
    echo start >> inputs/starts.log
    loss=$(awk -v lr={lr} -v rank={rank} 'BEGIN {{ x = log(lr) / log(10) + 2; printf "%.6f", x * x + 8 / rank }}')
    MORE
    printf '{{"kind": "metrics", "metrics": {{"loss": %s, "rank": %s}}}}\\n' "$loss" {rank} > $(dirname {score.path})/result.json
  """
}
shell after { after = score, run = "echo {lr} {rank} > inputs/best.txt" }
'''
"""The loss is (log10(lr) + 2)^2 + 8 / rank: least at lr = 1e-2, rank = 8, where it is 1."""

STEPS = r"""for step in 1 2 3 4 5 6 7 8 9 10; do
      printf '{{"event": "eval", "step": %s, "metrics": {{"loss": %s}}}}\\n' $step "$loss" \
        >> $(dirname {score.path})/metrics.jsonl
      sleep PAUSE
    done"""


def recipe(search: str = "trials = 5", more: str = "", goal: str = "minimize(score.loss)") -> str:
    """search: keys of the block; more: shell code between the loss and the result."""
    goals = f"  goal = {goal}\n" if goal else ""
    return f"search {{\n{goals}  {search}\n}}\n" + SHARED + SCORE.replace("MORE", more)


def write(place: Path, text: str) -> None:
    (place / "s.ft").write_text(text, encoding="utf-8")


def run(place: Path, *arguments: str) -> dict[str, Any]:
    """`ftc run` of the recipe there, as JSON, with its exit status and what it printed."""
    done = ftc("run", "s.ft", "--json", *arguments, cwd=place)
    assert "Traceback" not in done.stderr, done.stderr
    document: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return document | {"code": done.returncode, "stderr": done.stderr}


def trials(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["study"]["trials"]
    return found


def states(document: dict[str, Any]) -> list[str]:
    return [trial["state"] for trial in trials(document)]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0
