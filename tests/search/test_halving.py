"""ASHA pauses trials at its rungs and continues the best of them: under their numbers, in their folders, counted once."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.search import toy
from tests.search.test_kill import begin, stored
from tests.search.toy import lines, recipe, run, states, trials, write

STEPS = toy.STEPS.replace("PAUSE", "0.3")  # so slow that a busy machine sees it run
ASHA = "sampler = random, pruner = asha(after = 2 steps, reduction = 2, resume = true)"
HOST = "here"


def trial(number: int, values: dict[int, float], state: str = "PRUNED", **attributes: Any) -> Any:
    from optuna.trial import TrialState, create_trial

    known = {"steps": 27, "worker": HOST, **attributes}
    made = create_trial(
        state=TrialState[state],
        intermediate_values=values,
        user_attrs=known,
        values=[0.0] if state == "COMPLETE" else None,
    )
    made.number = number
    return made


def halving(**more: Any) -> Any:
    from ftdsl.search.halving import Halving

    return Halving(**{"first": 3, "reduction": 3, **more})


def test_rungs_end_before_the_training() -> None:
    assert halving().rungs(27) == [3, 9]
    assert halving().rungs(28) == [3, 9, 27]
    assert halving(first=0).rungs(90) == [10, 30]
    assert halving().rungs(3) == halving().rungs(0) == []


def test_a_trial_goes_on_where_it_is_in_the_best_third() -> None:
    others = [trial(at, {3: float(at)}) for at in range(5)]
    assert halving().goes_on(trial(5, {3: 0.5}, "RUNNING"), others)
    assert not halving().goes_on(trial(5, {3: 1.5}, "RUNNING"), others)
    assert not halving(more=True).goes_on(trial(5, {3: 0.5}, "RUNNING"), others)
    assert not halving().goes_on(trial(0, {3: 0.0}, "RUNNING"), []), "a third of one is none"
    assert not halving().goes_on(trial(5, {3: float("nan")}, "RUNNING"), others)


def test_it_is_judged_by_its_first_report_at_a_rung_alone() -> None:
    others = [trial(at, {3: float(at)}) for at in range(5)]
    assert halving().goes_on(trial(5, {1: 9.0, 2: 9.0}, "RUNNING"), others), "before the first rung"
    assert halving().goes_on(trial(5, {3: 9.0, 6: 9.0}, "RUNNING"), others), "between rungs"
    assert not halving().goes_on(trial(5, {3: 0.5, 9: 9.0}, "RUNNING"), others), "the first at the second rung"


def test_the_best_of_those_that_came_furthest_is_next() -> None:
    paused = [trial(at, {3: float(at)}) for at in range(6)]
    found = halving().next(paused, HOST)
    assert found.number == 0
    further = [trial(6 + at, {3: float(at), 9: 5.0 + at}, continues=at) for at in range(2)]
    assert halving().next([*further, *paused[2:]], HOST) is None, (
        "two of six have been continued, and a third of two is none"
    )
    assert halving().next([*further, *paused[2:]], HOST, last=True).number == 6, "else no trial would ever end"
    assert halving().next(paused, "elsewhere") is None, "its checkpoints are there"


def test_what_failed_holds_no_place() -> None:
    lost = [trial(0, {3: 0.0}, "FAIL"), *(trial(at, {3: float(at)}) for at in range(1, 4))]
    assert halving().next(lost, HOST).number == 1


def test_the_newest_record_of_a_trial_counts() -> None:
    from ftdsl.search.halving import newest_records, number_of

    records = [trial(0, {3: 1.0}), trial(1, {3: 2.0}), trial(2, {3: 1.0, 9: 1.0}, "RUNNING", continues=0)]
    assert [(number_of(one), one.number) for one in newest_records(records)] == [(0, 2), (1, 1)]


@pytest.mark.slow
def test_paused_trials_are_continued(tmp_path: Path) -> None:
    write(tmp_path, recipe(f"trials = 6, {ASHA}", STEPS))
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    assert "trials are paused and continued by score" in done["stderr"]
    found = trials(done)
    assert len(found) == len({one["number"] for one in found}) == 6
    assert set(states(done)) == {"complete", "pruned"}
    best = next(one for one in found if one["number"] == done["study"]["best"])
    assert best["values"]["score.loss"] == min(one["last"] for one in found), "losses are flat: no trial is better"
    assert "among the best at step 2, and is continued" in done["stderr"]
    assert len(list((tmp_path / "runs" / "s" / "study").glob("[0-9]*"))) == 6, "in its own folder"
    continued = done["stderr"].count("and is continued")
    assert lines(tmp_path / "starts.log") == 6 + continued
    assert len(stored(tmp_path)) == 6 + continued, "a record more in Optuna's storage for each"
    again = run(tmp_path)
    assert trials(again) == found


@pytest.mark.slow
def test_a_grid_is_all_of_it(tmp_path: Path) -> None:
    """What is continued takes no point of the grid."""
    search = ASHA.replace("random", "grid(points = 3)").replace("after = 2", "after = 1")
    write(tmp_path, recipe(search, STEPS))
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    points = [tuple(sorted(one["parameters"].items())) for one in trials(done)]
    assert len(points) == len(set(points)) == 6 and "and is continued" in done["stderr"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kill_9_while_trials_are_paused_and_continued(seed: int, tmp_path: Path) -> None:
    write(tmp_path, recipe(f"trials = 6, {ASHA}", STEPS))
    rng = random.Random(seed)
    for _ in range(5):
        driver = begin(tmp_path, "--foreground")
        time.sleep(rng.uniform(0.5, 3.5))
        driver.kill()
        driver.communicate(timeout=20)
    done = run(tmp_path)
    assert done["code"] == 0, done["stderr"]
    assert len({one["number"] for one in trials(done)}) == len(trials(done)) == 6
    assert set(states(done)) == {"complete", "pruned"}
    assert {record.state.name for record in stored(tmp_path)} <= {"COMPLETE", "PRUNED", "FAIL"}
    assert os.uname().nodename in {record.user_attrs.get("worker") for record in stored(tmp_path)}


@pytest.mark.slow
def test_without_checkpoints_they_are_pruned_for_good(tmp_path: Path) -> None:
    write(tmp_path, recipe(f"trials = 4, {ASHA}".replace(", resume = true", ""), STEPS))
    done = run(tmp_path)
    assert "trials are pruned by score" in done["stderr"] and "and is continued" not in done["stderr"]
    assert lines(tmp_path / "starts.log") == 4
