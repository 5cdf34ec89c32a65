"""Any recipe, in small, through all its stages on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import EXAMPLES, examples_in, ftc_process

pytestmark = pytest.mark.real

HUB = """
hardware { gpu = a100(80GB), count = 2 }
data tools { source = hf("acme/chats"), format = sharegpt }
sft {
  model = hf("meta-llama/Llama-3.1-8B-Instruct")
  data  = [tools, hf("yahma/alpaca-cleaned")]
  optim { name = paged_adamw_8bit }
}
dpo from sft { data = hf("acme/pairs"), lora {}, parallel { strategy = zero2 } }
shell publish from dpo { run = "touch pwned" }
eval exam from dpo { data = file("rows.jsonl"), gate { loss = at_most(0.001) } }
merge from dpo { after = [publish, exam], to = "out/m", push = hf("me/m") }
"""


SAVES_NOTHING = ("grpo", "quickstart", "search")


@pytest.mark.parametrize("recipe", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_goes_through(
    recipe: Path, forking: Environment, forking_trl: Environment, tmp_path: Path
) -> None:
    examples_in(tmp_path)
    name = f"examples/{recipe.name}"
    pythons = f"llamafactory={forking.python},trl={forking_trl.python}"
    done = ftc_process("run", name, "--smoke", "--json", "--no-preload", "--engine-python", pythons, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    (document,) = json.loads(done.stdout)["recipes"]
    assert {stage["status"] for stage in document["stages"]} == {"done"}
    assert "FT510" not in [one["code"] for one in document["problems"]], "what is evaluated was trained on"
    assert not list((tmp_path / "examples").glob("*.lock"))
    assert not (tmp_path / "examples" / "out").exists()
    replaced = json.loads((tmp_path / document["run"] / "smoke.json").read_text(encoding="utf-8"))["replaced"]
    assert replaced == document["replaced"]
    assert all(f"{one['key']} {one['was']} -> {one['now']}: {one['why']}" in done.stderr for one in replaced)
    assert any(one["key"] == "duration" for one in replaced)
    trained = [stage for stage in document["stages"] if "first_loss" in stage["metrics"]]
    assert any("stopped at step 2 and resumed" in stage["notes"] for stage in trained) or recipe.stem in SAVES_NOTHING
    assert all("loaded again" in stage["notes"] for stage in document["stages"] if "bytes" in stage["metrics"])


def test_hubs_scripts_gates_and_destinations(forking: Environment, tmp_path: Path) -> None:
    """What is out of reach is made up, scripts never run, gates report, nothing leaves the run's folder."""
    (tmp_path / "rows.jsonl").write_text('{"instruction": "q", "input": "", "output": "a"}\n' * 8, encoding="utf-8")
    (tmp_path / "r.ft").write_text(HUB, encoding="utf-8")
    done = ftc_process(
        "run", "r.ft", "--smoke", "--json", "--no-preload", "--engine-python", str(forking.python), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (document,) = json.loads(done.stdout)["recipes"]
    assert [stage["stage"] for stage in document["stages"]] == ["tools", "scratch()", "sft", "dpo", "exam", "merge"]
    assert not list(tmp_path.rglob("pwned"))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "runs" / "r").exists(), "a real run can never find these results"
    exam = next(stage for stage in document["stages"] if stage["stage"] == "exam")
    assert exam["notes"][0].startswith("gate would refuse: loss = ")
    for message in (
        "32 generated sharegpt rows",
        "llama with 2 layers",
        "paged_adamw_8bit -> adamw_torch",
        "shell -> left out",
    ):
        assert message in done.stderr


def test_a_failure_names_the_recipes_line(forking: Environment, tmp_path: Path) -> None:
    """A fault nobody foresaw: the engine's own words, at the value they quote."""
    (tmp_path / "rows.jsonl").write_text('{"instruction": "q", "input": "", "output": "a"}\n' * 8, encoding="utf-8")
    text = """
hardware { gpu = none }
sft {
  model = hf("Qwen/Qwen3-0.6B")
  data  = file("rows.jsonl")
  llamafactory { lr_scheduler_kwargs_typo = 1 }
}
"""
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    done = ftc_process("run", "r.ft", "--smoke", cwd=tmp_path)
    assert done.returncode == 1
    assert "FT001" in done.stderr, "what a check finds needs no run"
    broken = text.replace(
        "llamafactory { lr_scheduler_kwargs_typo = 1 }", 'llamafactory { accelerator_config = "no.json" }'
    )
    (tmp_path / "r.ft").write_text(broken, encoding="utf-8")
    done = ftc_process("run", "r.ft", "--smoke", "--no-preload", "--engine-python", str(forking.python), cwd=tmp_path)
    assert done.returncode == 1
    assert "error[FT950] stage-failed: `sft`: " in done.stderr
    assert "--> r.ft:6:39" in done.stderr
