"""A run that overfits, on the real engine: diagnosed, the change applied, run again, healthy; and the page about both."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ROOT, ftc_process

pytestmark = pytest.mark.real

RECIPE = """\
engine = llamafactory("0.9.5")
seed   = 7

hardware { gpu = none, count = 1 }
template = qwen3_nothink
max_len  = 64

data capitals {
  source  = file("capitals.jsonl")
  limit   = 60
  holdout { eval = 40%, seed = 7 }
}

sft {
  model    = scratch(architecture = qwen3, hidden = 96, layers = 2, heads = 4, vocab = 600)
  data     = capitals
  duration = 40 epochs

  full     {}
  optim    { lr = 4e-3, schedule = cosine, warmup = 5% }
  batch    { global = 12, micro = 12 }
  save     { every = never }
  track    { every = 1 steps }
  evaluate { data = capitals.eval, every = 10 steps, batch = 24 }
}
"""


def diagnosis(place: Path) -> list[dict[str, Any]]:
    output = json.loads(ftc_process("diagnose", "sick.ft", "--json", cwd=place).stdout)
    findings: list[dict[str, Any]] = output["diagnoses"][0]["trainings"][0]["findings"]
    return findings


def test_a_sick_run_is_diagnosed_mended_and_healthy(forking: Environment, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "data" / "capitals.jsonl", tmp_path)
    (tmp_path / "sick.ft").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "ftc.toml").touch()
    run = ("run", "sick.ft", "--plain", "--no-preload", "--engine-python", str(forking.python))
    first = ftc_process(*run, cwd=tmp_path)
    assert first.returncode == 0, first.stderr[-3000:]
    (finding,) = diagnosis(tmp_path)
    assert (finding["code"], finding["recipe"]) == ("FD204", "sick.ft:17: duration = 40 epochs")
    assert "[FD204]" in first.stderr, "noted while it went on"
    assert ftc_process("diagnose", "sick.ft", "--apply", "1", cwd=tmp_path).returncode == 0
    assert re.search(r"duration = \d epochs", (tmp_path / "sick.ft").read_text(encoding="utf-8"))
    second = ftc_process(*run, cwd=tmp_path)
    assert second.returncode == 0, second.stderr[-3000:]
    assert diagnosis(tmp_path) == []
    assert "[FD" not in second.stderr
    runs = [folder.as_posix() for folder in sorted((tmp_path / "runs" / "sick").glob("2*"))]
    assert ftc_process("report", *runs, "-o", "both.html", cwd=tmp_path).returncode == 0
    assert "sft.duration" in (tmp_path / "both.html").read_text(encoding="utf-8")
