"""`ftc check` and `ftc fmt` of folders and of stdin, and words that are nearly verbs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftdsl.cli.main import main
from tests.conftest import ROWS, ftc, small


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recipes, one of them in a folder, and two that were made and not written."""
    for name in ("b.ft", "a/one.ft", "build/made.ft", ".hidden/old.ft"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("lroa { }\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("asked", "seen"), [([], ["a/one.ft", "b.ft"]), (["a"], ["a/one.ft"]), (["b.ft"], ["b.ft"])])
def test_a_folder_stands_for_the_recipes_below_it(
    asked: list[str], seen: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--json", *asked]) == 1
    assert sorted({one["file"] for one in json.loads(capsys.readouterr().out)["diagnostics"]}) == seen


def test_a_folder_without_recipes_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty").mkdir()
    assert main(["check", "empty"]) == 1
    assert "there is no recipe below `empty`" in capsys.readouterr().out


def test_a_recipe_from_stdin(here: Path) -> None:
    (here / "rows.jsonl").write_text(ROWS["rows.jsonl"])
    for stage, status in (("lora { rank = 8 }", 0), ("lora { rnak = 8 }", 1)):
        done = ftc("check", "-", cwd=here, stdin=small(stage))
        assert done.returncode == status, done.stdout
        assert ("stdin.ft:" in done.stdout and "`rnak`" in done.stdout) == bool(status)


def test_each_run_of_a_sweep_is_told_its_own_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = small("lora { rank in [8, 512] }").replace("gpu = none", "gpu = h100(80GB)")
    (tmp_path / "r.ft").write_text(text)
    (tmp_path / "rows.jsonl").write_text(ROWS["rows.jsonl"])
    assert main(["check", "--json", str(tmp_path / "r.ft")]) == 0
    notes = [one["notes"] for one in json.loads(capsys.readouterr().out)["diagnostics"] if one["code"] == "FT700"]
    assert [f"lora.alpha = {alpha} (2 * rank)" in told for alpha, told in zip((16, 1024), notes, strict=True)] == [
        True
    ] * 2
