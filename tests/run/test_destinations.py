"""Where a result goes and where a training resumes from, looked at before anything starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROWS, Outcome, ftc, small

Check = Callable[..., Outcome]
BASE = {"base/config.json": "{}", "base/model.safetensors": "x", **ROWS}


@pytest.mark.parametrize(
    ("to", "read"),
    [
        ("base", "base"),
        ("./base", "base"),
        ("../{here}/base", "base"),
        ("rows.jsonl", None),
        (".", "base"),
        ("..", "base"),
    ],
)
def test_no_stage_writes_over_what_it_is_made_from(to: str, read: str | None, checked: Check, tmp_path: Path) -> None:
    text = small(f'to = "{to.replace("{here}", tmp_path.name)}"').replace('hf("Qwen/Qwen3-0.6B")', 'file("base")')
    found = [one for one in checked(text + "\ntemplate = qwen3", BASE).found if one.code in ("FT956", "FT957")]
    assert len(found) == 1 or to == "rows.jsonl", [one.message for one in found]
    assert read is None or f"over `{read}`" in found[0].message or "own folder" in found[0].message or to == ".."


@pytest.mark.parametrize(
    "to",
    [
        "base",
        "./base",
        "out/../base",
        "linked",
        "linked/../base",
        ".",
        "..",
        "../..",
        "base/out",
        "base/deep/er",
        "data",
        "data/out",
        "rows",
    ],
)
def test_seen_from_where_the_recipe_lies(to: str, tmp_path: Path) -> None:
    """Paths as they are typed: the recipe's folder is `.` then, and links count as what they lead to."""
    folder = tmp_path / "a" / "b"
    for name in ("base", "data", "rows"):
        (folder / name).mkdir(parents=True)
    (folder / "base" / "config.json").write_text("{}")
    (folder / "data" / "x.jsonl").write_text(ROWS["rows.jsonl"])
    (folder / "rows" / "x.jsonl").write_text(ROWS["rows.jsonl"])
    (folder / "linked").symlink_to("base")
    stage = small(f'to = "{to}"').replace('hf("Qwen/Qwen3-0.6B")', 'file("base")').replace("rows.jsonl", "data")
    other = 'template = qwen3\ndata d { source = file("rows/*.jsonl") }\n'
    (folder / "r.ft").write_text(f"{stage}\n{other}", encoding="utf-8")
    done = ftc("check", "r.ft", cwd=folder)
    assert "FT957" in done.stdout, done.stdout


HANDED_ON = {
    "by its path": 'sft a { to = "saves/a" }\nsft b { after = a, model = file("saves/a") }',
    "a checkpoint of it": 'sft a { to = "saves/a" }\nsft b { after = a, model = file("saves/a/checkpoint-5") }',
    "later": 'sft a { to = "saves/a" }\nsft b { after = a }\nsft c { after = b, model = file("saves/a") }',
    "its own checkpoint": 'sft a { to = "saves/a", resume = file("saves/a/checkpoint-5") }',
}


@pytest.mark.parametrize("what", HANDED_ON)
def test_what_is_handed_on_is_no_input(what: str, tmp_path: Path) -> None:
    head = "hardware { gpu = none, count = 1 }\ntemplate = qwen3\nduration = 1 epoch\n"
    head += 'data = file("rows.jsonl")\nmodel = hf("Qwen/Qwen3-0.6B")\n'
    (tmp_path / "rows.jsonl").write_text(ROWS["rows.jsonl"])
    (tmp_path / "r.ft").write_text(head + HANDED_ON[what] + "\n")
    assert "FT957" not in ftc("check", "r.ft", cwd=tmp_path).stdout
    (tmp_path / "r.ft").write_text(
        head + HANDED_ON[what].replace("after = a, ", "").replace("after = b, ", "").replace("-5", "") + "\n"
    )
    if what != "its own checkpoint":
        assert "FT957" in ftc("check", "r.ft", cwd=tmp_path).stdout, "nobody says that it is read later"


@pytest.mark.parametrize("to", ["out", "base2", "out/base", "rows"])
def test_a_folder_of_its_own_is_fine(to: str, checked: Check) -> None:
    text = small(f'to = "{to}"').replace('hf("Qwen/Qwen3-0.6B")', 'file("base")')
    assert "FT957" not in checked(text, BASE).codes


TWO = """hardware {{ gpu = none, count = 1 }}
template = qwen3
duration = 1 epoch
data = file("rows.jsonl")
model = hf("Qwen/Qwen3-0.6B")
sft a {{ lora {{}}, to = "{}" }}
sft b {{ lora {{}}, to = "{}" }}
"""


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("out/a", "out/./a", "FT082"),
        ("out/a", "linked/a", "FT082"),
        ("out/a", "{here}/out/a", "FT082"),
        ("out/a", "out/a/deep/er", "FT082"),
        ("out/a/deep", "linked/a", "FT082"),
        ("out/a", "runs/r/last/10-a/result", "FT957"),
        ("out/a", "build/r/model", "FT957"),
        ("out/a", ".git/hooks", "FT957"),
        ("out/a", "out/ab", ""),
        ("out/a", "runs/of_before", ""),
    ],
)
def test_destinations_are_apart(first: str, second: str, code: str, tmp_path: Path) -> None:
    """One folder written in two ways, one inside the other, and what ftc and git keep: no stage moves another's result."""
    for name in ("out", "runs/r/1/10-a/result", "runs/of_before", "build/r", ".git"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "linked").symlink_to("out")
    (tmp_path / "runs" / "r" / "last").symlink_to("1")
    (tmp_path / "runs" / "r" / ".recipe").write_text("{}")
    (tmp_path / "build" / "r" / "manifest.json").write_text("{}")
    (tmp_path / "rows.jsonl").write_text(ROWS["rows.jsonl"])
    (tmp_path / "r.ft").write_text(TWO.format(first, second.replace("{here}", str(tmp_path))))
    shown = ftc("check", "r.ft", cwd=tmp_path).stdout
    assert [one for one in ("FT082", "FT957") if one in shown] == [code] * bool(code), shown


def test_a_later_stage_may_write_into_an_earlier_ones_result(tmp_path: Path) -> None:
    """`saves/a` and the model merged from it, `saves/a/merged`: what is inside is made again whenever what is around it is."""
    (tmp_path / "rows.jsonl").write_text(ROWS["rows.jsonl"])
    (tmp_path / "r.ft").write_text(TWO.format("saves/a", "saves/a/more").replace("sft b {", "sft b from a {"))
    assert "FT082" not in ftc("check", "r.ft", cwd=tmp_path).stdout


def state(step: int) -> str:
    return json.dumps({"global_step": step})


@pytest.mark.parametrize(
    ("files", "stage", "why"),
    [
        ({}, "lora {}", "does not exist"),
        ({"ck": "a file"}, "lora {}", "is not a folder"),
        ({"ck/model.safetensors": "x"}, "lora {}", "has no readable trainer_state.json"),
        ({"ck/trainer_state.json": "{"}, "lora {}", "has no readable trainer_state.json"),
        ({"ck/trainer_state.json": state(5)}, "lora {}", "is a checkpoint of a full model"),
        (
            {"ck/trainer_state.json": state(5), "ck/adapter_config.json": "{}"},
            "full {}",
            "is a checkpoint of an adapter",
        ),
        ({"ck/trainer_state.json": state(10), "ck/adapter_config.json": "{}"}, "lora {}", "has only 10 steps"),
        ({"ck/trainer_state.json": state(9), "ck/adapter_config.json": "{}"}, "lora {}", ""),
        ({"ck/trainer_state.json": "[]", "ck/adapter_config.json": "{}"}, "lora {}", ""),
    ],
)
def test_a_checkpoint_is_looked_at_before_anything_starts(
    files: dict[str, str], stage: str, why: str, checked: Check
) -> None:
    text = small(f'resume = file("ck")\n  {stage}').replace("duration = 1 epoch", "duration = 10 steps")
    found = [one.message for one in checked(text, {**files, **ROWS}).found if one.code == "FT806"]
    assert [why in message for message in found] == [True] * bool(why), found


def by_hand(place: Path) -> subprocess.CompletedProcess[str]:
    assert ftc("compile", "r.ft", cwd=place).returncode == 0
    env = {**os.environ, "FT_PYTHON": sys.executable}
    return subprocess.run(["bash", "build/r/run.sh"], cwd=place, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_run_sh_refuses_what_another_build_has_done(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"instruction": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(9))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    text = 'data d { source = file("rows.jsonl") }\nshell a { run = "echo 6 > a.txt", outputs = ["a.txt"] }\n'
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    assert by_hand(tmp_path).returncode == 0
    (tmp_path / "r.ft").write_text(f"# a remark\n\n{text}", encoding="utf-8")
    done = by_hand(tmp_path)
    assert done.returncode == 0 and done.stdout.count("done before") == 2, "remarks and lines do not count"
    for old, new, stage in (("echo 6", "echo 7", "20-a"), ('"rows.jsonl")', '"rows.jsonl", limit = 3)', "10-d")):
        (tmp_path / "r.ft").write_text(text.replace(old, new), encoding="utf-8")
        done = by_hand(tmp_path)
        assert done.returncode == 1
        assert f"== {stage}: was done by another build" in done.stderr
    assert (tmp_path / "runs/r/by-hand/a.txt").read_text(encoding="utf-8") == "6\n"
