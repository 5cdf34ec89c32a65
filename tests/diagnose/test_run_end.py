"""The end of `ftc run`: what judges find in the curves of its stages, with the next step; which run of a sweep is best."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftdsl.runtime import events
from tests.command import Ended
from tests.conftest import ftc
from tests.diagnose.runs import kept, metrics

STAGE = 'shell {name} {{ run = "cat inputs/{curve}.jsonl >> {{stage.path}}/../metrics.jsonl" }}\n'


def run_of(folder: Path, *curves: str, arguments: tuple[str, ...] = ()) -> Ended:
    for at, curve in enumerate(curves):
        (folder / f"curve{at}.jsonl").write_text(metrics(kept()[curve]), encoding="utf-8")
    text = "".join(STAGE.format(name=f"s{at}", curve=f"curve{at}") for at in range(len(curves)))
    (folder / "r.ft").write_text(text.replace("{stage.path}/..", "$(dirname {stage.path})"), encoding="utf-8")
    return ftc("run", "r.ft", *arguments, cwd=folder)


@pytest.mark.parametrize(
    ("curve", "code"),
    [("overfit/1.json", "FD204"), ("nan/2.json", "FD103"), ("spike_rows/3.json", "FD301"), ("lr_high/1.json", "FD105")],
)
@pytest.mark.slow
def test_a_run_ends_with_what_its_curves_show(curve: str, code: str, tmp_path: Path) -> None:
    done = run_of(tmp_path, curve, "healthy/1.json")
    end = done.stderr[done.stderr.index("what its curves show") :]
    assert f"[{code} " in end and "= help: " in end and "s1: what" not in done.stderr, "of the healthy one nothing"
    step = next(line for line in end.splitlines() if line.startswith("next: ftc diagnose "))
    again = ftc(*step.removeprefix("next: ftc ").split(" ")[:2], cwd=tmp_path)
    assert again.returncode == 1 and code in again.stdout, "what is offered shows it"
    assert "what its curves show" not in ftc("run", "r.ft", cwd=tmp_path).stderr, "once: then it is done before"


def test_it_is_data_too(tmp_path: Path) -> None:
    done = run_of(tmp_path, "overfit/1.json", "healthy/1.json", arguments=("--json",))
    diagnoses = json.loads(done.stdout)["diagnoses"]
    assert [finding["code"] for finding in diagnoses["s0"]] == ["FD204"] and set(diagnoses) == {"s0"}


# --- sweeps

SWEEP = """
shell train {{
  env {{ {axis} in ["a", "b", "c"] }}
  run = "to=$(dirname {{stage.path}}); cp inputs/${axis}.json $to/result.json; cp inputs/${axis}.jsonl $to/metrics.jsonl"
}}
"""


def swept(
    folder: Path, results: dict[str, dict[str, float]], axis: str = "A", kind: str = "model"
) -> tuple[list[list[str]], str]:
    """The rows of the sweep's table, and what is printed after it."""
    for name, values in results.items():
        document = {"kind": kind, "path": f"x{name}", "metrics": values, "schema": 1, "samples": []}
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
        last, before = values.get("last_loss", 1.0), values.get("before", 0.0)
        curve = [last + (step < 30) * before for step in range(1, 31)]
        lines = [events.made("step", step=step, total_steps=30, loss=loss) for step, loss in enumerate(curve, 1)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "s.ft").write_text(SWEEP.format(axis=axis), encoding="utf-8")
    done = ftc("run", "s.ft", cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    head = next(at for at, line in enumerate(lines) if line.startswith("train ") and f" {axis} " in line)
    return [line.split() for line in lines[head + 1 : head + 4]], "\n".join(lines[head + 4 :]) + done.stderr


def losses(**values: float) -> dict[str, dict[str, float]]:
    return {name: {"first_loss": 5.0, "last_loss": value, "train_loss": value + 1} for name, value in values.items()}


def test_without_an_evaluation_no_run_is_the_best(tmp_path: Path) -> None:
    """Ordered by the loss of the last steps, as that of one step is chance; the mean over the training says even less."""
    results = losses(a=2.0, b=1.0, c=1.5)
    results["b"] |= {"before": 3.0}  # one step is low by chance
    results["c"] |= {"train_loss": 9.0}
    rows, after = swept(tmp_path, results)
    assert [row[0] for row in rows] == ["c", "a", "b"]
    assert "no run is called the best" in after and "a folder for each run" in after


@pytest.mark.parametrize(
    ("results", "order", "kind"),
    [
        ({name: {"last_loss": 1.0 / rank, "eval_loss": float(rank)} for rank, name in enumerate("cab", 1)}, "cab", "model"),
        ({name: {"loss": float(rank)} for rank, name in enumerate("bca", 1)}, "bca", "metrics"),
        ({name: {"last_loss": 1.0, "reward": -float(rank)} for rank, name in enumerate("bac", 1)}, "bac", "model"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_score_that_compares_says_which_is_the_best(
    results: dict[str, dict[str, float]], order: str, kind: str, tmp_path: Path
) -> None:
    rows, after = swept(tmp_path, results, kind=kind)
    assert [row[1] if row[0] == "best" else row[0] for row in rows] == list(order) and rows[0][0] == "best"
    assert kind != "model" or ("the result is in " in after and f"/x{order[0]}" in after), (
        "that of the best, not of the last"
    )


@pytest.mark.slow
def test_only_some_runs_evaluated_is_no_comparison(tmp_path: Path) -> None:
    results = losses(a=2.0, b=1.0, c=1.5)
    results["a"]["eval_loss"] = 0.1
    assert "no run is called the best" in swept(tmp_path, results)[1]


@pytest.mark.parametrize("evaluated", [True, False])
@pytest.mark.slow
def test_an_axis_that_changes_the_loss_orders_nothing(evaluated: bool, tmp_path: Path) -> None:
    results = losses(a=2.0, b=1.0, c=1.5)
    for values in results.values():
        values |= {"eval_loss": values["last_loss"]} if evaluated else {}
    rows, after = swept(tmp_path, results, axis="beta")
    assert [row[0] for row in rows] == ["a", "b", "c"] and "`beta` changes what the loss is" in after


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_last(tmp_path: Path) -> None:
    results = {"a": {"eval_loss": float("nan")}, "b": {"eval_loss": 2.0}, "c": {"eval_loss": 1.0}}
    assert [row[-3] for row in swept(tmp_path, results)[0]][2] == "nan"
