"""More real short trainings with something planted in them, on plain transformers and trl: run by the engine's Python.

`python diagnosis_trainer.py FOLDER [--only NAME,…] [--family N]`. No run shares its task, model, batch, length and schedule with
those of diagnosis_runs.py: models of five architectures (a mixture of experts among them) read text of this project byte by byte,
maps, sums and chains of words; healthy kinds include what looks odd and is not (a resume in the middle, a curriculum, many epochs
of few rows, one row a step). What is written: the config, and what the Trainer logged at every step.
"""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diagnosis_runs import Ends, curves, planted

ROOT = Path(__file__).parent.parent
FAMILIES: dict[int, dict[str, Any]] = {
    7: {"model": "gpt2", "hidden": 64, "layers": 2, "vocab": 300, "task": "map", "batch": 6, "lr": 1.5e-3, "steps": 240,
        "schedule": "linear", "length": 14, "epsilon": 0.15},
    8: {"model": "llama", "hidden": 48, "layers": 3, "vocab": 900, "task": "chain", "batch": 16, "lr": 3e-3, "steps": 160,
        "schedule": "cosine", "length": 20, "epsilon": 0.35},
    9: {"model": "qwen3_moe", "hidden": 40, "layers": 2, "vocab": 600, "task": "sum", "batch": 12, "lr": 4e-3, "steps": 300,
        "schedule": "constant_with_warmup", "length": 12, "epsilon": 0.25},
    10: {"model": "gpt_neox", "hidden": 56, "layers": 2, "vocab": 450, "task": "chain", "batch": 8, "lr": 2e-3, "steps": 400,
         "schedule": "cosine", "length": 18, "epsilon": 0.2},
    11: {"model": "mistral", "hidden": 72, "layers": 1, "vocab": 1500, "task": "map", "batch": 24, "lr": 4e-3, "steps": 200,
         "schedule": "linear", "length": 10, "epsilon": 0.3},
}  # fmt: skip
"""7 to 9: mechanisms were mended with sight of these. 10 and 11: kept back until that was done.

epsilon: share of an answer's words that are drawn at random, which is what a model cannot learn.
"""
PROMPT = 3


class Words:
    """Rows of a family as token numbers: a prompt of three words between markers, and an answer of `length` words."""

    def __init__(self, family: dict[str, Any], seed: int) -> None:
        self.family, self.draw = family, random.Random(seed)
        table = random.Random(family["vocab"])
        self.count = family["vocab"] - 10
        self.keys = range(10, 10 + min(40, self.count // 4))
        self.map = {key: [table.randrange(10, 10 + self.count) for _ in range(family["length"])] for key in self.keys}
        self.next = {word: table.randrange(10, 10 + self.count) for word in range(10, 10 + self.count)}

    def answer(self, prompt: list[int], epsilon: float) -> list[int]:
        made: list[int] = []
        last = prompt[0]
        for place in range(self.family["length"]):
            if self.family["task"] == "map":
                word = self.map[prompt[0]][place]
            elif self.family["task"] == "sum":
                word = 10 + (prompt[0] + 7 * place + (prompt[1] % 2)) % min(80, self.count)
            else:
                word = self.next[last]
            if self.draw.random() < epsilon:
                word = self.draw.choice(self.keys)
            made.append(word)
            last = word
        return made

    def row(
        self, epsilon: float, *, noise: bool = False, markers: tuple[int, ...] = (1, 2), shift: int = 0
    ) -> dict[str, Any]:
        """One row; shift: another task, with the same words."""
        prompt = [self.draw.choice(self.keys) for _ in range(PROMPT)]
        answer = self.answer([(prompt[0] + shift - 10) % len(self.keys) + 10, *prompt[1:]], epsilon)
        if noise:
            answer = [self.draw.randrange(10, 10 + self.count) for _ in answer]
        start = [*markers[: len(markers) // 2], *prompt, *markers[len(markers) // 2 :]]
        return {"input_ids": [*start, *answer, 3], "labels": [-100] * len(start) + [*answer, 3]}

    def rows(self, count: int, **more: Any) -> list[dict[str, Any]]:
        epsilon = more.pop("epsilon", self.family["epsilon"])
        return [self.row(epsilon, **more) for _ in range(count)]


def text_rows(length: int, part: int) -> list[dict[str, Any]]:
    """Pieces of this project's documents, byte by byte. part: 0 or 1, disjoint."""
    text = b"".join(path.read_bytes() for path in sorted((ROOT / "docs").glob("*.md"))[part::2])
    pieces = [list(text[at : at + length]) for at in range(0, len(text) - length, length)]
    random.Random(part).shuffle(pieces)
    return [{"input_ids": piece, "labels": list(piece)} for piece in pieces[:1500]]


def vocabulary_of(family: dict[str, Any]) -> int:
    """Tokens of a family: bytes fit too, where its rows are no letters."""
    return int(family["vocab"] if family.get("exact") else max(family["vocab"], 256))


def make_model(family: dict[str, Any], seed: int, vocabulary: int) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    hidden, kind = family["hidden"], family["model"]
    shape: dict[str, Any] = {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 3}
    if kind == "gpt2":
        shape |= {"n_embd": hidden, "n_layer": family["layers"], "n_head": 4, "n_positions": 256}
        shape |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    else:
        shape |= {"hidden_size": hidden, "num_hidden_layers": family["layers"], "num_attention_heads": 4,
                  "intermediate_size": 3 * hidden, "max_position_embeddings": 256, "tie_word_embeddings": False}  # fmt: skip
        if kind != "gpt_neox":
            shape |= {"num_key_value_heads": 2, "head_dim": hidden // 4}
    if kind == "qwen3_moe":
        shape |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": hidden, "output_router_logits": True,
                  "router_aux_loss_coef": 0.02}  # fmt: skip
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, initializer_range=0.05, **shape))


def with_lora(model: Any, rank: int, family: dict[str, Any], *, everything: bool = True) -> Any:
    from peft import LoraConfig, get_peft_model

    few = {"gpt2": "c_attn", "gpt_neox": "query_key_value", "phi3": "qkv_proj"}.get(family["model"], "q_proj")
    targets: Any = "all-linear" if everything else [few]
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM"))


def dead(model: Any) -> Any:
    """With a last norm of next to nothing."""
    for name, weight in model.named_parameters():
        if name.endswith(("model.norm.weight", "ln_f.weight", "final_layer_norm.weight")):
            weight.data.mul_(1e-3)
    return model


def runs(family: dict[str, Any], words: Words, base: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    """Name -> what differs: `args` of the Trainer, `rows`, `held`, `model`, `plant`; see `train`."""
    lr, steps, batch = family["lr"], family["steps"], family["batch"]
    few = 5 * batch
    none = {"held": None}
    bad = words.rows(3000)
    for at in range(0, len(bad), 400):  # long rows: a loss is the mean over tokens
        long = [words.draw.randrange(10, 10 + words.count) for _ in range(6 * family["length"])]
        start = bad[at]["input_ids"][: PROMPT + 2]
        bad[at] = {"input_ids": [*start, *long], "labels": [-100] * len(start) + long}
    by_prompt = sorted(words.rows(batch * steps // 6), key=lambda row: row["input_ids"])
    easy = [row for share in (0.02, 0.1, 0.2, 0.3) for row in words.rows(batch * steps // 4, epsilon=share)]
    lora = {"model": lambda: with_lora(base(), 8, family)}
    half_noise = [row for pair in zip(words.rows(1200), words.rows(1200, noise=True), strict=True) for row in pair]
    other = {"markers": (4, 5, 6, 7, 8, 9)}
    text = {"rows": text_rows(48, 0), "held": text_rows(48, 1)[:64]}
    return {
        "masked": {"rows": [{**row, "labels": [-100] * len(row["labels"])} for row in words.rows(500)]},
        "nan": {"plant": {"nan": int(0.7 * steps)}},
        "explode": {"args": {"learning_rate": 20.0, "lr_scheduler_type": "constant", "optim": "sgd", "max_grad_norm": 0.0},
                    "plant": {"wide": 1}},
        "lr_high": {"args": {"learning_rate": 0.3, "lr_scheduler_type": "constant"}},
        "lr_low": {"args": {"learning_rate": lr / 1000}},
        "vanish": {"args": {"learning_rate": 0.01, "optim": "sgd"},
                   "model": lambda: dead(make_model(family, 1, vocabulary_of(family)))},
        "frozen": {"plant": {"dead": 1}},
        "underfit": {"model": lambda: with_lora(make_model(family, 1, family["vocab"]), 1, family, everything=False)},
        "spike_rows": {"rows": bad, "order": True},
        "spike_lr": {"plant": {"lr_spike": int(0.6 * steps), "factor": 100}, "args": {"lr_scheduler_type": "constant"}},
        "sawtooth": {"rows": by_prompt, "order": True},
        "overfit": {"rows": words.rows(few, epsilon=0.5), "args": {"learning_rate": 2 * lr}},
        "memorised": {"rows": words.rows(12 * batch, noise=True), "args": {"learning_rate": 3 * lr}, **none},
        "label_noise": {"rows": half_noise},
        "oscillate": {"args": {"per_device_train_batch_size": 1, "learning_rate": 8 * lr}},
        "template": {"model": base, "rows": words.rows(2000, **other), "held": words.rows(64, **other),
                     "args": {"learning_rate": lr / 5}},
        "leak": {"rows": words.rows(few, epsilon=0.5), "held": "rows"},
        "lr_ends": {"ends": steps // 3},
        "warmup": {"model": base, "args": {"learning_rate": 10 * lr, "warmup_steps": 0, "lr_scheduler_type": "cosine"}},
        "clipped": {"args": {"max_grad_norm": 0.02}},
        "slower": {"plant": {"slower": 1}, "args": {"max_steps": 100, "lr_scheduler_type": "linear"}, **none},
        "chosen_falls": {"pairs": "close", "args": {"learning_rate": lr / 3, "max_steps": 80}},
        "no_margin": {"pairs": "coin", "args": {"learning_rate": lr / 20, "max_steps": 80}},
        # nothing is wrong
        "healthy": {},
        "healthy_resume": {"resume": (0.4, 0.55)},
        "healthy_restarts": {"args": {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 4}}},
        "healthy_stable_decay": {"args": {"lr_scheduler_type": "warmup_stable_decay",
                                          "lr_scheduler_kwargs": {"num_decay_steps": steps // 5}}},
        "healthy_curriculum": {"rows": easy, "order": True},
        "healthy_few_rows": {"model": base, "rows": words.rows(batch * steps // 8, shift=1), "held": words.rows(64, shift=1),
                             "args": {"learning_rate": lr / 10}},
        "healthy_lora_high": {**lora, "rows": words.rows(2000, shift=2), "held": words.rows(64, shift=2),
                              "args": {"learning_rate": 3 * lr}},
        "healthy_one_row": {"args": {"per_device_train_batch_size": 1, "learning_rate": lr / 5, "max_steps": 600}},
        "healthy_dpo": {"pairs": "good", "args": {"learning_rate": lr / 40, "max_steps": 80}},
        "healthy_continued": {"model": base, "args": {"learning_rate": lr / 20}},
        "healthy_text": {**text, "args": {"learning_rate": lr}},
        "healthy_accumulate": {"args": {"per_device_train_batch_size": max(1, batch // 3), "gradient_accumulation_steps": 3}},
        "healthy_dropout": {"model": base,
                            "args": {"learning_rate": lr / 5, "weight_decay": 0.1, "label_smoothing_factor": 0.05}},
    }  # fmt: skip


def train(family: dict[str, Any], words: Words, run: dict[str, Any], seed: int, out: Path) -> dict[str, Any]:
    """A run: what the Trainer was given. It leaves trainer_state.json in the folder, and the model in the run's list `keep`."""
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainingArguments

    class Ordered(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *given: Any) -> Any:
            return SequentialSampler(self.train_dataset) if run.get("order") else super()._get_train_sampler(*given)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        longest = max(len(row["input_ids"]) for row in rows)
        padded = {"input_ids": 0, "labels": -100}
        batch = {
            key: torch.tensor([row[key] + [fill] * (longest - len(row[key])) for row in rows])
            for key, fill in padded.items()
        }
        return batch | {"attention_mask": (batch["labels"] != -100).long().fill_(1)}

    rows = run.get("rows") or words.rows(3000)
    held = run.get("held", words.rows(64))
    held = rows if held == "rows" else held
    config = {
        "per_device_train_batch_size": family["batch"], "gradient_accumulation_steps": 1, "learning_rate": family["lr"],
        "lr_scheduler_type": family["schedule"], "warmup_steps": max(4, family["steps"] // 30), "max_steps": family["steps"],
        "logging_steps": 1, "logging_nan_inf_filter": False, "seed": seed, "max_grad_norm": 1.0,
        "eval_strategy": "steps" if held else "no", "eval_steps": family["steps"] // 15, "per_device_eval_batch_size": 32,
        **run.get("args", {}),
    }  # fmt: skip
    resume = run.get("resume")
    given = {**config, "output_dir": str(out), "use_cpu": True, "report_to": "none", "disable_tqdm": True,
             "save_strategy": "no", "remove_unused_columns": False}  # fmt: skip
    if resume:
        given |= {"save_strategy": "steps", "save_steps": int(resume[0] * config["max_steps"])}
    vocabulary = vocabulary_of(family)
    model = run["model"]() if "model" in run else make_model(family, seed, vocabulary)
    steps: Any = [Ends(run["ends"])] if "ends" in run else []
    more = [*planted(run.get("plant", {})), *(make() for make in run.get("callbacks", ())), *steps]

    def trainer() -> Any:
        return Ordered(model=copy.deepcopy(model), args=TrainingArguments(**given), train_dataset=rows, eval_dataset=held,
                       data_collator=collate, callbacks=more)  # fmt: skip

    first = trainer()
    if resume:
        from transformers import TrainerCallback

        class Break(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                control.should_training_stop = state.global_step == int(resume[1] * config["max_steps"])

        first.add_callback(Break())
        first.train()
        lost = first.state.log_history
        second = trainer()
        second.train(resume_from_checkpoint=str(out / f"checkpoint-{given['save_steps']}"))
        at = given["save_steps"]
        second.state.log_history = [*lost, *(row for row in second.state.log_history if row["step"] > at)]
        first = second
    else:
        first.train()
    first.state.save_to_json(str(out / "trainer_state.json"))
    run.get("keep", []).append(first.model)
    return config


def prefer(
    family: dict[str, Any], words: Words, run: dict[str, Any], seed: int, out: Path, base: Callable[[], Any]
) -> dict[str, Any]:
    """DPO on trl: answers as text of token numbers."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    vocabulary = {f"w{number}": number for number in range(vocabulary_of(family))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w9"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="w0", eos_token="w3", bos_token="w3", unk_token="w9"
    )
    pairs = []
    for row in words.rows(800):
        prompt, answer = row["input_ids"][: PROMPT + 2], row["input_ids"][PROMPT + 2 : -1]
        key = prompt[1 : 1 + PROMPT]
        other = {
            "close": [*answer[:-1], words.draw.choice(words.keys)],
            "coin": words.answer(key, family["epsilon"]),
            "good": [
                words.draw.randrange(10, 10 + words.count) if words.draw.random() < 0.5 else word for word in answer
            ],
        }[run["pairs"]]
        texts = {"prompt": prompt, "chosen": answer, "rejected": other}
        pairs.append({name: " ".join(f"w{word}" for word in numbers) for name, numbers in texts.items()})
    config = {"per_device_train_batch_size": family["batch"], "gradient_accumulation_steps": 1,
              "lr_scheduler_type": family["schedule"],
              "warmup_steps": 4, "logging_steps": 1, "seed": seed, "max_grad_norm": 1.0, "beta": 0.1, **run["args"]}  # fmt: skip
    settings = DPOConfig(**config, output_dir=str(out), use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no",
                         bf16=False, gradient_checkpointing=False, max_length=128)  # fmt: skip
    trainer = DPOTrainer(model=base(), ref_model=base(), args=settings, train_dataset=Dataset.from_list(pairs),
    processing_class=made, callbacks=planted({}))  # fmt: skip
    trainer.train()
    trainer.state.save_to_json(str(out / "trainer_state.json"))
    return config


def known(
    family: dict[str, Any],
    words: Any,
    args: dict[str, Any],
    place: Path,
    prepared: Callable[[Any], Any] = lambda model: model,
) -> Callable[[], Any]:
    """Gives a copy of a model that knows the task, trained when it is first asked for."""
    trained: list[Any] = []

    def base() -> Any:
        if not trained:
            model = make_model(family, 1, vocabulary_of(family))
            run = {"held": None, "args": args, "model": lambda: model, "keep": trained}
            train(family, words, run, 1, place / "base")
        return prepared(copy.deepcopy(trained[0]))

    return base


def make_all(
    number: int,
    runs: dict[str, dict[str, Any]],
    made: Callable[[dict[str, Any], Path], dict[str, Any]],
    place: Path,
    target: Path,
    only: set[str],
) -> None:
    """Each run that is not there yet, in order. made: makes a run in a folder, and gives its config."""
    for key, run in runs.items():
        name, _, more = key.partition("~")
        file = target / name / f"{number}{more}.json"
        if file.exists() or (only and key not in only):
            continue
        out = place / key
        out.mkdir()
        began = time.monotonic()
        try:
            config = made(run, out)
        except Exception:
            print(f"{key}/{number}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            continue
        kept = curves(name, number, config, run.get("plant", {}), out, time.monotonic() - began)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept, separators=(",", ":")), encoding="utf-8")
        print(f"{key}/{number} {kept['wall']} s", flush=True)


def made_run(
    family: dict[str, Any], words: Any, run: dict[str, Any], number: int, out: Path, base: Any
) -> dict[str, Any]:
    """The config of a run, which is made."""
    own = {**family, "steps": run.get("steps", family.get("steps"))}
    return prefer(own, words, run, number, out, base) if "pairs" in run else train(own, words, run, number, out)


def run_family(number: int, target: Path, only: set[str]) -> None:
    """All runs of a family that are not there yet."""
    family = FAMILIES[number]
    words = Words(family, number)
    with tempfile.TemporaryDirectory() as place:
        base = known(family, words, {"max_steps": 2 * family["steps"]}, Path(place))

        def made(run: dict[str, Any], out: Path) -> dict[str, Any]:
            return made_run(family, words, run, number, out, base)

        make_all(number, runs(family, words, base), made, Path(place), target, only)


def main(families: dict[int, dict[str, Any]], run: Callable[[int, Path, set[str]], None]) -> None:
    """`FOLDER [--only NAME,…] [--family N]`, on a CPU and without a network."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    flags = list(zip(sys.argv, sys.argv[1:], strict=False))
    chosen = {name for flag, names in flags if flag == "--only" for name in names.split(",")}
    for each in [int(value) for flag, value in flags if flag == "--family"] or list(families):
        run(each, Path(sys.argv[1]), chosen)


if __name__ == "__main__":
    main(FAMILIES, run_family)
