"""`ftc data show` of TRL's stages against what TRL's trainers hand to the model: the same ids and labels, for ten templates and
every kind of row.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ftdsl import catalog
from ftdsl.run.environments import Environment
from tests.conftest import ROOT, ftc
from tests.real.test_data_show import TEMPLATES
from tests.real.trained import write_rows

pytestmark = pytest.mark.real

KINDS = {
    "cut": "sft cut { data = chats, max_len = 24, lora {} }",
    "all": "sft all { data = chats, train_on = everything, lora {} }",
    "last": "sft last { data = chats, train_on = last_response, lora {} }",
    "texts": 'pretrain texts { data = file("texts.jsonl"), max_len = 12, full {} }',
    "single": 'pretrain single { data = file("texts.jsonl"), packing = false, max_len = 12, full {} }',
    "pairs": 'dpo pairs { data = file("pairs.jsonl"), max_len = 20, lora {} }',
    "liked": 'kto liked { data = file("liked.jsonl"), lora {} }',
    "judge": 'reward judge { data = file("pairs.jsonl"), lora {} }',
    "prompts": 'grpo prompts { data = file("rows.jsonl"), rewards = [format(tags = [answer])], generations = 2, '
    "batch { global = 4, micro = 2 }, max_len = 40, generate { max_new_tokens = 28 }, lora {} }",
}
RECIPE = """
engine = trl
hardware { gpu = none, count = 1 }
template = qwen3_nothink
max_len  = 64
duration = 1 steps
batch    { micro = 2 }
save     { every = never }
model    = file("toy")
data chats { source = file("chats.jsonl") }
"""
TOY = """
import json, sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
marks = json.loads(sys.argv[1])
own = Tokenizer(models.BPE())
own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
own.train_from_iterator([sys.argv[2]], trainers.BpeTrainer(vocab_size=500, special_tokens=marks, show_progress=False,
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
PreTrainedTokenizerFast(tokenizer_object=own, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained("toy")
Qwen3ForCausalLM(Qwen3Config(vocab_size=600, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, head_dim=8, pad_token_id=marks.index("<pad>"))).save_pretrained("toy")
"""
CHATS = [
    [("user", "Where is Rome?"), ("assistant", "Rome is in Italy, as anybody knows."), ("user", "And Oslo?"),
     ("assistant", "<think>\nNorth.\n</think>\n\nIn Norway \u00e9\u4e2d.")],
    [("system", "Be kind."), ("user", "One"), ("assistant", "Two")],
]  # fmt: skip


def _marks() -> list[str]:
    listed = [catalog.chat_formats()[1][name] for name in TEMPLATES]
    slots = [
        slot for fact in listed for part in ("prefix", "system", "user", "assistant") for slot in fact.get(part, ())
    ]
    tokens = {slot["token"] for slot in slots if isinstance(slot, dict) and "token" in slot}
    tokens |= {token for fact in listed for token in fact.get("stop", ())}
    return ["<s>", "</s>", "<pad>", "<|endoftext|>", *sorted(tokens - {"<|endoftext|>"})]


@pytest.fixture(scope="module")
def project(forking_trl: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with all stages, its rows, and a toy."""
    folder = tmp_path_factory.mktemp("shown")
    write_rows(folder, 12)
    chats = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in CHATS]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats), encoding="utf-8")
    stages = [f"sft t_{name} {{ data = chats, template = {name}, lora {{}} }}" for name in TEMPLATES] + [
        *KINDS.values()
    ]
    (folder / "r.ft").write_text(RECIPE + "\n".join(stages), encoding="utf-8")
    text = json.dumps(chats) + (folder / "rows.jsonl").read_text(encoding="utf-8")
    subprocess.run(
        [forking_trl.python, "-c", TOY, json.dumps(_marks()), text],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder


@pytest.fixture(scope="module")
def made(project: Path, forking_trl: Environment) -> dict[str, dict[str, Any]]:
    """By stage: what `ftc data show` gives, and what the trainer hands to the model."""
    done = ftc("compile", "r.ft", cwd=project)
    assert done.returncode == 0, done.stderr
    run = project / "run"
    shutil.copytree(project / "build" / "r", run, ignore=shutil.ignore_patterns("inputs"))
    (run / "inputs").symlink_to(project)
    manifest = [path.parent.name for path in run.glob("*/launch.sh")]
    data = next(name for name in manifest if name.endswith("-chats"))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "FT_PYTHON": str(forking_trl.python)}
    subprocess.run(["bash", run / data / "launch.sh"], cwd=run, env=env, check=True, capture_output=True, timeout=300)
    specs = sorted(f"{name}/stage.json" for name in manifest if (run / name / "stage.json").exists())
    probe = ROOT / "tests" / "real" / "trl_show_probe.py"
    ended = subprocess.run(
        [forking_trl.python, probe, *specs], cwd=run, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    found: dict[str, dict[str, Any]] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", [*(f"t_{name}" for name in TEMPLATES), *KINDS])
def test_ids_and_labels_are_the_trainers(name: str, made: dict[str, dict[str, Any]]) -> None:
    ours = [
        [[side["ids"], side["labels"]] for side in row["sides"]] for row in made[name]["ours"]["rows"] if row["sides"]
    ]
    theirs = made[name]["trainer"]
    assert ours and len(ours) == min(len(theirs), 50)
    for mine, row in zip(ours, theirs, strict=False):
        assert [ids for ids, _ in mine] == [ids for ids, _ in row]
        assert all(labels is None or labels == wanted for (_, wanted), (_, labels) in zip(mine, row, strict=True))
    assert any(labels for row in theirs for _, labels in row) == (name not in ("judge", "prompts"))


def test_what_is_cut_and_what_has_no_room(made: dict[str, dict[str, Any]]) -> None:
    first = made["cut"]["ours"]["rows"][0]["sides"][0]
    assert len(first["ids"]) <= 24 < first["whole"]
    for row in made["prompts"]["ours"]["rows"]:
        assert row["dropped"] == (not row["sides"]) and (not row["dropped"] or "12 are left" in row["why"])
    assert len(made["prompts"]["trainer"]) == sum(not row["dropped"] for row in made["prompts"]["ours"]["rows"])


def test_the_command_shows_a_stage(project: Path, made: dict[str, dict[str, Any]], forking_trl: Environment) -> None:
    """Plain text, without a colour; the data stage must have run."""
    arguments = ("data", "show", "r.ft", "pairs", "--engine-python", str(forking_trl.python), "--rows", "2")
    done = ftc(*arguments, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "row 2 of pairs.jsonl rejected" in done.stdout and "⟦" in done.stdout and "CUT" in done.stdout
    later = ftc("data", "show", "r.ft", "cut", "--engine-python", str(forking_trl.python), cwd=project)
    assert later.returncode == 1 and "FT976" in later.stderr and "--only chats" in later.stderr
