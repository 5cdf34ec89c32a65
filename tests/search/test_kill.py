"""A study outlives its driver: killed at any moment, nothing of it is lost, and nothing is counted twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.control import supervisor_of
from ftdsl.search.driver import PAUSE
from tests.conftest import ftc, until
from tests.run.test_orphans import living
from tests.search import toy
from tests.search.toy import lines, recipe, run, states, trials, write

STEPS = toy.STEPS.replace("PAUSE", "0.1")
SLOW = recipe("trials = 6, sampler = random", STEPS)


def begin(place: Path, *arguments: str) -> subprocess.Popen[str]:
    """A driver in the foreground: killing it kills no watcher in its place."""
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "s.ft", "--plain", *arguments]
    return subprocess.Popen(
        command, cwd=place, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def stored(place: Path) -> list[Any]:
    import optuna

    url = f"sqlite:///{place / 'runs' / 's' / 'study' / 'study.db'}"
    (name,) = optuna.get_all_study_names(url)
    return optuna.load_study(study_name=name, storage=url).get_trials()


def check(place: Path, document: dict[str, Any], count: int) -> None:
    assert document["code"] == 0, document["stderr"]
    assert states(document).count("complete") == count, states(document)
    numbers = [trial["number"] for trial in trials(document)]
    assert len(numbers) == len(set(numbers)) == count
    assert lines(place / "rows.log") == 1
    assert not living(place), "no orphan"
    assert {trial.state.name for trial in stored(place)} <= {"COMPLETE", "FAIL"}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
@pytest.mark.slow
def test_kill_9_of_the_driver(seed: int, tmp_path: Path) -> None:
    """Five kills at random moments of a study of six trials (20 over the four seeds)."""
    write(tmp_path, SLOW)
    rng = random.Random(seed)
    for _ in range(5):
        driver = begin(tmp_path, "--foreground")
        time.sleep(rng.uniform(0.3, 3.5))
        driver.kill()
        driver.communicate(timeout=20)
    done = run(tmp_path)
    check(tmp_path, done, 6)
    starts = lines(tmp_path / "starts.log")
    assert 6 <= starts <= 6 + 5, "a stage that lived on was joined, not started again"


@pytest.mark.slow
def test_a_stage_that_lives_on_is_joined(tmp_path: Path) -> None:
    gate = "while [ ! -e inputs/go ]; do sleep 0.1; done"
    write(tmp_path, recipe("trials = 1", gate))
    driver = begin(tmp_path, "--foreground")
    until(lambda: lines(tmp_path / "starts.log"), "the stage has started")
    driver.kill()
    driver.communicate(timeout=20)
    assert living(tmp_path)
    second = begin(tmp_path)
    until(lambda: supervisor_of(tmp_path / "runs" / "s"), "a second driver")
    time.sleep(3 * PAUSE)
    (tmp_path / "go").touch()
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert "trial 0: was left unfinished, and is continued" in err
    assert lines(tmp_path / "starts.log") == 1
    check(tmp_path, run(tmp_path), 1)


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_with_what_is_known(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 30, sampler = random", STEPS))
    driver = begin(tmp_path)
    until(lambda: lines(tmp_path / "starts.log") >= 2, "a second trial")
    os.killpg(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 130, err
    assert "Traceback" not in err and "done" in out
    assert not living(tmp_path)
    shown = json.loads(ftc("search", "show", "s.ft", "--json", cwd=tmp_path).stdout)
    assert [trial["state"] for trial in shown["trials"]].count("stopped") == 1
    write(tmp_path, recipe("trials = 3, sampler = random", STEPS))
    check(tmp_path, run(tmp_path), 3)


@pytest.mark.slow
def test_cancelled_and_watched_from_another_terminal(tmp_path: Path) -> None:
    write(tmp_path, recipe("trials = 30, sampler = random", STEPS))
    assert ftc("run", "s.ft", "--detach", cwd=tmp_path).returncode == 0
    until(lambda: lines(tmp_path / "starts.log") >= 2, "a second trial")
    busy = ftc("run", "s.ft", cwd=tmp_path)
    assert busy.returncode == 1 and "runs `s` already" in busy.stderr
    assert "running as process" in ftc("status", "s.ft", cwd=tmp_path).stdout
    assert ftc("cancel", "s.ft", cwd=tmp_path).returncode == 0
    assert not living(tmp_path) and not supervisor_of(tmp_path / "runs" / "s")


@pytest.mark.slow
def test_a_pruned_trial_is_stopped_and_costs_no_more(tmp_path: Path) -> None:
    """Losses are flat from the first step: what is worse than the median of those before is stopped at once."""
    text = recipe("trials = 9, sampler = random, pruner = median(after = 2 steps, startup = 3)", STEPS)
    write(tmp_path, text)
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    pruned = [trial for trial in trials(done) if trial["state"] == "pruned"]
    complete = [trial for trial in trials(done) if trial["state"] == "complete"]
    assert pruned and len(pruned) + len(complete) == 9
    assert all(trial["step"] < 10 for trial in pruned)
    assert not living(tmp_path)
    best = min(trial["values"]["score.loss"] for trial in complete)
    assert all(trial["last"] > best for trial in pruned)
    assert "trials are pruned by score" in done["stderr"]


@pytest.mark.parametrize(
    "pruner", ["asha(after = 1 steps, reduction = 2)", "hyperband(after = 1 steps)", "patient(patience = 3)"]
)
@pytest.mark.slow
def test_other_pruners(pruner: str, tmp_path: Path) -> None:
    steps = STEPS.replace("0.1", "0.05")
    if "patient" in pruner:
        steps = steps.replace('$step "$loss"', "$step $step")  # from bad to worse
    write(tmp_path, recipe(f"trials = 6, sampler = random, pruner = {pruner}", steps))
    done = run(tmp_path)
    assert states(done).count("pruned") + states(done).count("complete") == 6, done["stderr"]
    if "patient" in pruner:
        assert "pruned" in states(done), "it gets worse for three reports"
