"""Where a value comes from: the layers in order, the one that counts marked."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import ALPACA, ftc

RECIPE = """\
hardware { gpu = none }
optim { schedule = linear }
sft {
  model = hf("Qwen/Qwen3-8B")
  data  = file("rows.jsonl")
  lora  { rank = 64 }
  batch { global = 8, micro = 2 }
}
profile small { sft.lora.rank = 16 }
"""


def explain(folder: Path, key: str, *more: str) -> tuple[int, str]:
    (folder / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    (folder / "r.ft").write_text(RECIPE, encoding="utf-8")
    done = ftc("explain", "r.ft", key, *more, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def test_every_layer_that_spoke(tmp_path: Path) -> None:
    status, said = explain(tmp_path, "sft.lora.rank", "--profile", "small", "--set", "sft.lora.rank=128")
    assert status == 0
    lines = said.splitlines()
    assert lines[0] == "sft.lora.rank = 128"
    assert [line.split("]")[0].split("[")[1] for line in lines[1:4]] == ["stage", "profile", "set"]
    assert [line.startswith("  ->") for line in lines[1:4]] == [False, False, True]
    assert "becomes lora_rank; LLaMA-Factory's own default: 8" in said


def test_shared_blocks_choices_and_defaults(tmp_path: Path) -> None:
    assert "-> r.ft:2 [file]: linear" in explain(tmp_path, "sft.optim.schedule")[1]
    assert "from the batch equation" in explain(tmp_path, "sft.batch.accumulate")[1]
    assert "the language's default" in explain(tmp_path, "sft.save.keep")[1]


def test_as_json(tmp_path: Path) -> None:
    told = json.loads(explain(tmp_path, "sft.lora.rank", "--json", "--profile", "small")[1])
    assert (told["value"], told["becomes"], told["engine_default"]) == ("16", ["lora_rank"], "8")
    assert [layer["layer"] for layer in told["layers"]] == ["stage", "profile"]
    assert told["layers"][1]["where"] == "profile small (r.ft:9)"


def test_what_does_not_exist(tmp_path: Path) -> None:
    assert explain(tmp_path, "sft.lr") == (2, "error: a `sft` stage has no key `lr`; did you mean `sft.optim.lr`?\n")
    assert explain(tmp_path, "stf.optim.lr")[0] == 2
