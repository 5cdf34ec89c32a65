"""`ftc run` of several recipes, its documents and exit codes; stages are scripts and data, so no engine is needed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from ftdsl.run.environments import Environment
from ftdsl.run.prepare import lacking, obstacles
from ftdsl.run.resources import Resources
from ftdsl.runtime import events
from ftdsl.session import Session
from tests.conftest import ALPACA, ROOT, ftc, small

DATA = 'data rows { source = file("rows.jsonl"), holdout { eval = 50% } }\nshell publish from rows { run = "touch pwned" }\n'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    rows = "".join(ALPACA.splitlines(keepends=True)[0].replace('"q"', f'"{n}"') for n in range(16))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    (tmp_path / "good.ft").write_text(DATA, encoding="utf-8")
    (tmp_path / "bad.ft").write_text(DATA.replace("eval", "evla"), encoding="utf-8")
    (tmp_path / "broken.ft").write_text(DATA.replace("rows.jsonl", "broken.jsonl"), encoding="utf-8")
    (tmp_path / "broken.jsonl").write_text(
        '{"instruction": "q", "output": "a"}\n{"instruction": 7}\n', encoding="utf-8"
    )
    return tmp_path


@pytest.mark.slow
def test_several_recipes_go_one_after_the_other(place: Path) -> None:
    done = ftc("run", "good.ft", "bad.ft", "--smoke", cwd=place)
    assert done.returncode == 1
    assert "smoke: 1 of 2 recipes pass" in done.stdout
    assert re.search(r"ok +good\.ft .* 1 stages", done.stdout)
    assert re.search(r"FAILED +bad\.ft .* \(bad\.ft:1\)", done.stdout)
    assert not list(place.rglob("pwned"))
    assert ftc("run", "good.ft", "bad.ft", cwd=place).returncode == 2, "real runs are started one by one"


@pytest.mark.slow
def test_a_file_of_profiles_alone_is_passed_over(place: Path) -> None:
    """A pull request changes includes too, and CI names all that it changes."""
    (place / "common.ft").write_text("profile big { max_len = 8Ki }\n", encoding="utf-8")
    done = ftc("run", "common.ft", "good.ft", "--smoke", cwd=place)
    assert done.returncode == 0
    assert re.search(r"ok +common\.ft .*nothing to run", done.stdout)
    assert ftc("run", "common.ft", cwd=place).returncode == 2


def test_a_check_without_the_data(place: Path) -> None:
    (place / "rows.jsonl").unlink()
    assert ftc("check", "good.ft", cwd=place).returncode == 1
    done = ftc("check", "--no-data", "good.ft", cwd=place)
    assert done.returncode == 0
    assert "FT501" not in done.stdout


@pytest.mark.slow
def test_the_document_of_a_smoke_run(place: Path) -> None:
    done = ftc("run", "good.ft", "bad.ft", "broken.ft", "--smoke", "--json", cwd=place)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    good, bad, broken = document["recipes"]
    assert (document["status"], good["status"], bad["status"], broken["status"]) == (1, 0, 1, 1)
    assert [(stage["stage"], stage["status"]) for stage in good["stages"]] == [("rows", "done")]
    script = next(one for one in good["replaced"] if one["stage"] == "publish")
    assert (script["file"], script["line"], script["now"]) == ("good.ft", 2, "left out")
    assert all(one["where"].startswith("good.ft:") for one in good["stages"])
    assert [(one["code"], one["file"], one["line"]) for one in bad["problems"]] == [("FT001", "bad.ft", 1)]
    problem = broken["problems"][-1]
    assert (problem["file"], problem["severity"]) == ("broken.ft", "error")
    assert "broken.jsonl:2" in problem["message"], "the file and the row"


def test_workflow_commands_name_the_recipes_line(place: Path) -> None:
    done = ftc("run", "bad.ft", "--smoke", "--output-format", "github", cwd=place)
    assert done.stdout.startswith("::error file=bad.ft,line=1,")


@pytest.mark.slow
def test_what_a_smoke_run_leaves_is_marked_and_never_used(place: Path) -> None:
    assert ftc("run", "good.ft", "--smoke", cwd=place).returncode == 0
    folder = (place / "runs" / "good.smoke" / "last").resolve()
    assert events.read(folder / "events.jsonl")[0]["smoke"] is True
    assert json.loads((folder / "10-rows" / "result.json").read_text(encoding="utf-8"))["smoke"] is True
    assert (folder / "10-rows" / "SMOKE_TEST.txt").exists()
    recipe = DATA.partition("\n")[0].replace("rows.jsonl", f"runs/good.smoke/{folder.name}/10-rows/train.jsonl")
    (place / "thief.ft").write_text(recipe, encoding="utf-8")
    done = ftc("run", "thief.ft", cwd=place)
    assert done.returncode == 1
    assert "error[FT954] made-by-a-smoke-run" in done.stderr
    (place / "good.smoke.ft").write_text(DATA.partition("\n")[0], encoding="utf-8")
    again = json.loads(ftc("run", "good.smoke.ft", "--json", cwd=place).stdout)
    assert [stage["status"] for stage in again["stages"]] == ["done"], "a recipe of that very name finds nothing"


@pytest.mark.parametrize(
    ("words", "package", "line"),
    [
        ("optim { name = galore(rank = 8) }\n  full {}", "galore-torch", 7),
        ("quantize { bits = 4 }\n  lora {}", "bitsandbytes", 7),
    ],
)
def test_a_missing_package_stands_at_the_word_that_asks_for_it(
    words: str, package: str, line: int, place: Path
) -> None:
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.faults import diagnostic

    (place / "r.ft").write_text(small(words), encoding="utf-8")
    compiled = compile_recipe(place / "r.ft", Options(), Session(), smoke=True)
    assert compiled is not None
    bare = Environment(Path("python"), "test", "3.11", {"llamafactory": "0.9.5"})
    jobs, resources = [job for job in compiled.jobs if job.key == "sft"], Resources(2, [], 1)
    ((key, fault),) = obstacles(jobs, {"llamafactory": bare}, resources, compiled.plan.recipe.versions, {})
    assert package in fault.message
    assert f"pip install {package}" in fault.help
    span = diagnostic(fault, key, compiled.plan).span
    assert span is not None and span.location.endswith(f"r.ft:{line}")


def test_packages_only_a_card_uses_are_missed_too(place: Path) -> None:
    """A smoke run does without; the real one will not."""
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.pipeline import compile_recipe

    text = small("kernels = liger\n  track { to = wandb }").replace("gpu = none", "gpu = h100(80GB)")
    (place / "r.ft").write_text(text, encoding="utf-8")
    compiled = compile_recipe(place / "r.ft", Options(), Session(), smoke=True)
    assert compiled is not None
    bare = Environment(Path("python"), "test", "3.11", {"llamafactory": "0.9.5"})
    ((key, fault),) = lacking(compiled, {"llamafactory": bare})
    assert key == "sft"
    assert "liger-kernel, wandb" in fault.message
    assert fault.keys == ("kernels", "track.to")


def test_the_docs_name_hooks_and_inputs_that_there_are() -> None:
    """What docs/ci.md tells people to paste; the hooks and the action themselves: tests/cli/test_ci_files.py."""
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    workflow, hooks = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    offered = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for hook in hooks["repos"][0]["hooks"]] == [hook["id"] for hook in offered]
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    (step,) = [step for job in workflow["jobs"].values() for step in job["steps"] if "ftdsl" in step["uses"]]
    assert step["with"].keys() <= action["inputs"].keys()


def test_a_recipe_of_scripts_alone_has_nothing_to_try(tmp_path: Path) -> None:
    (tmp_path / "r.ft").write_text('shell a { run = "touch inputs/ran" }\n', encoding="utf-8")
    done = ftc("run", "r.ft", "--smoke", cwd=tmp_path)
    assert done.returncode == 0 and "nothing to run" in done.stderr
    assert not (tmp_path / "ran").exists()
