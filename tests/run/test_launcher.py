"""A launcher from outside: a few methods, and the executor runs real stages with it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ftdsl.language.resolve.resolve import Options
from ftdsl.observe.progress import NoView, Status
from ftdsl.pipeline import compile_recipe
from ftdsl.run.carry_out import carry_out, environments_of
from ftdsl.run.launchers.launcher import Handle, LaunchError, Task
from ftdsl.run.launchers.local import LocalLauncher
from ftdsl.run.launchers.log import last_lines
from ftdsl.run.outcome import Outcome
from ftdsl.run.prepare import Wishes
from ftdsl.run.stop import Stop
from ftdsl.session import Session
from tests.conftest import NOWHERE

ROWS = "".join(json.dumps({"instruction": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(40))
RECIPE = """
data rows { source = file("rows.jsonl"), holdout { eval = 25% } }
shell count { after = rows, run = "wc -l < {rows.path}/train.jsonl > count.txt", outputs = ["count.txt"] }
"""


@dataclass
class Toy:
    """One machine of a queue: a stage waits its turn, and then runs to its end. This is all that a launcher must be."""

    name: str = "toy"
    queue: list[Handle] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)

    def submit(self, task: Task) -> Handle:
        if "forbidden" in task.stage:
            raise LaunchError("the queue takes no such stage")
        handle = Handle(self.name, str(len(self.tasks)), task.log)
        self.tasks[handle.id] = task
        self.queue.append(handle)
        return handle

    def find(self, task: Task) -> Handle | None:
        return None

    def poll(self, handle: Handle) -> int | None:
        if handle.id in self.ended:
            return self.ended[handle.id]
        if self.queue[0] == handle:
            task = self.tasks[handle.id]
            with task.log.open("ab") as log:
                done = subprocess.run(
                    ["bash", f"{task.stage}/launch.sh"], cwd=task.run, env=dict(task.env), stdout=log, check=False
                )
            self.queue.pop(0)
            self.ended[handle.id] = done.returncode
        return None

    def cancel(self, handle: Handle, *, now: bool = False) -> None:
        self.cancelled.append(handle.id)
        self.ended.setdefault(handle.id, 143)

    def tail(self, handle: Handle, lines: int = 12) -> list[str]:
        return last_lines(handle.log, lines)


def run(place: Path, text: str, **more: object) -> Outcome:
    (place / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    (place / "r.ft").write_text(text, encoding="utf-8")
    session = Session()
    compiled = compile_recipe(place / "r.ft", Options(), session)
    assert compiled is not None, [one.message for one in session.sink.ordered()]
    environments = environments_of(compiled.jobs, compiled, {**session.env, **NOWHERE})
    return carry_out(compiled, Wishes(), environments, NoView(), session=session, home=place / "runs" / "r", **more)  # type: ignore[arg-type]


def test_a_launcher_from_outside_runs_real_stages(tmp_path: Path) -> None:
    toy = Toy()
    outcome = run(tmp_path, RECIPE, launcher=toy)
    assert outcome.status == 0, outcome.problems
    assert outcome.progress is not None
    assert [stage.status for stage in outcome.progress.stages] == [Status.DONE, Status.DONE]
    assert [task.stage for task in toy.tasks.values()] == ["10-rows", "20-count"]
    rows = len((outcome.progress.folder / "10-rows" / "train.jsonl").read_text(encoding="utf-8").splitlines())
    assert int((outcome.progress.folder / "count.txt").read_text(encoding="utf-8")) == rows
    again = run(tmp_path, RECIPE, launcher=LocalLauncher())
    assert again.nothing_to_do, "what one launcher has done is done for another"


@pytest.mark.slow
def test_what_cannot_be_handed_over_fails_in_a_sentence(tmp_path: Path) -> None:
    outcome = run(tmp_path, RECIPE + 'shell forbidden { run = "true" }', launcher=Toy())
    assert outcome.status == 1 and outcome.progress is not None
    assert outcome.progress.stage("forbidden").message == "the queue takes no such stage"
    assert outcome.progress.stage("count").status is Status.DONE, "the others run"


@pytest.mark.parametrize("launcher", [Toy, LocalLauncher])
@pytest.mark.slow
def test_a_host_stops_it_without_signals(launcher: type[Toy] | type[LocalLauncher], tmp_path: Path) -> None:
    """A study or an editor has no signal handlers to lend: it holds a `Stop`."""
    stop = Stop()
    stop.stop()
    outcome = run(tmp_path, RECIPE, launcher=launcher(), stop=stop)
    assert outcome.status == 130
    assert outcome.progress is not None and outcome.progress.stopping
    outcome = run(tmp_path, RECIPE, launcher=launcher())
    assert outcome.status == 0
