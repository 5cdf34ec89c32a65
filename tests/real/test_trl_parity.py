"""One recipe, both engines: rows get the same token ids and labels, and a first step has the same loss."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ftdsl import catalog
from ftdsl.run.environments import Environment
from ftdsl.runtime.tuning import tokens
from ftdsl.runtime.tuning.formats import format_of
from ftdsl.runtime.tuning.rows import Row
from tests.conftest import ROOT
from tests.real.trained import run, write_rows

pytestmark = pytest.mark.real

WORDS = "red blue green seven eight north south apple river stone cloud paper glass metal voice light".split()
LIMIT = 40


def conversations() -> dict[str, list[dict[str, Any]]]:
    """Rows by stage as LLaMA-Factory aligns them: with and without a system prompt, several turns, thoughts, too long ones."""
    rng = random.Random(3)

    def text(most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))

    def turns(count: int, most: int) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[at % 2], "content": text(most)} for at in range(count)]

    sft = [{"prompt": turns(2 * rng.randint(0, 2) + 1, most), "response": [{"role": "assistant", "content": text(most)}],
            "system": rng.choice(["", "be brief"])} for most in (4, 8, 24) for _ in range(6)]  # fmt: skip
    thoughtful = {"role": "assistant", "content": "<think>\nso it is\n</think>\n\nyes"}
    sft += [{"prompt": [*turns(1, 4), thoughtful, *turns(1, 4)], "response": [thoughtful], "system": ""}]
    pairs = [{**row, "response": [row["response"][0], {"role": "assistant", "content": text(8)}]} for row in sft]
    empty = {"role": "assistant", "content": ""}
    liked = [{**row, "response": [row["response"][0], empty] if at % 2 else [empty, row["response"][0]]}
             for at, row in enumerate(sft)]  # fmt: skip
    texts = [{"prompt": [{"role": "user", "content": text(30)}], "response": []} for _ in range(20)]
    return {"sft": sft, "dpo": pairs, "kto": liked, "pt": texts}


ROWS = conversations()
TEMPLATES = tuple(catalog.chat_formats()[1])
"""All of them."""
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "last": {"mask_history": True},
    "everything": {"train_on_prompt": True},
    "thoughtless": {"enable_thinking": False},
    "system": {"default_system": "answer in one word"},
}


def cases() -> list[dict[str, Any]]:
    listed = catalog.chat_formats()[1]
    whole = [{"stage": stage, "template": name, "options": {}} for name in TEMPLATES for stage in ("sft", "dpo")]
    whole += [{"stage": "kto", "template": name, "options": {}} for name in ("qwen", "qwen3", "glm4")]
    others = [{"stage": "sft", "template": name, "options": options} for name in ("qwen", "qwen3", "llama2", "glm4")
              for key, options in OPTIONS.items() if key != "plain"
              and not (key == "everything" and listed[name].get("efficient_eos"))]  # fmt: skip
    texts = [{"stage": "pt", "template": "qwen", "options": {"packing": packed}} for packed in (True, False)]
    return [{"name": str(number), **case} for number, case in enumerate([*whole, *others, *texts])]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, forking_trl: Environment) -> Path:
    """A tokenizer with the tokens of every template, made by the runtime's own code."""
    folder = tmp_path_factory.mktemp("tokenizer")
    marks = {mark for name in TEMPLATES for mark in _marks(catalog.chat_formats()[1][name])}
    program = (
        "import json, sys\n"
        "from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers\n"
        "from transformers import PreTrainedTokenizerFast\n"
        "marks = json.loads(sys.argv[1])\n"
        "own = Tokenizer(models.BPE())\n"
        "own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)\n"
        "own.decoder = decoders.ByteLevel()\n"
        "own.train_from_iterator([sys.argv[2]], trainers.BpeTrainer(vocab_size=400, special_tokens=marks,\n"
        "    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))\n"
        "PreTrainedTokenizerFast(tokenizer_object=own, bos_token='<s>', eos_token='</s>', pad_token='<pad>').save_pretrained(\n"
        "    sys.argv[3])\n"
    )
    special = ["<s>", "</s>", "<pad>", "<|endoftext|>", *sorted(marks)]
    subprocess.run(
        [str(forking_trl.python), "-c", program, json.dumps(special), " ".join(WORDS), str(folder)],
        check=True,
        timeout=120,
    )
    return folder


def _marks(fact: Any) -> list[str]:
    slots = [slot for part in ("prefix", "system", "user", "assistant") for slot in fact.get(part, ())]
    return [*fact.get("stop", ()), *(slot["token"] for slot in slots if isinstance(slot, dict) and "token" in slot)]


class Reader:
    """The tokenizer in the tests' own Python, which has `tokenizers` and not transformers."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.inner = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.bos_token, self.eos_token, self.pad_token = "<s>", "</s>", "<pad>"

    def get_vocab(self) -> dict[str, int]:
        return dict(self.inner.get_vocab())

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return list(self.inner.encode(text, add_special_tokens=False).ids)

    def __call__(self, texts: list[str], add_special_tokens: bool = False) -> dict[str, list[list[int]]]:
        return {"input_ids": [self.encode(text) for text in texts]}

    def convert_tokens_to_ids(self, token: str) -> int:
        return int(self.inner.token_to_id(token))

    def add_special_tokens(self, tokens_: dict[str, str]) -> None:
        for name, token in tokens_.items():
            setattr(self, name, token)

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("_token_id"):
            raise AttributeError(name)
        return self.convert_tokens_to_ids(getattr(self, name.removesuffix("_id")))


def ours(case: dict[str, Any], folder: Path) -> dict[str, list[Any]]:
    """The same columns by the runtime."""
    options, reader = case["options"], Reader(folder)
    spec = {"name": case["template"], **catalog.chat_formats()[1][case["template"]]}
    spec.setdefault("assistant", ["{{content}}"]) if spec.get("efficient_eos") else None
    spec |= {"default_system": options["default_system"]} if "default_system" in options else {}
    spec |= {"thinking": options["enable_thinking"]} if "enable_thinking" in options else {}
    format = format_of(spec)
    format.prepare(reader)
    rows = ROWS[case["stage"]]
    if case["stage"] == "pt":
        texts = [row["prompt"][0]["content"] for row in rows]
        return {"input_ids": tokens.plain(reader, texts, LIMIT, packed=options["packing"])}
    made: list[dict[str, Any]] = []
    for row in rows:
        messages = tuple((turn["role"], turn["content"]) for turn in row["prompt"])
        answers = tuple(turn["content"] for turn in row["response"])
        if case["stage"] == "sft":
            train_on = (
                "last_response"
                if options.get("mask_history")
                else "everything"
                if options.get("train_on_prompt")
                else ""
            )
            whole = Row((*messages, ("assistant", answers[0])), row["system"])
            made.append(tokens.supervised(format, reader, whole, LIMIT, train_on))
        elif case["stage"] == "dpo":
            parts = tokens.preference(format, reader, Row(messages, row["system"], answers), LIMIT)
            made.append(
                {f"{name}_input_ids": parts["prompt_ids"] + parts[f"{name}_ids"] for name in ("chosen", "rejected")}
            )
        else:
            good = bool(answers[0])
            parts = tokens.feedback(format, reader, Row(messages, row["system"], ("".join(answers),), good), LIMIT)
            made.append({"input_ids": parts["prompt_ids"] + parts["completion_ids"], "kto_tags": parts["label"],
                         "labels": [tokens.IGNORED] * len(parts["prompt_ids"]) + parts["completion_ids"]})  # fmt: skip
    return {name: [row[name] for row in made] for name in made[0]}


def test_rows_get_the_same_ids_and_labels_in_both_engines(
    forking: Environment, tokenizer: Path, tmp_path: Path
) -> None:
    listed = cases()
    (tmp_path / "spec.json").write_text(
        json.dumps({"model": str(tokenizer), "cutoff_len": LIMIT, "rows": ROWS, "cases": listed}), encoding="utf-8"
    )
    probe = ROOT / "tests" / "real" / "trl_parity_probe.py"
    done = subprocess.run(
        [str(forking.python), str(probe), str(tmp_path / "spec.json")],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    different = []
    for case in listed:
        expected = theirs[case["name"]]
        assert "error" not in expected, (case, expected)
        for column, values in ours(case, tokenizer).items():
            if values != expected[column]:
                at = next(
                    index
                    for index, pair in enumerate(zip(values, expected[column], strict=False))
                    if pair[0] != pair[1]
                )
                different.append(
                    f"{case['stage']} {case['template']} {case['options']} {column}[{at}]: {values[at]} {expected[column][at]}"
                )
    assert different == []
    assert len(listed) > 250


def test_the_first_step_has_the_same_loss_in_both_engines(
    forking: Environment, forking_trl: Environment, tmp_path: Path
) -> None:
    """Same rows, seed, order and rate. Later steps differ by rounding: TRL computes the loss in blocks of tokens."""
    write_rows(tmp_path)
    stages = {"ours": "engine = trl, full { }", "theirs": "engine = llamafactory, full { }"}
    pythons = f"trl={forking_trl.python},llamafactory={forking.python}"
    done = run(tmp_path, stages, Path(pythons))
    first, second = done["ours"].losses, done["theirs"].losses
    assert abs(first[1] - second[1]) <= 1e-4, (first[1], second[1])
    assert max(abs(first[step] - second[step]) for step in first) < 2e-2
    assert first[24] < first[1] - 0.2, "it learns"
