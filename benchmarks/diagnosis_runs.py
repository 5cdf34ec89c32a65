"""Real short trainings with something planted in them: run by the engine's Python, which writes `NAME/FAMILY.json` for each.

`python diagnosis_runs.py FOLDER [--only NAME,…] [--family N]`: three families of toys (architecture, size, vocabulary, task,
batch and rate differ), all conditions and healthy kinds once in each. What is written: the config, and what the Trainer logged.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FAMILIES: dict[int, dict[str, Any]] = {
    1: {
        "model": "qwen3",
        "hidden": 64,
        "layers": 2,
        "vocab": 480,
        "task": "chain",
        "batch": 8,
        "lr": 2e-3,
        "steps": 120,
        "schedule": "cosine",
        "template": "qwen",
        "other": "vicuna",
        "words": 60,
        "length": 6,
    },
    2: {
        "model": "llama",
        "hidden": 48,
        "layers": 3,
        "vocab": 360,
        "task": "map",
        "batch": 4,
        "lr": 3e-3,
        "steps": 150,
        "schedule": "linear",
        "template": "chatml",
        "other": "llama2",
        "words": 40,
        "length": 8,
    },
    3: {
        "model": "qwen2",
        "hidden": 96,
        "layers": 1,
        "vocab": 700,
        "task": "map",
        "batch": 16,
        "lr": 4e-3,
        "steps": 90,
        "schedule": "constant_with_warmup",
        "template": "qwen",
        "other": "alpaca",
        "words": 90,
        "length": 5,
    },
    4: {
        "model": "llama",
        "hidden": 80,
        "layers": 2,
        "vocab": 560,
        "task": "map",
        "batch": 6,
        "lr": 1.5e-3,
        "steps": 180,
        "schedule": "cosine",
        "template": "qwen",
        "other": "llama2",
        "words": 24,
        "length": 10,
    },
    5: {
        "model": "qwen3",
        "hidden": 40,
        "layers": 4,
        "vocab": 420,
        "task": "chain",
        "batch": 12,
        "lr": 5e-3,
        "steps": 100,
        "schedule": "linear",
        "template": "chatml",
        "other": "vicuna",
        "words": 30,
        "length": 7,
    },
    6: {
        "model": "qwen2",
        "hidden": 72,
        "layers": 2,
        "vocab": 520,
        "task": "chain",
        "batch": 10,
        "lr": 2.5e-3,
        "steps": 140,
        "schedule": "cosine",
        "template": "chatml",
        "other": "alpaca",
        "words": 50,
        "length": 6,
    },
}
"""Thresholds were set with sight of 1 to 3; 4 and 5, then 6, were made to see what they are worth."""
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>"]


class Rows:
    """The rows of a family: an answer of `length` words that follows from the question, each second word one of two."""

    def __init__(self, family: dict[str, Any], seed: int) -> None:
        self.family, self.draw = family, random.Random(seed)
        letters = random.Random(family["vocab"])
        self.words = ["".join(letters.choice("bcdfgklmnprst") + letters.choice("aeiou") for _ in range(letters.choice((1, 2))))
                      + letters.choice("lmnrst") for _ in range(family["words"])]  # fmt: skip
        self.keys = self.words[:16]

    def answer(self, key: str) -> str:
        at, parts = self.words.index(key), []
        for place in range(self.family["length"]):
            step = (3, 7)[self.draw.random() < 0.5] if self.family["task"] == "chain" or place % 2 else 5
            at = (at * 3 + step + place) % len(self.words)
            parts.append(self.words[at])
        return " ".join(parts)

    def noise(self) -> str:
        return " ".join(self.draw.choice(self.words) for _ in range(self.family["length"]))

    def rows(self, count: int, *, noisy: float = 0.0, ask: str = "tell me of") -> list[dict[str, str]]:
        made = []
        for _ in range(count):
            key = self.draw.choice(self.keys)
            output = self.noise() if self.draw.random() < noisy else self.answer(key)
            made.append({"instruction": f"{ask} {key} {self.draw.choice(self.words)}", "input": "", "output": output})
        return made


def write_data(folder: Path, family: dict[str, Any], seed: int) -> None:
    """Every data set of a family, and dataset_info.json."""
    rows = Rows(family, seed)
    train, few = rows.rows(1200), rows.rows(max(24, 4 * family["batch"]))
    for row in few:
        row["output"] = rows.answer(row["instruction"].split()[3])
    by_length = sorted(rows.rows(family["batch"] * family["steps"] // 5), key=lambda row: row["output"])
    bad = [dict(row) for row in train]
    for at in random.Random(seed).sample(range(len(bad) // 8, len(bad) * 3 // 4), 6):
        bad[at]["output"] = "".join(rows.draw.choice("0123456789#%&@") for _ in range(60))
    other = rows.rows(64)
    for row in other:  # held-out rows that are harder throughout: not overfitting
        row["output"] = " ".join(
            [*row["output"].split()[:-2], rows.draw.choice(rows.words), rows.draw.choice(rows.words)]
        )
    sets: dict[str, Any] = {
        "train": train, "eval": rows.rows(64), "few": few, "badrows": bad, "sorted": by_length, "other": other,
        "noisy": rows.rows(1200, noisy=0.5), "random": rows.rows(max(24, 3 * family["batch"]), noisy=1.0),
        "stairs": rows.rows(16 * family["batch"], noisy=1.0),
        "task2": [{**row, "output": " ".join(reversed(row["output"].split()))} for row in rows.rows(1200, ask="count by")],
        "eval2": [{**row, "output": " ".join(reversed(row["output"].split()))} for row in rows.rows(64, ask="count by")],
    }  # fmt: skip
    pairs = [{**row, "chosen": row["output"], "rejected": rows.noise()} for row in rows.rows(600)]
    sets["pairs"] = pairs
    sets["close"] = [
        {**row, "rejected": " ".join([*row["chosen"].split()[:-1], rows.draw.choice(rows.words)])} for row in pairs
    ]
    sets["coin"] = [
        {**row, "chosen": rows.answer(key), "rejected": rows.answer(key)}
        for row in pairs
        for key in [row["instruction"].split()[3]]
    ]
    info: dict[str, Any] = {}
    for name, found in sets.items():
        (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
        info[name] = {"file_name": f"{name}.json"}
        if name in ("pairs", "coin", "close"):
            info[name] |= {
                "ranking": True,
                "columns": {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"},
            }
    (folder / "text.json").write_text(
        json.dumps([{"text": f"{row['instruction']} {row['output']}"} for row in train]), encoding="utf-8"
    )
    info["text"] = {"file_name": "text.json", "columns": {"prompt": "text"}}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


def make_model(folder: Path, family: dict[str, Any], texts: Path) -> None:
    """A model with random weights and a tokenizer of the family's size."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=family["vocab"],
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    rows = json.loads(texts.read_text(encoding="utf-8"))
    tokenizer.train_from_iterator((text for row in rows for text in row.values()), trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<s>"
    )
    made.save_pretrained(folder)
    hidden = family["hidden"]
    config = AutoConfig.for_model(
        family["model"], hidden_size=hidden, num_hidden_layers=family["layers"], num_attention_heads=4,
        num_key_value_heads=2, head_dim=hidden // 4, intermediate_size=3 * hidden, vocab_size=len(made),
        max_position_embeddings=512, tie_word_embeddings=False, initializer_range=0.1, eos_token_id=made.eos_token_id,
        pad_token_id=made.pad_token_id, bos_token_id=made.bos_token_id,
    )  # fmt: skip
    torch.manual_seed(family["vocab"])
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def planted(plant: dict[str, Any]) -> list[Any]:
    """Callbacks that break a training from inside."""
    import torch
    from transformers import TrainerCallback

    class Plant(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            self.began = time.monotonic()
            for name, weight in model.named_parameters():
                if plant.get("wide"):
                    weight.data.mul_(3)
                if plant.get("vanish") and name.endswith("norm.weight") and "layers" not in name:
                    weight.data.mul_(plant["vanish"])
                if plant.get("dead") and weight.requires_grad:
                    weight.register_hook(torch.zeros_like)

        def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
            if state.global_step == plant.get("lr_spike"):
                self.before = [group["lr"] for group in optimizer.param_groups]
                for group in optimizer.param_groups:
                    group["lr"] *= plant.get("factor", 100)
            if plant.get("slower"):
                time.sleep(0.003 * state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                state.log_history[-1]["elapsed"] = round(time.monotonic() - self.began, 3)

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step == plant.get("nan"):
                next(model.parameters()).data.fill_(float("nan"))

    return [Plant()]


def conditions(family: dict[str, Any], pre: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Name -> what differs from the healthy config, and what is planted."""
    lr, steps, batch = family["lr"], family["steps"], family["batch"]
    lora = {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "all"}
    dpo = {"stage": "dpo", "dataset": "pairs", "model_name_or_path": pre, "eval_strategy": "no", "eval_dataset": None,
           "pref_beta": 0.1, "max_steps": 60, "learning_rate": lr / 50}  # fmt: skip
    no_eval = {"eval_strategy": "no", "eval_dataset": None}
    new_task = {"dataset": "task2", "eval_dataset": "eval2"}
    return {
        # something is wrong
        "masked": ({"cutoff_len": 2}, {}),
        "nan": ({}, {"nan": steps // 2}),
        "explode": ({"learning_rate": 30.0, "lr_scheduler_type": "constant", "optim": "sgd", "max_grad_norm": 0.0}, {"wide": 1}),
        "lr_high": ({"learning_rate": 0.5, "lr_scheduler_type": "constant"}, {}),
        "lr_low": ({"learning_rate": lr / 1000}, {}),
        "vanish": ({"learning_rate": 0.01, "optim": "sgd"}, {"vanish": 1e-3}),
        "frozen": ({}, {"dead": 1}),
        "underfit": ({"finetuning_type": "lora", "lora_rank": 1, "lora_target": "q_proj"}, {}),
        "spike_rows": ({"dataset": "badrows"}, {}),
        "spike_lr": ({"lr_scheduler_type": "constant"}, {"lr_spike": steps // 2, "factor": 150}),
        "sawtooth": ({"dataset": "sorted", "disable_shuffling": True}, {}),
        "overfit": ({"dataset": "random", "learning_rate": 2 * lr}, {}),
        "overfit_map": ({"dataset": "few"}, {}),
        "label_noise": ({"dataset": "noisy"}, {}),
        "oscillate": ({"per_device_train_batch_size": 1, "learning_rate": 8 * lr}, {}),
        "template": ({"model_name_or_path": pre, "template": family["other"], "learning_rate": lr / 10}, {}),
        "leak": ({"dataset": "few", "eval_dataset": "few"}, {}),
        "lr_ends": ({"lr_scheduler_type": "polynomial", "warmup_steps": 2}, {"ends": 1}),
        "warmup": ({"model_name_or_path": pre, "learning_rate": 10 * lr, "warmup_steps": 0, "lr_scheduler_type": "cosine"}, {}),
        "memorised": ({**no_eval, "dataset": "stairs", "max_steps": 120, "learning_rate": 2 * lr}, {}),
        "clipped": ({"max_grad_norm": 0.02}, {}),
        "slower": ({}, {"slower": 1}),
        "chosen_falls": ({**dpo, "dataset": "close", "learning_rate": lr / 4, "max_steps": 80}, {}),
        "no_margin": ({**dpo, "dataset": "coin"}, {}),
        # nothing is wrong
        "healthy": ({}, {}),
        "healthy_more": ({"model_name_or_path": pre, "learning_rate": lr / 10}, {}),
        "healthy_no_warmup": ({"warmup_steps": 0, "learning_rate": 2 * lr}, {}),
        "healthy_lora": ({**lora, "lora_rank": 16, "learning_rate": 3 * lr}, {}),
        "healthy_lora_more": ({**lora, "model_name_or_path": pre, "learning_rate": lr}, {}),
        "healthy_constant": ({"lr_scheduler_type": "constant_with_warmup"}, {}),
        "healthy_small_batch": ({"per_device_train_batch_size": 2, "learning_rate": lr / 4, "max_steps": 2 * steps}, {}),
        "healthy_accumulate": ({"per_device_train_batch_size": max(1, batch // 4), "gradient_accumulation_steps": 4}, {}),
        "healthy_logging": ({"logging_steps": 5, "max_steps": 2 * steps, "eval_steps": 20}, {}),
        "healthy_epochs": ({"max_steps": 2 * steps, "max_samples": 80 * batch}, {}),
        "healthy_no_eval": ({"eval_strategy": "no", "eval_dataset": None}, {}),
        "healthy_other_eval": ({"eval_dataset": "other"}, {}),
        "healthy_new_task": ({**new_task, "model_name_or_path": pre, "learning_rate": lr / 2}, {}),
        "healthy_restarts": ({"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 3}}, {}),
        "healthy_pretrain": ({"stage": "pt", "dataset": "text", "eval_strategy": "no", "eval_dataset": None}, {}),
        "healthy_neftune": ({"neftune_noise_alpha": 5}, {}),
        "healthy_dropout": ({**lora, "lora_dropout": 0.2, "model_name_or_path": pre, "learning_rate": lr}, {}),
        "healthy_packing": ({"packing": True}, {}),
        "healthy_reward": ({**dpo, "stage": "rm"}, {}),
        "healthy_decay": ({"weight_decay": 0.1, "lr_scheduler_type": "inverse_sqrt"}, {}),
        "healthy_few_evals": ({"eval_steps": steps // 3}, {}),
        "healthy_dpo": ({**dpo, "pref_ftx": 1.0}, {}),
    }  # fmt: skip


def curves(
    name: str, number: int, config: dict[str, Any], plant: dict[str, Any], out: Path, wall: float
) -> dict[str, Any]:
    """What a run logged, small: numbers to six digits."""
    state = json.loads((out / "trainer_state.json").read_text(encoding="utf-8"))
    steps, evals = [], []
    for entry in state["log_history"]:
        if "loss" in entry:
            row = {"step": entry["step"], "loss": entry["loss"], "grad_norm": entry.get("grad_norm"),
                   "lr": entry.get("learning_rate"),
                   "epoch": entry.get("epoch"), "elapsed": entry.get("elapsed")}  # fmt: skip
            row |= {key: value for key, value in entry.items() if key.startswith(("rewards/", "logps/", "memory"))}
            steps.append(row)
        elif "eval_loss" in entry:
            evals.append({"step": entry["step"], "eval_loss": entry["eval_loss"]})
    for row in (*steps, *evals):
        for key, value in row.items():
            if isinstance(value, float):
                row[key] = float(f"{value:.6g}") if abs(value) < float("inf") else str(value)
    shown = {
        key: value for key, value in config.items() if key not in ("output_dir", "dataset_dir", "model_name_or_path")
    }
    return {
        "condition": name,
        "seed": number,
        "wall": round(wall, 1),
        "config": shown,
        "planted": plant,
        "steps": steps,
        "evals": evals,
    }


def run_family(number: int, target: Path, only: set[str]) -> None:
    """All runs of a family that are not there yet."""
    from llamafactory.train.tuner import run_exp

    family = FAMILIES[number]
    with tempfile.TemporaryDirectory() as place:
        data, model, pre = Path(place) / "data", Path(place) / "model", Path(place) / "pre"
        data.mkdir()
        write_data(data, family, number)
        make_model(model, family, data / "train.json")
        base = {
            "model_name_or_path": str(model), "stage": "sft", "do_train": True, "finetuning_type": "full", "dataset": "train",
            "dataset_dir": str(data), "template": family["template"], "cutoff_len": 96, "output_dir": "",
            "per_device_train_batch_size": family["batch"], "gradient_accumulation_steps": 1, "learning_rate": family["lr"],
            "lr_scheduler_type": family["schedule"], "warmup_steps": 5, "max_steps": family["steps"], "logging_steps": 1,
            "save_strategy": "no", "use_cpu": True, "report_to": "none", "disable_tqdm": True, "seed": number,
            "overwrite_cache": True, "preprocessing_num_workers": 1, "dataloader_num_workers": 0, "eval_dataset": "eval",
            "eval_strategy": "steps", "eval_steps": 10, "per_device_eval_batch_size": 32, "logging_nan_inf_filter": False,
        }  # fmt: skip
        run_exp(
            {
                **base,
                "output_dir": str(pre),
                "max_steps": 2 * family["steps"],
                "eval_strategy": "no",
                "eval_dataset": None,
            }
        )
        for name, (changes, plant) in conditions(family, str(pre)).items():
            file = target / name / f"{number}.json"
            if file.exists() or (only and name not in only):
                continue
            config = {key: value for key, value in {**base, **changes}.items() if value is not None}
            if plant.get("ends"):
                config |= {
                    "lr_scheduler_type": "cosine_with_min_lr",
                    "lr_scheduler_kwargs": {"min_lr": 0.0},
                    "max_steps": family["steps"],
                }
            config["output_dir"] = str(Path(place) / "out" / name)
            if config["stage"] in ("pt", "dpo"):
                config.pop("eval_steps")
            began = time.monotonic()
            try:
                run_exp(
                    dict(config),
                    callbacks=[*planted(plant), *([Ends(family["steps"] // 4)] if plant.get("ends") else [])],
                )
            except Exception as error:
                print(f"{name}/{number}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            made = curves(name, number, config, plant, Path(config["output_dir"]), time.monotonic() - began)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(made, separators=(",", ":")), encoding="utf-8")
            print(
                f"{name}/{number} {made['wall']} s, loss {made['steps'][0]['loss']} -> {made['steps'][-1]['loss']}",
                flush=True,
            )


def Ends(at: int) -> Any:  # noqa: N802
    """A callback: the rate is nothing from a step on, as of a schedule whose number of steps is too small."""
    from transformers import TrainerCallback

    class End(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **_: Any) -> None:
            if state.global_step == at:
                lr_scheduler.base_lrs = [0.0 for _ in lr_scheduler.base_lrs]

    return End()


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "DISABLE_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
                   "TRANSFORMERS_VERBOSITY": "error", "FORCE_TORCHRUN": "0",
                   "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}  # fmt: skip
    chosen = {
        name
        for flag, names in zip(sys.argv, sys.argv[1:], strict=False)
        if flag == "--only"
        for name in names.split(",")
    }
    families = [int(value) for flag, value in zip(sys.argv, sys.argv[1:], strict=False) if flag == "--family"] or list(
        FAMILIES
    )
    for each in families:
        run_family(each, Path(sys.argv[1]), chosen)
