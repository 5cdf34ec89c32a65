"""`ftc diagnose`: of files, of runs with their recipe, with changes applied; `ftc explain` of a diagnosis."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ftdsl.diagnose import generate
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import check
from ftdsl.session import Session
from tests.conftest import NOWHERE, ROWS, ftc
from tests.diagnose.runs import write

RECIPE = """\
hardware { gpu = none, count = 1 }

sft {
  model    = scratch(architecture = qwen3, hidden = 64, layers = 2, heads = 4, vocab = 1k)
  data     = file("rows.jsonl")
  template = qwen3_nothink
  duration = 40 epochs
  full  {}
  optim { lr = 4e-3, schedule = cosine }
  batch { global = 8, micro = 8 }
}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A recipe, and the folder of a run of it that overfits."""
    for name, content in {"r.ft": RECIPE, **ROWS}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    plan = check(tmp_path / "r.ft", Options(), Session(env=NOWHERE)).plan
    assert plan is not None
    folder = plan.stage("sft").folder
    run = tmp_path / "runs" / "r" / "20260101-000000"
    write(run / folder, "overfit/1.json", "metrics")
    (run.parent / ".recipe").write_text('{"recipe": "r.ft", "options": [[], [], []]}', encoding="utf-8")
    return tmp_path


def test_healthy_is_healthy(tmp_path: Path) -> None:
    write(tmp_path, "healthy/1.json", "trainer_log")
    done = ftc("diagnose", "trainer_log.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "trainer_log.jsonl: healthy (120 logged steps)\n")


def test_what_is_not_there(tmp_path: Path) -> None:
    done = ftc("diagnose", "none.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and "none.jsonl: no such file" in done.stderr
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    done = ftc("diagnose", "x.json", cwd=tmp_path)
    assert done.returncode == 2 and "no training was logged" in done.stderr


def test_a_run_is_brought_to_its_recipe(place: Path) -> None:
    done = ftc("diagnose", "runs/r/20260101-000000", cwd=place)
    assert done.returncode == 1
    assert "[FD204 overfitting, 90 % sure]" in done.stdout
    assert "  --> r.ft:7: duration = 40 epochs" in done.stdout
    assert re.search(r"  1\. train for \d+ epochs?: duration = \d+ epochs", done.stdout)
    assert "next: ftc diagnose runs/r/20260101-000000 --apply 1 --diff" in done.stderr


def test_a_change_is_applied(place: Path) -> None:
    shown = ftc("diagnose", "runs/r/20260101-000000", "--apply", "1", "--diff", cwd=place)
    assert shown.returncode == 0 and "-  duration = 40 epochs" in shown.stdout
    assert (place / "r.ft").read_text(encoding="utf-8") == RECIPE
    assert ftc("diagnose", "runs/r/20260101-000000", "--apply", "1", cwd=place).returncode == 0
    text = (place / "r.ft").read_text(encoding="utf-8")
    assert re.search(r"duration = \d+ epochs", text) and "40 epochs" not in text
    assert ftc("check", "r.ft", cwd=place).returncode == 0
    again = ftc("diagnose", "runs/r/20260101-000000", "--apply", "9", cwd=place)
    assert again.returncode == 2 and "changes" in again.stderr


def test_as_json(place: Path) -> None:
    told = json.loads(ftc("diagnose", "runs/r/20260101-000000", "--json", cwd=place).stdout)
    (diagnosis,) = told["diagnoses"]
    (training,) = diagnosis["trainings"]
    (finding,) = training["findings"]
    assert (finding["code"], finding["name"], training["healthy"]) == ("FD204", "overfitting", False)
    assert finding["recipe"] == "r.ft:7: duration = 40 epochs"
    assert finding["changes"][0]["number"] == 1 and finding["changes"][0]["key"] == "duration"


def test_several_paths(tmp_path: Path) -> None:
    write(tmp_path / "a", "healthy/1.json", "trainer_state")
    write(tmp_path / "b", "nan/1.json", "trainer_state")
    told = json.loads(ftc("diagnose", "a", "b", "--json", cwd=tmp_path).stdout)
    assert [one["healthy"] for one in told["diagnoses"]] == [True, False]
    assert ftc("diagnose", "a", "b", "--apply", "1", cwd=tmp_path).returncode == 2


def test_explain(tmp_path: Path) -> None:
    by_code, by_name = (ftc("explain", query, cwd=tmp_path) for query in ("fd204", "overfitting"))
    assert by_code.returncode == 0 and by_code.stdout == by_name.stdout
    assert by_code.stdout.startswith("FD204 overfitting (diagnosis)\n") and "Prechelt" in by_code.stdout


def test_the_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(check=True) == 0, capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "why"), [
    (("runs/r/20260101-000000", "--rows", "0"), "is no list of steps"),
    (("runs/r/20260101-000000", "--rows", "3;4"), "is no list of steps"),
    (("runs/r/20260101-000000", "--rows", "spikes"), "the loss has no spikes"),
    (("runs/r/20260101-000000", "--rows", "3"), "is no stage whose rows can be followed"),
    (("trainer_log.jsonl", "--rows", "3"), "is no run of a recipe"),
    (("r.ft", "trainer_log.jsonl", "--rows", "3"), "--rows is for one run"),
    (("runs/r/20260101-000000", "--drop", "rows.jsonl:1"), "--drop needs --rows"),
])  # fmt: skip
def test_rows_that_cannot_be_named(arguments: tuple[str, ...], why: str, place: Path) -> None:
    write(place, "healthy/1.json", "trainer_log")
    done = ftc("diagnose", *arguments, cwd=place)
    assert (done.returncode, why in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
