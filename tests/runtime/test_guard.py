"""What a guard decides, step by step, without an engine; how a process that computes no more ends itself."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ftdsl.runtime.watchdog as watchdog
from ftdsl.runtime import anomalies, checkpoints
from ftdsl.runtime.guard import Guard, policy_of, read_memory
from ftdsl.runtime.inject import Injector, planted

NAN = math.nan


def guard(folder: Path, **spec: Any) -> tuple[Guard, list[dict[str, Any]]]:
    entries: list[dict[str, Any]] = []
    return Guard(policy_of(spec), folder, lambda **entry: entries.append(entry)), entries


def quiet(one: Guard, steps: range, loss: float = 2.0) -> None:
    """Steps with nothing to see: a loss that falls slowly, with noise."""
    rng = random.Random(steps.start)
    for step in steps:
        assert one.judge(step, loss * (1 + rng.uniform(-0.1, 0.1)), 1.0) is None


@pytest.mark.parametrize(("loss", "norm"), [(NAN, 1.0), (math.inf, 1.0), (1.0, NAN), (1.0, math.inf)])
@pytest.mark.parametrize("action", ["warn", "skip", "stop", "rollback"])
def test_what_is_no_number_does_what_is_asked(loss: float, norm: float, action: str, tmp_path: Path) -> None:
    one, entries = guard(tmp_path, nan={"action": action})
    decision = one.judge(7, loss, norm)
    assert decision is not None and decision.action == action
    assert "at step 7" in decision.message and entries[0]["step"] == 7
    ignoring, entries = guard(tmp_path / "other", nan={"action": "ignore"})
    assert ignoring.judge(7, loss, norm) is None and not entries


def test_a_loss_scale_that_overflows_is_no_fault(tmp_path: Path) -> None:
    one = Guard(policy_of({"nan": {"action": "stop"}}), tmp_path, lambda **entry: None, scaled=True)
    assert all(one.judge(step, 2.0, math.inf) is None for step in range(1, 5))
    assert one.judge(5, 2.0, 1.0) is None
    decisions = [one.judge(step, 2.0, math.inf) for step in range(6, 40)]
    assert any(decisions), "but not for ever"
    assert one.judge(50, NAN, math.inf) is not None


@pytest.mark.parametrize(
    ("times", "warned", "acted"),
    [(1.3, False, False), (1.8, True, False), (2.2, True, False), (2.9, True, False), (3.5, True, True)],
)
def test_a_spike_warns_before_it_acts(times: float, warned: bool, acted: bool, tmp_path: Path) -> None:
    one, entries = guard(tmp_path, spike={"action": "stop"})
    quiet(one, range(1, 40))
    decision = one.judge(40, 2.0 * times, 1.0)
    assert bool(entries) is warned
    assert (decision is not None and decision.action == "stop") is acted


def test_quiet_curves_raise_no_alarm(tmp_path: Path) -> None:
    """5,000 steps of losses that fall and are noisy; and learned rows, whose losses leap between thousandths."""
    one, entries = guard(tmp_path, spike={"action": "rollback"})
    rng = random.Random(1)
    for step in range(1, 5001):
        one.judge(step, (0.5 + 5 * math.exp(-step / 800)) * math.exp(rng.gauss(0, 0.08)), 1.0)
    for step in range(5001, 5200):
        one.judge(step, 0.002 * math.exp(rng.gauss(0, 1)), 1.0)
    assert not entries


def test_a_spike_that_lasts_is_one_entry_and_then_the_new_level(tmp_path: Path) -> None:
    one, entries = guard(tmp_path, spike={"action": "warn"})
    quiet(one, range(1, 40))
    for step in range(40, 90):
        one.judge(step, 6.0, 1.0)
    assert len(entries) == 1
    one.judge(90, 20.0, 1.0)
    assert len(entries) == 2


def test_the_ladder_same_rows_then_without_them_then_a_lower_rate(tmp_path: Path) -> None:
    one, entries = guard(tmp_path, nan={"action": "rollback"}, retries=3, cut_lr=0.5)
    done = []
    for _ in range(4):
        decision = one.judge(13, NAN, 1.0)
        assert decision is not None
        done.append((decision.action, one.left_out(12), one.resumed_at(10)))
    assert [action for action, *_ in done] == ["rollback", "rollback", "rollback", "stop"]
    assert [left_out for _, left_out, _ in done[:3]] == [False, True, True]
    assert [factor for *_, factor in done[:3]] == [1.0, 1.0, 0.5]
    assert "after 3 rollbacks (without the rows of step 13" in entries[-1]["message"]


def test_the_last_rollback_does_all_that_is_left(tmp_path: Path) -> None:
    one, _ = guard(tmp_path, nan={"action": "rollback"}, retries=2, cut_lr=0.25)
    one.judge(13, NAN, 1.0)
    one.judge(13, NAN, 1.0)
    assert one.left_out(12) and one.resumed_at(10) == 0.75


def test_a_fault_that_does_not_come_again_was_transient(tmp_path: Path) -> None:
    one, entries = guard(tmp_path, nan={"action": "rollback"}, cut_lr=0.5)
    one.judge(13, NAN, 1.0)
    quiet(one, range(11, 14))
    assert [entry["action"] for entry in entries] == ["rollback", "recovered"]
    assert not one.memory.skipped and one.resumed_at(10) == 1.0


def test_each_place_has_its_budget_and_there_are_three_places(tmp_path: Path) -> None:
    one, _ = guard(tmp_path, nan={"action": "rollback"}, retries=2)
    actions = []
    for step in (10, 20, 30, 40):
        decision = one.judge(step, NAN, 1.0)
        actions.append(decision and decision.action)
        quiet(one, range(step, step + 1))
    assert actions == ["rollback"] * 3 + ["stop"]


def test_a_new_process_knows_what_was_tried(tmp_path: Path) -> None:
    """So that restarts and rollbacks do not multiply."""
    spec = {"nan": {"action": "rollback"}, "retries": 2, "cut_lr": 0.5}
    for expected in ("rollback", "rollback", "stop"):
        one, _ = guard(tmp_path, **spec)
        decision = one.judge(13, NAN, 1.0)
        assert decision is not None and decision.action == expected
    assert read_memory(tmp_path / "guard.json").skipped == [12]


def test_a_cut_is_made_once(tmp_path: Path) -> None:
    one, _ = guard(tmp_path, nan={"action": "rollback"}, retries=2, cut_lr=0.5, skip=False)
    one.judge(13, NAN, 1.0)
    one.judge(13, NAN, 1.0)
    assert one.resumed_at(10) == 0.5
    later, _ = guard(tmp_path, nan={"action": "rollback"})
    assert later.resumed_at(15) == 1.0, "a checkpoint made since has the rate that was cut"
    assert later.resumed_at(10) == 0.5, "the one it went back to has not"
    assert later.resumed_at(5) == 0.5 and later.resumed_at(10) == 1.0, "nor one before, from which on it counts then"


def test_a_file_that_is_none_of_ours_is_no_memory(tmp_path: Path) -> None:
    for content in (
        "",
        "[]",
        '{"skipped": 3}',
        '{"schema": 1, "skipped": [], "cuts": [[1]], "incidents": [], "entries": []}',
    ):
        (tmp_path / "guard.json").write_text(content, encoding="utf-8")
        assert read_memory(tmp_path / "guard.json").skipped == []


def test_warnings_are_counted_not_piled_up(tmp_path: Path) -> None:
    one, entries = guard(tmp_path, nan={"action": "warn"})
    for step in range(1, 200):
        one.judge(step, NAN, 1.0)
    assert len(entries) == 20 and "not recorded" in entries[-1]["message"]


@pytest.mark.parametrize(
    ("losses", "norms", "first", "seen"),
    [
        ([6.18] * 40, [0.0] * 40, 6.2, "gradients are zero"),
        ([2.0] * 40, [0.0] * 40, 6.2, "gradients are zero"),
        ([28.0] * 40, [5.0] * 40, 6.2, "28 at the end, and was 6.2"),
        ([6.21] * 40, [0.3] * 40, 1.1, "knows nothing"),
        ([NAN] * 40, [NAN] * 40, 2.0, "are no numbers"),
        ([2.0] * 40, [0.3] * 40, 6.2, ""),
        ([6.2] * 40, [0.3] * 40, 6.2, ""),
        ([1e-6] * 40, [0.0] * 40, 6.2, ""),
        ([0.9] * 40, [0.3] * 40, 0.7, ""),
        ([28.0] * 10, [5.0] * 10, 6.2, ""),
        ([4.4, *[6.18] * 7], [1.0, *[0.0] * 7], 4.4, "the last 4 gradients are zero"),
        ([4.4, *[6.18] * 7], [1.0] * 8, 4.4, "knows nothing"),
        ([4.4, 6.18, 6.18], [1.0, 0.0, 0.0], 4.4, "the last 2 gradients are zero"),
        ([4.4, 5.0, 5.6, 6.2, 5.9, 6.18], [1.0] * 6, 4.4, ""),
        ([2.0, NAN, NAN, NAN], [1.0, NAN, NAN, NAN], 2.0, "are no numbers"),
        ([1.0, 6.18], [1.0, 0.0], 1.0, ""),
        ([0.5, *[1.6] * 18], [1.0] * 19, 0.5, ""),
    ],
)
def test_a_training_that_went_nowhere(losses: list[float], norms: list[float], first: float, seen: str) -> None:
    found = anomalies.diverged(losses, norms, first, vocabulary=484)
    assert (seen in found.message) if seen and found else not (seen or found)


@pytest.mark.parametrize("steps", [8, 40])
def test_gradients_that_were_never_there_did_not_vanish(steps: int, tmp_path: Path) -> None:
    """Layerwise optimizers drop each gradient as soon as it is used: the norm is zero in every step of a healthy training."""
    for norms, seen in (([0.0] * steps, False), ([1.0, *[0.0] * (steps - 1)], True)):
        one, _ = guard(tmp_path, diverged={"action": "fail"})
        for step, norm in enumerate(norms, 1):
            one.judge(step, 6.0 - 3 * step / steps, norm)
        assert bool(one.ended(steps)) is seen


def test_an_evaluation_is_held_against_the_best(tmp_path: Path) -> None:
    one, entries = guard(tmp_path, eval={"action": "stop", "factor": 1.5})
    assert [one.evaluated(step, {"eval_loss": loss}) for step, loss in ((10, 2.0), (20, 1.0), (30, 1.4))] == [None] * 3
    decision = one.evaluated(40, {"eval_loss": 1.6})
    assert decision is not None and decision.action == "stop" and "1.6 times the best" in entries[-1]["message"]


@pytest.mark.parametrize("left", [0, 3, 40])
def test_a_resumed_training_is_judged_by_all_its_steps(left: int, tmp_path: Path) -> None:
    """Else `ftc run` again would call done what it refused before."""
    logs = [{"loss": 2.0 if step < 10 else 30.0, "grad_norm": 1.0} for step in range(60)] + [{"eval_loss": 1.0}]
    for action in ("stop", "ignore"):
        one, _ = guard(tmp_path, diverged={"action": action}, eval={"action": "stop"})
        one.recall(logs)
        for step in range(60, 60 + left):
            one.judge(step, 30.0, 1.0)
        decision = one.ended(60 + left)
        assert (decision is not None) is (action == "stop")
        assert one.evaluated(99, {"eval_loss": 2.5}) is not None, "the best evaluation is known"


# --- checkpoints to go back to


def checkpoint(folder: Path, step: int, *, finite: bool = True) -> Path:
    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    (place / "model.safetensors").write_bytes(bytes([step]) * 100)
    checkpoints.seal(place, finite=finite)
    return place


def test_the_newest_that_is_whole_and_finite(tmp_path: Path) -> None:
    for step in (5, 10):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 15, finite=False)
    (checkpoint(tmp_path, 20) / "model.safetensors").write_bytes(b"\0" * 100)
    target, broken = checkpoints.last_good(tmp_path)
    assert target == tmp_path / "checkpoint-10"
    assert [path.name for path, _ in broken] == ["broken-checkpoint-20"]


def test_rotation_leaves_two_that_are_sound(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 20, finite=False)
    checkpoints.rotate(tmp_path, 1, tmp_path / "checkpoint-5")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-10",
        "checkpoint-15",
        "checkpoint-20",
        "checkpoint-5",
    ]


# --- planted faults, and a process that hangs


def test_a_fault_is_planted_once_for_a_rank(tmp_path: Path) -> None:
    faults = planted("nan@13; rows@14; exit@3:0")
    first, last = (Injector(tmp_path, faults, rank, 2) for rank in (0, 1))
    assert first.scale(13) == 1 and math.isnan(last.scale(13)) and last.scale(13) == 1
    assert math.isnan(last.scale(14)) and math.isnan(last.scale(14))
    with pytest.raises(ValueError, match="no fault `flood`"):
        planted("flood@3")


HANGS = """
import sys, time
sys.path.insert(0, sys.argv[1])
from watchdog import Watchdog
dog = Watchdog(0.4, stops={stops}, report=lambda step, seconds: print(step, seconds >= 0.4, flush=True))
with dog:
    for step in range(8):
        time.sleep(0.1)
        dog.beat(step)
    time.sleep(1.5)
"""


@pytest.mark.parametrize(("stops", "status"), [(True, watchdog.STALLED), (False, 0)])
@pytest.mark.slow
def test_a_process_that_computes_no_more(stops: bool, status: int) -> None:
    folder = str(Path(watchdog.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", HANGS.format(stops=stops), folder], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "7 True\n", "")


def test_the_memory_is_json(tmp_path: Path) -> None:
    one, _ = guard(tmp_path, nan={"action": "rollback"})
    one.judge(3, NAN, math.inf)
    assert json.loads((tmp_path / "guard.json").read_bytes())["incidents"][0]["step"] == 3
