"""`ftc data show` against the engine's own preprocessing: the same ids and labels, for ten templates and every kind of row."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.command import ftc
from tests.conftest import ROOT

pytestmark = pytest.mark.real

TEMPLATES = (
    "qwen3",
    "qwen3_nothink",
    "llama3",
    "mistral",
    "gemma2",
    "chatml",
    "deepseekr1",
    "phi4",
    "vicuna",
    "alpaca",
)
KINDS: dict[str, dict[str, Any]] = {
    "cut": {"cutoff_len": 40}, "everything": {"train_on_prompt": True}, "last response": {"mask_history": True},
    "packed": {"packing": True, "neat_packing": True, "cutoff_len": 200}, "dpo": {"stage": "dpo", "dataset": "pairs"},
    "kto": {"stage": "kto", "dataset": "marked"}, "plain text": {"stage": "pt", "dataset": "texts", "cutoff_len": 20},
    "reasoning": {"template": "qwen3", "enable_thinking": False},
}  # fmt: skip

PROBE = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from runtime import show
from runtime.tokens import STAGES

chats = [
    {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is Rome?"},
                  {"role": "assistant", "content": "Rome is in Italy, as anybody knows."},
                  {"role": "user", "content": "And Oslo?"},
                  {"role": "assistant", "content": "<think>\\nNorth.\\n</think>\\n\\nIn Norway \\u00e9\\u4e2d."}]},
    {"messages": [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}]},
]
pairs = [{"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Good day"},
          "rejected": {"from": "gpt", "value": "No"}}]
marked = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": w}], "label": k}
          for w, k in (("yes", True), ("no", False))]
texts = [{"text": "Rome is the capital of Italy, and has been so for some time."}]
for name, rows in {"chats": chats, "pairs": pairs, "marked": marked, "texts": texts}.items():
    Path(f"{name}.json").write_text(json.dumps(rows))
tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
Path("dataset_info.json").write_text(json.dumps({
    "chats": {"file_name": "chats.json", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags},
    "pairs": {"file_name": "pairs.json", "formatting": "sharegpt", "ranking": True,
              "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}},
    "marked": {"file_name": "marked.json", "formatting": "sharegpt", "columns": {"messages": "messages", "kto_tag": "label"},
               "tags": tags},
    "texts": {"file_name": "texts.json", "columns": {"prompt": "text"}}}))
raw = Tokenizer(models.BPE())
raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
raw.train_from_iterator([json.dumps(chats)], trainers.BpeTrainer(
    vocab_size=500, special_tokens=["<pad>", "<eos>", "<bos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", bos_token="<bos>", pad_token="<pad>").save_pretrained("toy")
Qwen3ForCausalLM(Qwen3Config(vocab_size=512, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                             num_key_value_heads=2, head_dim=8)).save_pretrained("toy")

def ours(config):
    made = show.rows(dict(config), 9)
    return [[(side["ids"], side["labels"]) for side in row["sides"]] for row in made["rows"]], made

def engines(config):  # what a training reads
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(dict(config))
    parts = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(parts["tokenizer"], data_args)
    stage = STAGES.get(finetuning_args.stage, finetuning_args.stage)
    rows = get_dataset(template, model_args, data_args, training_args, stage=stage, **parts)["train_dataset"]
    found = []
    for row in rows:
        names = [name for name in ("input_ids", "chosen_input_ids", "rejected_input_ids") if name in row]
        found.append([(row[name], row.get(name.replace("input_ids", "labels"), row[name])) for name in names])
    return found

out = {}
for name, more in json.loads(sys.argv[2]).items():
    config = {"model_name_or_path": "toy", "stage": "sft", "do_train": True, "finetuning_type": "lora",
              "dataset": "chats", "dataset_dir": ".",
              "template": "qwen3_nothink", "cutoff_len": 128, "output_dir": "out", "use_cpu": True, "report_to": "none",
              "overwrite_cache": True, **more}
    rows, made = ours(config)
    out[name] = [rows, engines(config), made]
Path("out.json").write_text(json.dumps(out))
"""


@pytest.fixture(scope="module")
def made(forking: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By template or kind of row: ids and labels of ours, of the engine, and all that ours gives."""
    cases = {**{name: {"template": name} for name in TEMPLATES}, **KINDS}
    folder = tmp_path_factory.mktemp("rows")
    command: list[Any] = [forking.python, "-c", PROBE, ROOT / "ftdsl", json.dumps(cases)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", [*TEMPLATES, *KINDS])
def test_ids_and_labels_are_the_engines(name: str, made: dict[str, Any]) -> None:
    ours, engines, _ = made[name]
    assert engines, "the engine kept rows"
    assert ours == engines


def _sides(made: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    for row in made[name][2]["rows"]:
        yield from row["sides"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_learned_is_what_the_labels_say(name: str, made: dict[str, Any]) -> None:
    for side in _sides(made, name):
        learned = [part["text"] for part in side["parts"] if part["learned"]]
        assert side["learned"] == sum(label != -100 for label in side["labels"]) > 0
        assert "Where is Rome?" not in "".join(learned), "prompts are masked"
    first = next(_sides(made, name))
    assert "Rome is in Italy" in "".join(part["text"] for part in first["parts"] if part["learned"])


def test_a_row_that_is_cut_tells_its_whole_length(made: dict[str, Any]) -> None:
    first, second = _sides(made, "cut")
    assert len(first["ids"]) <= 40 < first["whole"]
    assert len(second["ids"]) == second["whole"] <= 40


def test_padding_of_a_pack_is_no_part_of_its_text(made: dict[str, Any]) -> None:
    (pack,) = _sides(made, "packed")
    assert pack["padding"] > 0 and "<pad>" not in "".join(part["text"] for part in pack["parts"])


RECIPE = """
sft {
  model    = file("toy")
  data     = file("rows.jsonl")
  template = qwen3_nothink
  max_len  = 16
  duration = 1 epoch
  lora {}
}
"""


def test_the_command_shows_a_stage(forking: Environment, made: dict[str, Any], tmp_path: Path,
                                   tmp_path_factory: pytest.TempPathFactory) -> None:  # fmt: skip
    toy = next(path for path in tmp_path_factory.getbasetemp().glob("rows*/toy"))
    (tmp_path / "toy").symlink_to(toy)
    answer = "A long answer that has more tokens than there is room for, \x1b[31m red."
    rows = [{"instruction": "Hi", "input": "", "output": text} for text in ("Yo", answer)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "r.ft").write_text(RECIPE, encoding="utf-8")
    python = str(forking.python)
    done = ftc("data", "show", "r.ft", "--engine-python", python, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "⟦" in done.stdout and "CUT" in done.stdout and "\x1b" not in done.stdout
    assert "ftc explain r.ft sft.max_len" in done.stderr
    assert not (tmp_path / "runs").exists() and not (tmp_path / "build").exists(), "nothing is written"


def test_what_is_not_there_is_told_at_its_line(forking: Environment, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Hi", "input": "", "output": "Yo"}\n', encoding="utf-8")
    made_later = RECIPE.replace(
        'file("toy")', "scratch(architecture = qwen3, hidden = 16, layers = 1, heads = 2, vocab = 300)"
    )
    (tmp_path / "r.ft").write_text(made_later, encoding="utf-8")
    python = str(forking.python)
    done = ftc("data", "show", "r.ft", "sft", "--engine-python", python, cwd=tmp_path)
    assert done.returncode == 1
    assert "FT976" in done.stderr and "ftc run r.ft --only" in done.stderr
    assert ftc("data", "show", "r.ft", "stf", "--engine-python", python, cwd=tmp_path).returncode == 2
    none = ftc("data", "show", "r.ft", "sft", "--engine-python", "nowhere/python", cwd=tmp_path)
    assert none.returncode == 1 and none.stderr
