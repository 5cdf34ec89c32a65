"""The seam of targets: one that is not part of ftdsl writes what starts a recipe's jobs. docs/build-and-run.md shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ftdsl.cli.main import main
from ftdsl.engines.jobs import Job
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import compile_recipe
from ftdsl.plan.plan import Plan
from ftdsl.record import frozen
from ftdsl.session import Session
from ftdsl.targets import registry
from tests.conftest import ALPACA, NOWHERE, small


@frozen
class QueueTarget:
    """A queue that takes jobs and what each waits for, as JSON. This is all that a target must be."""

    name: str = "queue"
    title: str = "a queue"

    def check(self, plan: Plan, jobs: tuple[Job, ...], session: Session) -> None:
        for job in jobs:
            if job.nodes > 1:
                span = plan.stage(job.key).stage.span
                session.sink.error("FT012", f"`{job.key}` runs on {job.nodes} nodes, and a queue has one", span)

    def scripts(self, plan: Plan, jobs: tuple[Job, ...]) -> Mapping[str, str]:
        entries = [{"run": f"bash {job.folder}/launch.sh", "after": list(job.needs)} for job in jobs]
        return {"queue.json": json.dumps(entries, indent=1) + "\n"}

    def next_step(self, folder: str) -> tuple[str, ...]:
        return ("queue", "submit", f"{folder}/queue.json")


@pytest.fixture(autouse=True)
def queue() -> Iterator[None]:
    registry.register(QueueTarget())
    yield
    registry.forget("queue")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTC_ENGINE_PYTHON", NOWHERE["FTC_ENGINE_PYTHON"])
    Path("rows.jsonl").write_text(ALPACA, encoding="utf-8")
    return tmp_path


def test_it_adds_its_own_files_to_those_of_every_target(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.ft").write_text(small("lora { rank = 4 }"), encoding="utf-8")
    assert main(["compile", "r.ft", "--target", "queue", "-o", "out dir"]) == 0
    told = capsys.readouterr()
    assert "next: queue submit 'out dir/queue.json'" in told.err
    (entry,) = json.loads(Path("out dir/queue.json").read_text(encoding="utf-8"))
    assert Path("out dir", entry["run"].removeprefix("bash ")).exists()
    assert "queue.json" in Path("out dir/manifest.json").read_text(encoding="utf-8")
    assert not Path("out dir/run.sh").exists(), "that is the target bash's"


def test_what_it_cannot_run_is_refused(place: Path) -> None:
    Path("r.ft").write_text(
        small("lora { rank = 4 }", "").replace("count = 1", "count = 1, nodes = 2"), encoding="utf-8"
    )
    session = Session(env=NOWHERE)
    assert compile_recipe(Path("r.ft"), Options(), session, target="queue") is None
    assert "FT012" in [one.code for one in session.sink]


def test_a_target_that_is_not_there_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.ft").write_text(small("lora { rank = 4 }"), encoding="utf-8")
    assert main(["compile", "r.ft", "--target", "queu"]) == 1
    told = capsys.readouterr().err
    assert "FT086" in told and "bash, kubernetes, queue, ray, skypilot, slurm" in told
