"""Rows of a step, as `ftc diagnose --rows` names them, are those that the engine really computed in it."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from ftdsl.run.step_rows import NoRowsError, rows_of_steps
from tests.conftest import ftc_process
from tests.real import trained

pytestmark = pytest.mark.real

ROWS = 'callbacks = ["shims:Rows"], lora {}'
TWO = "hardware.count = 2"
PHASES = "batch.ramp = [phase(until = 3 steps, micro = 2, accumulate = 4), phase(micro = 4, accumulate = 4)]"
SFT = {
    "plain": f"batch {{ micro = 3, accumulate = 3 }}, duration = 2 epochs, {ROWS}",
    "two": f"batch {{ micro = 3, accumulate = 2 }}, duration = 2 epochs, {TWO}, {ROWS}",
    "ramp": f"{PHASES}, duration = 2 epochs, {ROWS}",
    "packed": f"batch {{ micro = 2, accumulate = 2 }}, duration = 2 epochs, max_len = 96, packing = true, {ROWS}",
    "packed_plainly": f"batch {{ micro = 2 }}, duration = 1 epochs, max_len = 96, packing = plain, {ROWS}",
    "in_order": f"batch {{ micro = 4 }}, duration = 1 epochs, loader {{ order = sequential }}, {ROWS}",
    "held": f"data = kept, batch {{ micro = 4 }}, duration = 2 epochs, evaluate {{ data = kept.eval }}, {ROWS}",
}
MORE = f"""
data kept {{
  source = file("rows.jsonl")
  holdout {{ eval = 10% }}
  drop_rows = ["rows.jsonl:7 #ROW7 it is garbage", "rows.jsonl:9"]
}}
pretrain text {{ data = file("texts.jsonl"), batch {{ micro = 2 }}, duration = 2 epochs, {ROWS} }}
dpo pairs {{ data = file("pairs.jsonl"), batch {{ micro = 2, accumulate = 2 }}, duration = 1 epochs, {ROWS} }}
kto liked {{ data = file("liked.jsonl"), batch {{ micro = 4 }}, duration = 1 epochs, {ROWS} }}
"""


@pytest.fixture(scope="module")
def ran(forking: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, trained.Trained]:
    from ftdsl.runtime.data.origins import hash_of

    place = tmp_path_factory.mktemp("rows")
    trained.write_rows(place)
    seventh = json.loads((place / "rows.jsonl").read_text(encoding="utf-8").splitlines()[6])
    shutil.copy(Path(__file__).with_name("shims.py"), place)
    return trained.run(place, SFT, forking.python, batch="", more=MORE.replace("ROW7", hash_of(seventh)))


def computed(stage: trained.Trained) -> dict[int, set[str]]:
    """Step -> the questions (`say 17`) whose tokens went through the model in it, of all ranks."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(next(stage.folder.parent.glob("*-scratch/result/tokenizer.json"))))
    found: dict[int, set[str]] = {}
    for path in sorted(stage.folder.parent.glob(f"rows-{stage.folder.name}-*.jsonl")):
        for step, rows in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            texts = tokenizer.decode_batch(rows, skip_special_tokens=False)
            found.setdefault(step + 1, set()).update(q for text in texts for q in re.findall(r"say \d+", text))
    return found


def named(stage: trained.Trained, steps: list[int], python: Path) -> dict[int, set[str]]:
    rows = rows_of_steps(stage.folder.parent, stage.folder.name, steps, "step_rows.py", python, os.environ)
    found: dict[int, set[str]] = {step: set() for step in steps}
    for row in rows:
        path, _, line = row.where.rpartition(":")
        text = (stage.folder.parent / "inputs" / path).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        assert json.loads(text) == json.loads(row.text), row
        for step in row.steps:
            found[step] |= set(re.findall(r"say \d+", text))
    return found


@pytest.mark.parametrize("name", [*SFT, "pairs", "liked"])
def test_rows_of_a_step_are_those_that_were_computed(
    name: str, ran: dict[str, trained.Trained], forking: Environment
) -> None:
    seen = computed(ran[name])
    last = max(seen)
    steps = sorted({1, 2, last // 2, last // 2 + 1, last - 1, last})
    assert named(ran[name], steps, forking.python) == {step: seen[step] for step in steps}


def test_text_that_is_cut_into_blocks(ran: dict[str, trained.Trained], forking: Environment) -> None:
    """A row that a block's border cuts belongs to both; of a question that is cut only a part can be read, or nothing."""
    seen = computed(ran["text"])
    found = named(ran["text"], [1, 2, max(seen)], forking.python)
    for step, questions in found.items():
        assert all(any(whole.startswith(part) for whole in questions) for part in seen[step])
        assert len(questions - seen[step]) <= 4


def test_rows_that_are_named_are_left_out(ran: dict[str, trained.Trained]) -> None:
    folder = next(ran["held"].folder.parent.glob("*-kept"))
    dropped = [json.loads(line) for line in (folder / "dropped.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["why"], row["line"], row.get("reason")) for row in dropped] == [
        ("named", 7, "it is garbage"),
        ("named", 9, None),
    ]
    assert not {"say 6", "say 8"} & set().union(*computed(ran["held"]).values())


def test_a_folder_that_does_not_train(ran: dict[str, trained.Trained], forking: Environment) -> None:
    from ftdsl.run.step_rows import stage_of

    folder = next(ran["held"].folder.parent.glob("*-kept"))
    with pytest.raises(NoRowsError):
        stage_of(folder.parent, folder.name)


BAD = """\
engine = llamafactory("0.9.5")
seed   = 3

hardware { gpu = none, count = 1 }
template = qwen3_nothink

data rows { source = file("rows.jsonl"), holdout { eval = 24, seed = 1 } }

sft {
  model    = scratch(architecture = qwen3, hidden = 64, layers = 2, heads = 4, vocab = 420)
  data     = rows
  max_len  = 128
  duration = 2 epochs

  full  {}
  optim { lr = 2e-3 }
  batch { global = 8, micro = 4 }
  track { every = 1 steps }
}
"""


def test_the_row_behind_spikes_is_found_and_left_out(forking: Environment, tmp_path: Path) -> None:
    """One row of garbage: both of its steps spike, it is the one that both have, and without it the run is healthy."""
    trained.write_chains(tmp_path, bad=211)
    (tmp_path / "bad.ft").write_text(BAD, encoding="utf-8")
    (tmp_path / "ftc.toml").touch()
    python = ("--engine-python", str(forking.python))
    assert ftc_process("run", "bad.ft", "--plain", "--no-preload", *python, cwd=tmp_path).returncode == 0
    shown = ftc_process("diagnose", "bad.ft", "--rows", "spikes", "--json", *python, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert len(document["steps"]) == 2
    assert document["rows"][0]["where"] == "rows.jsonl:212"
    assert [row["steps"] for row in document["rows"]].count(document["steps"]) == 1
    done = ftc_process("diagnose", "bad.ft", "--rows", "spikes", "--drop", "rows.jsonl:212", *python, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rows.jsonl:212 #" in (tmp_path / "bad.ft").read_text(encoding="utf-8")
    assert ftc_process("run", "bad.ft", "--plain", "--no-preload", *python, cwd=tmp_path).returncode == 0
    again = ftc_process("diagnose", "bad.ft", cwd=tmp_path)
    assert (again.returncode, "healthy" in again.stdout) == (0, True), again.stdout
