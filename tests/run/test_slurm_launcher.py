"""What needs no Slurm of the launcher for it: what waits for what, what sbatch's words mean, what is known without an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftdsl.run.launchers import slurm_commands as commands
from ftdsl.run.launchers.gathered import Gathered
from ftdsl.run.launchers.launcher import Handle, LaunchError, NotAnsweredError, QueueLauncher, Task
from ftdsl.run.launchers.slurm import SlurmLauncher

FAILED = "sbatch: error: Batch job submission failed: "
NO_SLURM = {"PATH": "/nowhere"}
SBATCH = """#!/bin/bash
# Stands in for sbatch: keeps what it was called with, and numbers the jobs.
number=$(($(cat "$LOG.n" 2>/dev/null || echo 10) + 1))
echo "$number" > "$LOG.n"
echo "$*" >> "$LOG"
echo "$number"
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run folder with a single stage, two arrays of three, and an sbatch that writes down its arguments."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH, encoding="utf-8")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    scripts = [
        {"script": "rows.sbatch", "folders": ["10-rows"], "at_once": None},
        {"script": "sft.sbatch", "folders": ["20-sft", "30-sft", "40-sft"], "at_once": 2},
        {"script": "exam.sbatch", "folders": ["50-exam", "60-exam", "70-exam"], "at_once": None},
    ]
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "jobs.json").write_text(json.dumps({"schema": 1, "scripts": scripts}), encoding="utf-8")
    for row in scripts:
        for folder in row["folders"] or ():
            (tmp_path / str(folder)).mkdir()
    yield tmp_path


def submit(run: Path, **after: list[Handle]) -> list[Handle]:
    """Hand stages over, in this order: name with `_` for `-`, and the starts that it waits for."""
    env = {"PATH": f"{run}/bin:/usr/bin:/bin", "LOG": str(run / "log"), "FTC_STAGE_KEY": "k"}
    tasks = [Task(run, name[1:].replace("_", "-"), env, after=tuple(needs)) for name, needs in after.items()]
    handles = SlurmLauncher(env).submit_together(tasks)
    assert all(isinstance(handle, Handle) for handle in handles), handles
    return [handle for handle in handles if isinstance(handle, Handle)]


def calls(run: Path) -> list[str]:
    return (run / "log").read_text(encoding="utf-8").splitlines()


def test_an_axis_is_one_array_and_the_next_waits_point_by_point(run: Path) -> None:
    (rows,) = submit(run, _10_rows=[])
    points = submit(run, _20_sft=[rows], _30_sft=[rows], _40_sft=[rows])
    assert [handle.id for handle in points] == ["12_0", "12_1", "12_2"]
    submit(run, _50_exam=[points[0], rows], _60_exam=[points[1], rows], _70_exam=[points[2], rows])
    assert calls(run) == [
        "--parsable slurm/rows.sbatch",
        "--parsable --dependency=afterok:11 --kill-on-invalid-dep=yes --array=0,1,2%2 slurm/sft.sbatch",
        "--parsable --dependency=aftercorr:12,afterok:11 --kill-on-invalid-dep=yes --array=0,1,2 slurm/exam.sbatch",
    ]


def test_points_that_wait_for_different_things_are_jobs_of_their_own(run: Path) -> None:
    first = submit(run, _20_sft=[], _30_sft=[], _40_sft=[])
    second = submit(run, _50_exam=[first[2]], _60_exam=[first[2], first[0]])
    assert [handle.id for handle in second] == ["12_0", "13_1"]
    assert calls(run)[1:] == [
        "--parsable --dependency=afterok:11_2 --kill-on-invalid-dep=yes --array=0 slurm/exam.sbatch",
        "--parsable --dependency=afterok:11_0,afterok:11_2 --kill-on-invalid-dep=yes --array=1 slurm/exam.sbatch",
    ]


def test_what_is_left_of_an_array_alone_is_submitted(run: Path) -> None:
    (handle,) = submit(run, _30_sft=[])
    assert handle.id == "11_1"
    assert "--array=1%2" in calls(run)[0]
    again = SlurmLauncher(NO_SLURM).find(Task(run, "30-sft", {}))
    assert again is not None
    assert again.id == "11_1"


def test_the_end_is_known_without_an_answer(run: Path) -> None:
    """No squeue at all: what the job left at its end counts; while it left nothing, nothing is concluded."""
    (handle,) = submit(run, _10_rows=[])
    launcher = SlurmLauncher(NO_SLURM)
    assert isinstance(launcher, QueueLauncher)
    assert launcher.poll(handle) is None
    assert "does not answer" in launcher.describe(handle)
    (run / "10-rows" / ".slurm-exit").write_text("11 3\n", encoding="ascii")
    assert launcher.poll(handle) == 3


def test_a_stage_without_a_script_is_refused(run: Path) -> None:
    (run / "99-new").mkdir()
    (found,) = SlurmLauncher(NO_SLURM).submit_together([Task(run, "99-new", NO_SLURM)])
    assert isinstance(found, LaunchError)
    (found,) = SlurmLauncher(NO_SLURM).submit_together([Task(run, "10-rows", NO_SLURM)])
    assert isinstance(found, LaunchError)
    assert "no `sbatch` here" in str(found)


@pytest.mark.parametrize(
    ("text", "flags", "sentence", "key"),
    [
        (f"sbatch: error: invalid partition specified: gpuu\n{FAILED}Invalid partition name specified",
         "--partition=gpuu", "no such partition `gpuu`", "target"),
        (f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)",
         "--time=4800", "time limit of 4800 min", "target"),
        ("sbatch: error: Memory specification can not be satisfied\n"
         f"{FAILED}Requested node configuration is not available",
         "--gpus-per-node=9", "gpus-per-node 9", "hardware.count"),
        (f"{FAILED}Invalid account or account/partition combination specified",
         "--account=nlp", "refuses the account `nlp`", "target"),
        (f"{FAILED}Something new", "--nodes=1", "sbatch: Something new", "target"),
        ("sbatch: unrecognized option '--nonsense'\nTry \"sbatch --help\" for more", "--nodes=1", "--nonsense", "target"),
    ],
)  # fmt: skip
def test_what_sbatch_says_is_told_in_words_of_the_recipe(
    text: str, flags: str, sentence: str, key: str, tmp_path: Path
) -> None:
    script = tmp_path / "x.sbatch"
    script.write_text(f"#!/usr/bin/env bash\n#SBATCH {flags}\n", encoding="utf-8")
    found = commands.refusal(text, script, NO_SLURM)
    assert sentence in str(found), str(found)
    assert key in found.keys
    assert not isinstance(found, NotAnsweredError)


@pytest.mark.parametrize("text", [f"{FAILED}Unable to contact slurm controller (connect failure)",
                                  "sbatch: fatal: Could not establish a configuration source"])  # fmt: skip
def test_no_answer_is_no_refusal(text: str, tmp_path: Path) -> None:
    assert isinstance(commands.refusal(text, tmp_path / "none", NO_SLURM), NotAnsweredError)


def trials(place: Path, count: int, flags: str = "#SBATCH --time=5") -> list[Path]:
    """Run folders of trials, each with the same two stages."""
    runs = []
    for number in range(count):
        run = place / f"{number:04d}" / "run"
        for folder in ("slurm", "10-sft", "20-exam"):
            (run / folder).mkdir(parents=True)
        scripts = [
            {"script": f"{name[3:]}.sbatch", "folders": [name], "at_once": None} for name in ("10-sft", "20-exam")
        ]
        (run / "slurm" / "jobs.json").write_text(json.dumps({"schema": 1, "scripts": scripts}), encoding="utf-8")
        for name in ("10-sft", "20-exam"):
            text = f"#!/bin/bash\n{flags}\nfolders=(\n  {name}\n)\n"
            (run / "slurm" / f"{name[3:]}.sbatch").write_text(text, encoding="utf-8")
        runs.append(run)
    return runs


def across(run: Path, tasks: list[Task]) -> list[Handle]:
    handles = SlurmLauncher({}).submit_across(tasks)
    assert all(isinstance(handle, Handle) for handle in handles), handles
    return [handle for handle in handles if isinstance(handle, Handle)]


def test_trials_that_start_together_are_an_array(run: Path) -> None:
    """The next stage of each waits for its own trial, in whatever order they come."""
    env = {"PATH": f"{run}/bin:/usr/bin:/bin", "LOG": str(run / "log")}
    runs = trials(run / "study", 3)
    first = across(run, [Task(folder, "10-sft", {**env, "FTC_STAGE_KEY": folder.parent.name}) for folder in runs])
    assert [handle.id for handle in first] == ["11_0", "11_1", "11_2"]
    order = (2, 0, 1)
    second = across(run, [Task(runs[at], "20-exam", env, after=(first[at],)) for at in order])
    assert [handle.id for handle in second] == ["12_2", "12_0", "12_1"]
    assert calls(run) == [
        "--parsable --output=slurm/%A_%a.out --array=0,1,2 slurm/sft.sbatch",
        "--parsable --output=slurm/%A_%a.out --dependency=aftercorr:11 --kill-on-invalid-dep=yes --array=0,1,2 slurm/exam.sbatch",
    ]
    (listing, _) = sorted((runs[0] / "slurm").glob("array-*.txt"), key=lambda path: "10-sft" not in path.read_text())
    assert listing.read_text(encoding="utf-8").splitlines() == [f"10-sft\t{folder}" for folder in runs]
    assert (runs[1] / "10-sft" / ".key").read_text(encoding="utf-8") == "0001", "each has its own key"
    again = SlurmLauncher(NO_SLURM).find(Task(runs[2], "20-exam", {}))
    assert again is not None and again.id == "12_2"


def test_trials_that_ask_for_different_things_are_no_array(run: Path) -> None:
    env = {"PATH": f"{run}/bin:/usr/bin:/bin", "LOG": str(run / "log")}
    runs = [*trials(run / "small", 1), *trials(run / "large", 1, "#SBATCH --time=90")]
    assert [handle.id for handle in across(run, [Task(folder, "10-sft", env) for folder in runs])] == ["11", "12"]


@pytest.mark.slow
def test_several_threads_hand_over_at_once(run: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    env = {"PATH": f"{run}/bin:/usr/bin:/bin", "LOG": str(run / "log")}
    runs, queue = trials(run / "study", 4), Gathered(SlurmLauncher({}), window=0.5)
    assert isinstance(queue, QueueLauncher)
    with ThreadPoolExecutor(4) as threads:
        handles = list(threads.map(lambda folder: queue.submit(Task(folder, "10-sft", env)), runs))
    assert {handle.id for handle in handles} == {f"11_{at}" for at in range(4)} and len(calls(run)) == 1
    assert all(
        (handle.facts or {})["folder"] == str(folder / "10-sft") for handle, folder in zip(handles, runs, strict=True)
    )
