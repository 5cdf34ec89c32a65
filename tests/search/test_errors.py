"""What is wrong with a search is said where it is written, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import compile_recipe
from ftdsl.search.run import trials_at_once
from ftdsl.session import Session
from tests.conftest import NOWHERE, ROWS, Outcome, ftc, small
from tests.search.toy import recipe, run, write

G = "goal = minimize(sft.eval_loss), trials = 5"
BARE = "goal = minimize(eval_loss), trials = 5"
TWO = "goal = [minimize(sft.eval_loss), minimize(sft.seconds)], trials = 5"
SAME = "[minimize(sft.eval_loss), minimize(sft.eval_loss)]"
BOTH_WAYS = "[minimize(sft.eval_loss), highest(sft.eval_loss)]"
E = "evaluate { data = 25% }"


def one(space: str, search: str = G, more: str = E, file: str = "") -> str:
    return small(f"{more}\n  {space}", f"search {{ {search} }}\n{file}")


CASES = [
    (one("optim { lr ~ log(1e-4 .. 1e-4) }"), "FT087", "1e-4 .. 1e-4", "lr = 1e-4"),
    (one("optim { lr ~ log(1e-4 .. 1e-6) }"), "FT087", "1e-4 .. 1e-6", "1e-6 .. 1e-4"),
    (one("optim { lr ~ log(0 .. 1e-4) }"), "FT088", "0", "uniform"),
    (one("lora { rank ~ choice(8) }"), "FT087", "choice(8)", "rank = 8"),
    (one("lora { rank ~ choice() }"), "FT087", "choice()", "choice("),
    (one("lora { rank ~ choice(8, 16, 8) }"), "FT006", "8", ""),
    (one("lora { rank ~ [8, 16] }"), "FT083", "[8, 16]", "choice(8, 16)"),
    (one("lora { rank ~ 8 .. 16 }"), "FT083", "8 .. 16", "uniform(8 .. 16)"),
    (one("optim { lr ~ log(1e-6, 1e-4) }"), "FT010", "log(1e-6, 1e-4)", "log(1e-6 .. 1e-4)"),
    (one("optim { warmup ~ uniform(1% .. 20 steps) }"), "FT063", "1% .. 20 steps", "same unit"),
    (one("lora { dropout ~ uniform(0% .. 150%) }"), "FT003", "150%", ""),
    (one("lora { rank ~ uniform(0 .. 64) }"), "FT003", "0", ""),
    (one("lora { rank ~ choice(8, 0.5) }"), "FT060", "0.5", ""),
    (one("lora { rank ~ uniform(8 .. 64, step = 100) }"), "FT003", "step = 100", ""),
    (one("lora { rank ~ uniform(8 .. 64, first = 100) }"), "FT003", "100", ""),
    (one("optim { lr ~ log(1e-6 .. 1e-4, base = 2) }"), "FT016", "base = 2", "step, first"),
    (one("optim { schedule ~ choice(cosine, cosin) }"), "FT002", "cosin", ""),
    (one("seed ~ choice(1, 2)", "goal = minimize(sft.eval_los), trials = 5"), "FT090", "minimize(sft.eval_los)", "eval_loss"),
    (one("seed ~ choice(1, 2)", BARE), "FT090", "minimize(eval_loss)", "minimize(sft.eval_loss)"),
    (one("seed ~ choice(1, 2)", "goal = minimize(stf.eval_loss), trials = 5"), "FT090", "minimize(stf.eval_loss)", "sft"),
    (one("seed ~ choice(1, 2)", more=""), "FT090", "minimize(sft.eval_loss)", "evaluate { data = 5% }"),
    (one("seed ~ choice(1, 2)", "trials = 5"), "FT011", "search", "goal ="),
    (one("seed ~ choice(1, 2)", "goal = minimize(sft.eval_loss)"), "FT011", "search", "trials = 20"),
    (one("seed ~ choice(1, 2)", TWO + ", pruner = median"), "FT091", "median", "none"),
    (one("seed ~ choice(1, 2)", G + ", sampler = cmaes"), "FT093", "cmaes", "tpe"),
    (one("seed ~ choice(1, 2)", G + ', storage = "mysql://host/db"'), "FT094", '"mysql://host/db"', "postgresql"),
    (one('seed ~ choice(1, 2)\n  to = "out"'), "FT082", '"out"', "{run}"),
    (one("lora { rank ~ uniform(8.5 .. 64.5) }"), "FT060", "8.5", "whole"),
    (one("lora { rank ~ log(8 .. 64.5) }"), "FT060", "64.5", "whole"),
    (one("lora { rank ~ uniform(8 .. 64, step = 0.5) }"), "FT060", "0.5", "whole"),
    (one("lora { rank ~ uniform(8 .. 64, step = 8, first = 9) }"), "FT003", "9", "8 and so many steps of 8"),
    (one("optim { lr ~ uniform(0.1 .. 0.5, step = 0.1, first = 0.25) }"), "FT003", "0.25", "steps of 0.1"),
    (one("seed ~ uniform(1 .. 1000000000, step = 1)", "goal = minimize(sft.eval_loss), sampler = grid"), "FT093", "grid", "tpe"),
    (one("neftune ~ uniform(1 .. 10), optim { lr ~ log(1e-6 .. 1e-4) }", G + ", sampler = grid(points = 1000)"),
     "FT093", "grid(points = 1000)", "points"),
    (one("seed ~ choice(1, 2)", "goal = [], trials = 5"), "FT011", "[]", "goal ="),
    (one("seed ~ choice(1, 2)", f"goal = {SAME}, trials = 5"), "FT006", SAME, "once"),
    (one("seed ~ choice(1, 2)", f"goal = {BOTH_WAYS}, trials = 5"), "FT006", BOTH_WAYS, "once"),
    (one("seed ~ choice(1, 2)", G, file="search { trials = 7 }"), "FT006", "search", "one block"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code", "span", "help"), CASES, ids=lambda value: value[:40] if isinstance(value, str) else ""
)
def test_at_its_line(text: str, code: str, span: str, help: str, checked: object) -> None:
    outcome: Outcome = checked(text, ROWS)  # type: ignore[operator]
    problem = outcome.only(code)
    assert problem.span is not None and problem.span.text == span
    assert help in problem.help or help in problem.label


def test_a_dimension_that_no_goal_depends_on(checked: object) -> None:
    other = (
        'sft more { model = hf("Qwen/Qwen3-0.6B"), data = file("rows.jsonl"), duration = 1 epoch, seed ~ choice(3, 4) }'
    )
    outcome: Outcome = checked(one("seed ~ choice(1, 2)", file=other), ROWS)  # type: ignore[operator]
    assert outcome.only("FT092").span is not None


RIGHT = [
    "optim { lr ~ log(1e-6 .. 1e-4), warmup ~ uniform(1% .. 20%) }",
    "optim { warmup ~ uniform(0 .. 20%) }",
    "lora { rank ~ choice(8, 16), alpha = 2 * rank }",
    "lora { rank ~ uniform(8 .. 128, step = 8, first = 64) }",
    "optim { schedule ~ choice(cosine, linear) }",
    "lora { init ~ choice(pissa(), pissa(convert = true)) }",
    "batch { global ~ choice(8, 16) }",
    "neftune ~ uniform(1 .. 10)",
]


@pytest.mark.parametrize("space", RIGHT)
def test_what_is_right(space: str, checked: object) -> None:
    outcome: Outcome = checked(one(space), ROWS)  # type: ignore[operator]
    assert outcome.codes == [], [problem.message for problem in outcome.found]


EXAM = """eval exam from sft {{ {keys} }}"""
SCORER = {"score.py": "def exact(prediction, reference):\n    return 1\n", "mine.yaml": "task: mine\n"}
MEASURED = [
    ("tasks = [gsm8k]", "gsm8k"),
    ("tasks = [gsm8k(shots = 5)]", "gsm8k_stderr"),
    ('tasks = [file("mine.yaml")]', "mine"),
    ('data = file("rows.jsonl"), metrics = [file("score.py:exact")]', "exact"),
    ('data = file("rows.jsonl"), metrics = [file("score.py:exact")]', "exact_stderr"),
    ('data = file("rows.jsonl"), metrics = [rouge], tasks = [gsm8k]', "rouge_l"),
    ('data = file("rows.jsonl"), metrics = [rouge], tasks = [gsm8k]', "gsm8k"),
    ('data = file("rows.jsonl")', "perplexity"),
    ("tasks = [gsm8k]", "seconds"),
]
NOT_MEASURED = [
    ("tasks = [gsm8k]", "loss"),
    ("tasks = [gsm8k]", "mmlu"),
    ('data = file("rows.jsonl"), metrics = [rouge]', "loss"),
    ('data = file("rows.jsonl"), metrics = [file("score.py:exact")]', "file"),
]


@pytest.mark.parametrize(("keys", "metric"), [*MEASURED, *NOT_MEASURED])
def test_a_goal_is_what_a_stage_measures(keys: str, metric: str, checked: object) -> None:
    text = one("seed ~ choice(1, 2)", f"goal = maximize(exam.{metric}), trials = 5", file=EXAM.format(keys=keys))
    outcome: Outcome = checked(text, ROWS | SCORER)  # type: ignore[operator]
    if (keys, metric) in MEASURED:
        assert outcome.codes == [], [problem.message for problem in outcome.found]
    else:
        assert f"`exam` gives no `{metric}`" in outcome.only("FT090").message


@pytest.mark.parametrize(
    ("duration", "after", "warned"),
    [("20 steps", 20, True), ("20 steps", 100, True), ("20 steps", 19, False), ("1 epoch", 100, False)],
)
@pytest.mark.parametrize("pruner", ["asha", "median", "hyperband", "patient"])
def test_a_pruner_that_begins_too_late(pruner: str, duration: str, after: int, warned: bool, checked: object) -> None:
    text = one("seed ~ choice(1, 2)", f"{G}, pruner = {pruner}(after = {after} steps)")
    outcome: Outcome = checked(text.replace("1 epoch", duration), ROWS)  # type: ignore[operator]
    assert any("stops nothing" in problem.message for problem in outcome.found) == warned
    assert not set(outcome.codes) - {"FT225"}


@pytest.mark.parametrize(("gpus", "at_once"), [("0", 1), ("0,1", 2), ("0,1,2", 3), ("", 4)])
def test_trials_have_gpus_of_their_own(
    gpus: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trainings that were planned for a whole card are not put on one; without a GPU nothing is known."""
    text = one("seed ~ choice(1, 2)", G + ", parallel = 4").replace("gpu = none", "gpu = h100(80GB)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    (tmp_path / "rows.jsonl").write_text(ROWS["rows.jsonl"], encoding="utf-8")
    (tmp_path / "s.ft").write_text(text, encoding="utf-8")
    base = compile_recipe(tmp_path / "s.ft", Options(), Session(env=NOWHERE), study=True)
    assert base is not None
    notes: list[str] = []
    assert trials_at_once(base, notes.append) == at_once
    assert bool(notes) == (gpus != "")


@pytest.mark.slow
def test_a_search_is_not_compiled(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS["rows.jsonl"], encoding="utf-8")
    (tmp_path / "s.ft").write_text(one("optim { lr ~ log(1e-6 .. 1e-4) }"), encoding="utf-8")
    done = ftc("compile", "s.ft", cwd=tmp_path)
    assert done.returncode == 1 and "FT084" in done.stderr and "--set sft.optim.lr=" in done.stderr
    assert ftc("compile", "s.ft", "--set", "sft.optim.lr=1e-5", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:9/none", "sqlite:////proc/none/x.db"])
@pytest.mark.slow
def test_a_storage_that_is_not_reached(url: str, tmp_path: Path) -> None:
    write(tmp_path, recipe(f'trials = 2, storage = "{url}"'))
    done = run(tmp_path)
    assert done["code"] == 1
    assert [problem["code"] for problem in done["problems"]] == ["FT096"], done
    assert not (tmp_path / "starts.log").exists()


URL = "postgresql://me:hunter2secret@127.0.0.1:9/none"


@pytest.mark.parametrize("storage", ['secret("STUDY_URL")', 'env("STUDY_URL")', f'"{URL}"'])
@pytest.mark.slow
def test_a_password_is_not_shown(storage: str, tmp_path: Path) -> None:
    write(tmp_path, recipe(f"trials = 2, storage = {storage}"))
    done = ftc("run", "s.ft", "--plain", cwd=tmp_path, STUDY_URL=URL)
    assert done.returncode == 1
    assert ("FT096" in done.stderr) is storage.startswith("secret"), "tried, or refused"
    kept = [path.name for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert kept == (["s.ft"] if URL in storage else [])
    if URL not in storage:
        assert "hunter2" not in done.stdout + done.stderr


def test_a_storage_that_is_not_set(tmp_path: Path) -> None:
    write(tmp_path, recipe('trials = 2, storage = secret("NOT_SET_ANYWHERE")'))
    (problem,) = run(tmp_path)["problems"]
    assert problem["code"] == "FT096" and "NOT_SET_ANYWHERE is not set" in problem["message"]
