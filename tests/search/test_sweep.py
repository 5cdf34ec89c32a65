"""A sweep ends with the table of a study: a row for each run, the best first."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ftc


def test_runs_of_a_sweep_side_by_side(tmp_path: Path) -> None:
    text = """
shell score {
  env { RATE in ["3", "1", "2"] }
  run = "printf '{{\\"metrics\\": {{\\"loss\\": %s}}}}' $RATE > $(dirname {stage.path})/result.json"
}
"""
    (tmp_path / "s.ft").write_text(text, encoding="utf-8")
    done = ftc("run", "s.ft", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    head = next(at for at, line in enumerate(lines) if line[:3] == ["score", "RATE", "loss"])
    assert [line[:3] for line in lines[head + 1 : head + 4]] == [
        ["best", "1", "1"],
        ["2", "2", lines[head + 2][2]],
        ["3", "3", lines[head + 3][2]],
    ]
