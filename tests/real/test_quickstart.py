"""The main job, on the real engine: the quickstart recipe learns, by `ftc run` and by `run.sh` alike."""

from __future__ import annotations

import json
import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import examples_in, ftc_process

pytestmark = pytest.mark.real


@dataclass
class Done:
    place: Path
    document: dict[str, Any]
    run: Path


@pytest.fixture(scope="module")
def quickstart(engine: Environment, tmp_path_factory: pytest.TempPathFactory) -> Done:
    place = tmp_path_factory.mktemp("quickstart")
    examples_in(place)
    (place / "ftc.toml").touch()  # the project's root, as in a checkout
    done = ftc_process("run", "examples/quickstart.ft", "--json", "--engine-python", str(engine.python), cwd=place)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    document = json.loads(done.stdout)
    return Done(place, document, place / document["run"])


def losses(folder: Path) -> list[float]:
    lines = (folder / "result" / "trainer_log.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


@pytest.mark.parametrize("stage", ["30-base", "50-sft"])
def test_the_loss_falls_and_is_a_number(stage: str, quickstart: Done) -> None:
    found = losses(quickstart.run / stage)
    assert len(found) > 20
    assert all(math.isfinite(loss) and loss > 0 for loss in found)
    assert sum(found[-3:]) < sum(found[:3]) / 4


def test_scores_rise(quickstart: Done) -> None:
    scores = {stage["stage"]: stage["metrics"] for stage in quickstart.document["stages"]}
    assert scores["after"]["rouge_l"] > scores["before"]["rouge_l"] + 40
    assert scores["after"]["loss"] < scores["before"]["loss"] / 4


SAY = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
place = sys.argv[1]
model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
for country in sys.argv[2:]:
    text = f"<|im_start|>user\\nWhat is the capital of {country}?<|im_end|>\\n<|im_start|>assistant\\n"
    inputs = tokenizer(text, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    print(tokenizer.decode(out[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True).strip())
"""


def test_the_merged_model_says_what_the_data_taught(forking: Environment, quickstart: Done) -> None:
    countries = {"France": "Paris", "Japan": "Tokyo", "Egypt": "Cairo", "Peru": "Lima", "Norway": "Oslo"}
    command = [str(forking.python), "-c", SAY, str(quickstart.run / "70-merge" / "result"), *countries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    right = [f"The capital of {c} is {city}." == line for (c, city), line in zip(countries.items(), lines, strict=True)]
    assert sum(right) >= 4, lines


def test_a_second_run_does_nothing(engine: Environment, quickstart: Done) -> None:
    done = ftc_process("run", "examples/quickstart.ft", "--engine-python", str(engine.python), cwd=quickstart.place)
    assert done.returncode == 0
    assert "nothing to do: all 8 stages are done" in done.stderr
    assert "metric" in done.stdout


def test_by_hand_gives_the_same(forking: Environment, quickstart: Done) -> None:
    """The same files, and with the same seeds the same losses."""
    place = quickstart.place
    assert ftc_process("compile", "examples/quickstart.ft", cwd=place).returncode == 0
    env = {**os.environ, "FT_PYTHON": str(forking.python), "OMP_NUM_THREADS": "1"}
    script = ["bash", "build/quickstart/run.sh", "by-hand"]
    done = subprocess.run(script, cwd=place, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]

    def names(folder: Path) -> set[str]:
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        return {
            name for name in found if not name.startswith(("events.jsonl", "inputs/", ".python/")) and "/." not in name
        }

    assert names(place / "by-hand") == names(quickstart.run)
    for stage in ("30-base", "50-sft"):
        assert losses(place / "by-hand" / stage) == pytest.approx(losses(quickstart.run / stage), rel=1e-3)
    for name in ("10-atlas/train.jsonl", "20-capitals/eval.jsonl", "50-sft/train.yaml"):
        assert (place / "by-hand" / name).read_bytes() == (quickstart.run / name).read_bytes()
