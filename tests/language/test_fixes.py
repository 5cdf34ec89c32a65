"""Fixes: safe ones on asking, guesses only when asked for twice, nothing half done; and the formats machines read."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import ALPACA, ftc

BROKEN = """\
hardware { gpu = none }
sft {
  model = hf("Qwen/Qwen3-8B")
  data: file("rows.jsonl")
  lora { rnak = 64 }
  optim { lr = 2e-4; schedule = "cosine" }
}
"""


def place(folder: Path, text: str = BROKEN) -> Path:
    (folder / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    (folder / "r.ft").write_bytes(text.encode())
    return folder


def test_what_is_missing_is_added_where_it_belongs(tmp_path: Path) -> None:
    text = """\
hardware { gpu = none }
sft {
  model    = hf("Qwen/Qwen3-0.6B")
  data     = file("rows.jsonl")
  duration = 1 epoch
  lora { rank = 8 }
  optim { lr = 1e-4, schedule = reduce_lr_on_plateau }
  guard { patience = 4 }
}
"""
    folder = place(tmp_path, text)
    assert ftc("check", "--fix", "r.ft", cwd=folder).returncode == 1  # which rows, is a guess
    assert ftc("check", "--fix", "--unsafe-fixes", "r.ft", cwd=folder).returncode == 0
    assert "  evaluate.data = 5%\n" in (tmp_path / "r.ft").read_text(encoding="utf-8")


def test_fix_mends_what_is_safe(tmp_path: Path) -> None:
    done = ftc("check", "--fix", "r.ft", cwd=place(tmp_path))
    text = (tmp_path / "r.ft").read_text(encoding="utf-8")
    assert 'data = file("rows.jsonl")' in text
    assert "rnak" in text, "a guess is not safe"
    assert done.returncode == 1
    assert "error[FT001]" in done.stdout
    assert "FT034" not in done.stdout


def test_unsafe_fixes_take_guesses_too(tmp_path: Path) -> None:
    done = ftc("check", "--fix", "--unsafe-fixes", "r.ft", cwd=place(tmp_path))
    text = (tmp_path / "r.ft").read_text(encoding="utf-8")
    assert "lora { rank = 64 }" in text
    assert done.returncode == 0, done.stdout
    assert "fixed" in done.stderr
    before = (tmp_path / "r.ft").read_bytes()
    assert ftc("check", "--fix", "--unsafe-fixes", "r.ft", cwd=tmp_path).returncode == 0
    assert (tmp_path / "r.ft").read_bytes() == before, "nothing left to mend"


def test_diff_changes_nothing(tmp_path: Path) -> None:
    done = ftc("check", "--diff", "r.ft", cwd=place(tmp_path))
    assert '-  data: file("rows.jsonl")' in done.stdout
    assert '+  data = file("rows.jsonl")' in done.stdout
    assert (tmp_path / "r.ft").read_text(encoding="utf-8") == BROKEN


def test_line_ends_are_kept(tmp_path: Path) -> None:
    ftc("check", "--fix", "r.ft", cwd=place(tmp_path, BROKEN.replace("\n", "\r\n")))
    assert (tmp_path / "r.ft").read_bytes().count(b"\r\n") == BROKEN.count("\n")


def test_formats_for_machines(tmp_path: Path) -> None:
    place(tmp_path)
    github = ftc("check", "--output-format", "github", "r.ft", cwd=tmp_path).stdout
    assert "::error file=r.ft,line=4,col=7,endLine=4,title=FT034 colon-for-equals::" in github
    sarif = json.loads(ftc("check", "--output-format", "sarif", "r.ft", cwd=tmp_path).stdout)
    results = sarif["runs"][0]["results"]
    assert {result["ruleId"] for result in results} >= {"FT001", "FT034"}
    lines = [result["locations"][0]["physicalLocation"]["region"]["startLine"] for result in results]
    assert 5 in lines
