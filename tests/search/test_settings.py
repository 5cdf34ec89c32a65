"""`settings = study("…")`: another recipe takes what the best trial of a study had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftdsl.language.resolve.resolve import Options, resolve
from ftdsl.session import Session
from tests.conftest import ALPACA, ftc

COARSE = """
name = "coarse"
max_len = 64
let rate ~ log(1e-6 .. 1e-2)
data rows {{ source = file("rows.jsonl"), holdout {{ eval = 25% }} }}
sft {{
  model = hf("Qwen/Qwen3-0.6B"), data = rows, duration = 600 steps, template = "a b", to = "out/{{run}}"
  {method}
  optim {{ lr = rate / 3, schedule ~ choice(cosine, linear), warmup ~ uniform(0% .. 20%) }}
  batch {{ global ~ choice(8, 16), micro = 4 }}
  evaluate {{ data = rows.eval, every = 100 steps }}
}}
{more}
search {{ goal = {goal}, trials = 5 }}
"""
FINE = """
name = "fine"
sft {{ model = hf("Qwen/Qwen3-0.6B"), data = file("rows.jsonl"), settings = study("{folder}"), {own} }}
"""
LORA = "lora { rank ~ uniform(8 .. 128), alpha = 2 * rank, targets = all }"
VALUES = {
    "rate": "0.00031623", "sft.optim.schedule": "linear", "sft.optim.warmup": "7.5%", "sft.batch.global": "8",
    "sft.lora.rank": "113",
}  # fmt: skip


def best(place: Path, method: str = LORA, goal: str = "minimize(sft.eval_loss)", more: str = "") -> list[str]:
    """What the best trial of the coarse study had, as it is kept."""
    from ftdsl.observe.study import TrialRow
    from ftdsl.recipe.build import build
    from ftdsl.search.settings import best_settings
    from ftdsl.search.trial import TrialSource

    (place / "rows.jsonl").write_text(ALPACA * 10, encoding="utf-8")
    path = place / "coarse.ft"
    path.write_text(
        COARSE.format(method=method, goal=goal, more=more).replace('template = "a b", ', ""), encoding="utf-8"
    )
    session = Session()
    resolved = resolve(path, "coarse.ft", Options(), session)
    assert resolved is not None
    row = TrialRow(3, "complete", VALUES, {"sft.eval_loss": 1.0})
    return best_settings(TrialSource(path, Options()), build(resolved, place, session), row)


def keep(place: Path, settings: Any) -> None:
    folder = place / "runs" / "coarse" / "study"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"name": "coarse", "settings": settings}), encoding="utf-8")


def values(place: Path, own: str = "duration = 2 epochs") -> dict[str, Any]:
    path = place / "fine.ft"
    path.write_text(FINE.format(folder="runs/coarse/study", own=own), encoding="utf-8")
    session = Session()
    resolved = resolve(path, "fine.ft", Options(), session)
    assert resolved is not None and not session.sink.failed, [problem.message for problem in session.sink]
    return {".".join(path): value.data for path, value in resolved.stages[0].values.items()}


def test_the_settings_of_the_best_trial(tmp_path: Path) -> None:
    keep(tmp_path, best(tmp_path))
    found = values(tmp_path)
    assert found["optim.lr"] == pytest.approx(0.00031623 / 3, rel=1e-12)
    assert (found["lora.rank"], found["lora.alpha"], found["batch.global"]) == (113, 226, 8)
    assert found["optim.warmup"].number == pytest.approx(0.075) and found["optim.schedule"].name == "linear"
    assert found["duration"].unit == "epochs", "what the stage says itself wins"
    assert not {"to", "evaluate.data", "max_len"} & found.keys(), "what its own file, or where it ran, is about"


@pytest.mark.parametrize("method", ["full {}", "lora {}"])
def test_a_method_without_settings(method: str, tmp_path: Path) -> None:
    assert method in best(tmp_path, method)


@pytest.mark.parametrize("goal", ["minimize(sft.eval_loss)", "maximize(exam.rouge_l)"])
def test_the_training_behind_the_goal(goal: str, tmp_path: Path) -> None:
    exam = "eval exam from sft { data = rows.eval, metrics = [rouge] }"
    assert "lora.rank = 113" in best(tmp_path, goal=goal, more=exam)


def test_a_goal_that_is_an_evaluation_within_the_recipe(tmp_path: Path) -> None:
    exam = (
        "eval exam from sft { data = rows.eval, metrics = [rouge] }\nsft final { settings = search.best, data = rows }"
    )
    best(tmp_path, goal="maximize(exam.rouge_l)", more=exam)
    from ftdsl.language.resolve.resolve import Trial

    trial = Options(trial=Trial("trial=3", VALUES))
    resolved = resolve(tmp_path / "coarse.ft", "coarse.ft", trial, Session())
    assert resolved is not None
    final = next(stage for stage in resolved.stages if stage.name == "final")
    assert final.values[("lora", "rank")].data == 113


@pytest.mark.parametrize(
    ("settings", "message"),
    [(None, "there is no study in `runs/coarse/study`"), ([], "has not ended with the best trial of a training")],
    ids=["missing", "not ended"],
)
def test_a_study_that_is_not_there(settings: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA * 10, encoding="utf-8")
    (tmp_path / "fine.ft").write_text(
        FINE.format(folder="runs/coarse/study", own="duration = 1 epoch"), encoding="utf-8"
    )
    if settings is not None:
        keep(tmp_path, settings)
    done = ftc("check", "fine.ft", cwd=tmp_path)
    shown = done.stdout + done.stderr
    assert done.returncode == 1 and shown.count("FT098") == 1
    assert message in shown and "fine.ft:3:" in shown


def test_a_value_that_is_wrong_now_is_shown_where_it_was_kept(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA * 10, encoding="utf-8")
    keep(tmp_path, ["lora.rnk = 8"])
    (tmp_path / "fine.ft").write_text(
        FINE.format(folder="runs/coarse/study", own="duration = 1 epoch"), encoding="utf-8"
    )
    done = ftc("check", "fine.ft", cwd=tmp_path)
    assert "FT001" in done.stderr + done.stdout and "runs/coarse/study/study.json:1" in done.stderr + done.stdout
