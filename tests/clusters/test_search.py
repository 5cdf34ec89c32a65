"""A study on a real Slurm: trials that start together are an array, and what follows each of them waits for its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clusters.slurm import Slurm
from tests.conftest import ftc_process
from tests.run.test_orphans import living
from tests.search.toy import lines

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

STUDY = '''
target = slurm(partition = "main", time = 5min, cpus = 1)
let rate ~ choice(1, 2, 3, 4, 5, 6)
shell score {
  run = """
    echo start >> inputs/starts.log
    echo {rate} > {score.path}
  """
}
shell exam {
  after = score
  run = """
    printf '{{"kind": "metrics", "metrics": {{"loss": %s}}}}\\\\n' $(cat {score.path}) > $(dirname {exam.path})/result.json
  """
}
search { sampler = grid, goal = minimize(exam.loss), parallel = 3 }
'''


def test_trials_are_an_array(on_cluster: Slurm, tmp_path: Path) -> None:
    (tmp_path / "s.ft").write_text(STUDY, encoding="utf-8")
    done = ftc_process("run", "s.ft", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    study = json.loads(done.stdout)["study"]
    assert [trial["state"] for trial in study["trials"]] == ["complete"] * 6
    assert {trial["values"]["exam.loss"] for trial in study["trials"]} == {1, 2, 3, 4, 5, 6}
    assert study["trials"][study["best"]]["parameters"] == {"rate": "1"}
    assert lines(tmp_path / "starts.log") == 6
    ids = {
        stage: [json.loads((next((tmp_path / trial["run"]).glob(f"*-{stage}")) / ".slurm-job").read_text())["id"]
                for trial in study["trials"][:3]]
        for stage in ("score", "exam")
    }  # fmt: skip
    for stage, found in ids.items():
        assert len({number.partition("_")[0] for number in found}) == 1, f"{stage}: {found}"
        assert sorted(number.partition("_")[2] for number in found) == ["0", "1", "2"]
    assert not on_cluster.run("squeue", "-h", "-t", "PD,R").stdout and not living(tmp_path)
