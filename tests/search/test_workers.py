"""Several `ftc run` at one study, through a server; two of four are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ftc, until
from tests.run.test_orphans import living
from tests.search import postgres, toy
from tests.search.toy import lines, recipe, run, states, trials, write

pytestmark = pytest.mark.slow
TRIALS = 16


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with postgres.server() as found:
        yield found


def test_two_of_four_workers_are_killed(address: str, tmp_path: Path) -> None:
    steps = toy.STEPS.replace("PAUSE", "0.2")
    write(tmp_path, recipe(f'trials = {TRIALS}, sampler = random, storage = env("STUDY_URL")', steps))
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "s.ft", "--plain", "--foreground"]
    env = {**os.environ, "STUDY_URL": address}
    workers = [
        subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    until(lambda: lines(tmp_path / "starts.log") >= 5, "five trials have begun")
    for worker in workers[:2]:
        worker.send_signal(signal.SIGKILL)
    ends = [worker.communicate(timeout=240) for worker in workers]
    for worker, (_, err) in zip(workers[2:], ends[2:], strict=True):
        assert worker.returncode == 0, err
        assert "Traceback" not in err
    os.environ["STUDY_URL"] = address
    try:
        done = run(tmp_path)
    finally:
        del os.environ["STUDY_URL"]
    assert done["code"] == 0, done["stderr"]
    assert states(done) == ["complete"] * TRIALS
    assert len({trial["number"] for trial in trials(done)}) == TRIALS
    assert lines(tmp_path / "rows.log") == 1
    assert TRIALS <= lines(tmp_path / "starts.log") <= TRIALS + 4
    assert not living(tmp_path)
    assert done["study"]["storage"].startswith("postgresql")


def test_importance_reads_the_server(address: str, tmp_path: Path) -> None:
    sampled = recipe('trials = 6, sampler = random, storage = env("STUDY_URL")')
    write(tmp_path, 'name = "importance"\n' + sampled)
    done = ftc("run", "s.ft", cwd=tmp_path, STUDY_URL=address)
    assert done.returncode == 0, done.stderr
    done = ftc("search", "importance", "s.ft", "--json", cwd=tmp_path, STUDY_URL=address)
    assert json.loads(done.stdout)["importance"]["score.loss"]
    other = tmp_path / "other"
    other.mkdir()
    write(other, 'name = "importance"\n' + sampled.replace("choice(4, 8)", "choice(4, 16)"))
    done = ftc("run", "s.ft", cwd=other, STUDY_URL=address)
    assert done.returncode == 1, "the name is another recipe's study there"
    assert "FT095" in done.stderr
