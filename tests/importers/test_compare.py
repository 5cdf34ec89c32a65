"""`ftc diff`: what differs in meaning, where it was said, and what would have to run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import ftc

RECIPE = """\
name = "a"
hardware {{ gpu = a100(80GB), count = {count} }}
data rows {{ source = file("data/rows.json") }}
sft {{
  model = hf("Qwen/Qwen3-8B")
  data  = rows
  template = qwen3
  duration = 1 epoch
  max_len = 2Ki
  lora {{ rank = {rank}, alpha = 16 }}
  optim {{ lr = {lr} }}
  batch {{ micro = 2, accumulate = 4 }}
}}
merge from sft {{}}
profile big {{ sft.optim.lr = 2e-4 }}
"""
YAML = """\
stage: sft
do_train: true
model_name_or_path: Qwen/Qwen3-8B
dataset: rows
template: qwen3
output_dir: out
learning_rate: {lr}
bf16: true
per_device_train_batch_size: 2
gradient_accumulation_steps: 4
"""


def put(place: Path, name: str, text: str) -> str:
    (place / name).write_text(text, encoding="utf-8")
    return name


def compared(place: Path, before: str, after: str, code: int) -> dict[str, Any]:
    done = ftc("diff", before, after, "--json", cwd=place)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_other_blanks_comments_and_names_mean_the_same(place: Path) -> None:
    text = RECIPE.format(count=1, rank=8, lr="1e-4")
    put(place, "a.ft", text)
    put(place, "b.ft", text.replace('"a"', '"b"').replace("\nsft", "\n# again\n\nsft").replace("2Ki", "2048"))
    assert compared(place, "a.ft", "b.ft", 0)["equal"]


def test_what_people_ask_first_comes_first(place: Path) -> None:
    put(place, "a.ft", RECIPE.format(count=1, rank=8, lr="1e-4"))
    put(place, "b.ft", RECIPE.format(count=4, rank=16, lr="2e-5"))
    found = compared(place, "a.ft", "b.ft", 1)
    assert [(one["group"], one["before"], one["after"]) for one in found["changes"]][:3] == [
        ("effective batch", "8 (2 x 4 x 1)", "32 (2 x 4 x 4)"),
        ("learning rate", "1e-4", "2e-5"),
        ("method", "8", "16"),
    ]
    assert found["changes"][1]["where_after"] == "line 11"
    assert found["run_again"] == ["sft", "merge"], "not the data"


def test_one_recipe_under_two_profiles(place: Path) -> None:
    put(place, "a.ft", RECIPE.format(count=1, rank=8, lr="1e-4"))
    (change,) = compared(place, "a.ft", "@big", 1)["changes"]
    assert (change["key"], change["after"], "big" in change["where_after"]) == ("optim.lr", "2e-4", True)


def test_a_yaml_against_a_yaml_and_the_recipe_made_of_it(place: Path) -> None:
    put(place, "a.yaml", YAML.format(lr="1e-4"))
    put(place, "b.yaml", YAML.format(lr="5.0e-5"))
    (change,) = compared(place, "a.yaml", "b.yaml", 1)["changes"]
    assert (change["before"], change["after"], change["where_after"]) == ("1e-4", "5e-5", "line 7")
    assert ftc("import", "a.yaml", "-o", "a.ft", cwd=place).returncode == 0
    assert compared(place, "a.yaml", "a.ft", 0)["equal"]


def test_a_side_that_cannot_be_read(place: Path) -> None:
    put(place, "a.ft", "sft {")
    assert ftc("diff", "a.ft", "a.ft", cwd=place).returncode == 2


def test_a_table_that_is_a_value_is_compared(place: Path) -> None:
    text = RECIPE.format(count=1, rank=8, lr="1e-4")
    put(place, "a.ft", text)
    put(place, "b.ft", f'{text}launch {{ with = ray, runtime_env {{ pip = ["emoji"] }} }}\n')
    assert "runtime_env" in json.dumps(compared(place, "a.ft", "b.ft", 1))
