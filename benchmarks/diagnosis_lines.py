"""Three more families of real short trainings, on plain transformers and trl: run by the engine's Python.

`python diagnosis_lines.py FOLDER [--only NAME,…] [--family N]`. Number rows for a StarCoder 2 (14), lines of very different
lengths for a Phi-3 (15), bytes of the standard library's prose and code for a StableLM (16). Runs have 26 to 500 steps; schedules
and optimizers are those that earlier families lack. 14 and 15 were put to the judges as they were and mended by after that; 16
was kept back until then.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diagnosis_letters import FIRST, Language, creeping
from diagnosis_trainer import PROMPT, dead, known, made_run, main, make_all, make_model, with_lora


class Progressions(Language):
    """Progressions of few kinds of numbers, of which one in eight is drawn at random."""

    def continued(self, prompt: list[int], shift: int) -> list[int]:
        made, value = [], prompt[0] - FIRST
        for place in range(self.family["length"]):
            value = (value + (prompt[1] - FIRST) % 7 + 1 + (3 if shift % 2 else 0)) % min(self.count, 60)
            known = self.draw.random() > 0.12
            made.append(FIRST + value + (60 if place % 4 == 3 else 0) if known else self.draw.choice(list(self.keys)))
        return made


class LogLines(Language):
    """Lines of 3 to 70 tokens: words of a unit, as unequal as in texts, and numbers that nothing tells."""

    def continued(self, prompt: list[int], shift: int) -> list[int]:
        width = (self.count - 160) // 41
        base = FIRST + 60 + (prompt[1] - FIRST + 17 * (shift % 2)) % 40 * width
        made = []
        for place in range(max(3, min(70, int(self.draw.lognormvariate(2.6, 0.7))))):
            if place % 5 == 4:
                made.append(FIRST + self.count - 100 + self.draw.randrange(100))
            elif place % 5 == 0:
                made.append(base + place % 11)
            else:
                made.append(base + (int(self.draw.paretovariate(0.9)) - 1) % width)
        return made


class Bytes(Language):
    """Pieces of 19 to 51 bytes: docstrings of the standard library (shift 0), its modules (shift 1)."""

    def __init__(self, family: dict[str, Any], seed: int) -> None:
        super().__init__(family, seed)
        files = sorted(Path(json.__file__).parent.parent.glob("*.py"))[:140]
        texts = [file.read_bytes() for file in files]
        prose = b" ".join(piece for text in texts for piece in re.findall(rb'"""(.*?)"""', text, re.DOTALL))
        self.pools = (prose, b"".join(texts))

    def text(self, shift: int) -> list[int]:
        pool, count = self.pools[shift % 2], PROMPT + self.draw.randrange(16, 49)
        at = self.draw.randrange(len(pool) - count)
        return [FIRST + min(byte, 127) for byte in pool[at : at + count]]

    def continued(self, prompt: list[int], shift: int) -> list[int]:
        return self.text(shift)[PROMPT:]

    def row(
        self, epsilon: float, *, noise: bool = False, markers: tuple[int, ...] = (1, 2), shift: int = 0
    ) -> dict[str, Any]:
        text = self.text(shift)
        return self.between(text[:PROMPT], text[PROMPT:], noise, markers)


FAMILIES: dict[int, dict[str, Any]] = {
    14: {"model": "starcoder2", "hidden": 56, "layers": 2, "vocab": 160, "task": Progressions, "batch": 14, "lr": 2.5e-3,
         "length": 22, "schedule": "inverse_sqrt", "short": 45, "usual": 170, "long": 420, "exact": True, "epsilon": 0.0,
         "args": {"adam_beta2": 0.95, "weight_decay": 0.1}},
    15: {"model": "phi3", "hidden": 48, "layers": 3, "vocab": 2400, "task": LogLines, "batch": 7, "lr": 3e-3, "length": 20,
         "schedule": "cosine", "short": 60, "usual": 140, "long": 360, "exact": True, "epsilon": 0.0, "args": {}},
    16: {"model": "stablelm", "hidden": 64, "layers": 2, "vocab": 138, "task": Bytes, "batch": 10, "lr": 3e-3, "length": 24,
         "schedule": "linear", "short": 80, "usual": 220, "long": 500, "exact": True, "epsilon": 0.0,
         "args": {"adam_beta2": 0.99}},
}  # fmt: skip


def runs(family: dict[str, Any], words: Language, base: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    """Name -> what differs, as in diagnosis_letters.py; `rare`: evaluations in all, `config`: what is known of the run beside the
    Trainer's arguments.
    """
    lr, batch, short, usual, long = (family[key] for key in ("lr", "batch", "short", "usual", "long"))
    none: dict[str, Any] = {"held": None}
    constant = {"lr_scheduler_type": "constant"}
    code = {"rows": words.rows(2500, shift=1), "held": words.rows(64, shift=1)}
    other = {"markers": (4, 5, 6, 7, 8, 9)}
    noisy = [row for pair in zip(words.rows(900), words.rows(900, noise=True), strict=True) for row in pair]
    masked = [{**row, "labels": [-100] * len(row["labels"])} for row in words.rows(300)]
    ordered = sorted(words.rows(batch * usual // 5), key=lambda row: (len(row["input_ids"]), row["input_ids"]))

    def fresh() -> Any:
        return make_model(family, 1, family["vocab"])

    def adapted(rank: int) -> Callable[[], Any]:
        return lambda: with_lora(base(), rank, family)

    half = batch * long // 14
    two_kinds = [*words.rows(half), *words.rows(half, shift=1)]
    few = 40 if family["task"] is Bytes else 18
    return {
        "masked": {"steps": short, "rows": masked, "args": {"logging_nan_inf_filter": True}, **none},
        "nan": {"steps": usual, "plant": {"nan": int(0.55 * usual)}},
        "explode": {"steps": usual, "args": {"learning_rate": 10.0, "optim": "sgd", "max_grad_norm": 0.0, **constant},
                    "plant": {"wide": 1}},
        "lr_high": {"steps": usual, "args": {"learning_rate": 0.15}},
        "lr_high~b": {"steps": long, "args": {"learning_rate": 25 * lr, **constant}, **none},
        "diverge": {"steps": long, "callbacks": [lambda: surging(long, 0.55, 30)], "args": constant},
        "lr_low": {"steps": usual, "args": {"learning_rate": lr / 1500}},
        "lr_low~b": {"steps": short, "model": adapted(8), **code, "args": {"learning_rate": lr / 3000}},
        "vanish": {"steps": usual, "args": {"learning_rate": 0.02, "optim": "sgd"}, "model": lambda: dead(fresh())},
        "frozen": {"steps": usual, "model": adapted(8), **code, "plant": {"dead": 1}},
        "underfit": {"steps": usual, "model": lambda: with_lora(fresh(), 1, family, everything=False),
                     "config": {"finetuning_type": "lora", "lora_rank": 1}},
        "spike_rows": {"steps": long, "rows": words.broken(batch * long, batch * long // 7, 6), "order": True},
        "spike_lr": {"steps": usual, "plant": {"lr_spike": int(0.6 * usual), "factor": 80}, **none},
        "spike_lr~b": {"steps": long, "plant": {"lr_spike": int(0.35 * long), "factor": 50}, "args": constant},
        "sawtooth": {"steps": usual, "rows": ordered, "order": True},
        "sawtooth~b": {"steps": long, "rows": two_kinds, "order": True, **none},
        "overfit": {"steps": usual, "rows": words.rows(6 * batch), "args": {"learning_rate": 2 * lr}},
        "overfit~b": {"steps": long, "rows": words.rows(batch * long // few), "held": words.rows(40)},
        "overfit~c": {"steps": usual, "model": base, "rows": words.rows(5 * batch, shift=1),
                      "held": words.rows(40, shift=1), "rare": 8},
        "memorised": {"steps": usual, "rows": words.rows(7 * batch), "args": {"learning_rate": 3 * lr}, **none},
        "memorised~b": {"steps": usual, "model": base, "rows": words.rows(batch * usual // 14, noise=True), **none},
        "label_noise": {"steps": long, "rows": noisy},
        "oscillate": {"steps": long, "args": {"per_device_train_batch_size": 1, "learning_rate": 6 * lr}},
        "template": {"steps": usual, "model": base, "rows": words.rows(2500, **other), "held": words.rows(64, **other),
                     "args": {"learning_rate": lr / 5}},
        "leak": {"steps": usual, "rows": words.rows(5 * batch), "held": "rows"},
        "lr_ends": {"steps": usual, "ends": int(0.6 * usual)},
        "warmup": {"steps": usual, "model": base, "args": {"learning_rate": 8 * lr, "warmup_steps": 0}},
        "clipped": {"steps": usual, "args": {"max_grad_norm": 0.03}},
        "slower": {"steps": 90, "plant": {"slower": 1}, **none},
        "memory": {"steps": usual, "callbacks": [creeping], **none},
        "chosen_falls": {"pairs": "close", "steps": 90, "args": {"learning_rate": lr / 3, "max_steps": 90}},
        "no_margin": {"pairs": "coin", "steps": 90, "args": {"learning_rate": lr / 15, "max_steps": 90}},
        # nothing is wrong
        "healthy": {"steps": usual},
        "healthy~b": {"steps": long, **none},
        "healthy~c": {"steps": long, "rare": 4},
        "healthy_short": {"steps": short, **none},
        "healthy_short~b": {"steps": 26, "model": base, **code, "args": {"learning_rate": lr / 5}},
        "healthy_one_row": {"steps": long, "args": {"per_device_train_batch_size": 1, "learning_rate": lr / 5}},
        "healthy_two_rows": {"steps": usual, "model": base, **code,
                             "args": {"per_device_train_batch_size": 2, "learning_rate": lr / 5}},
        "healthy_restarts": {"steps": long, "args": {"lr_scheduler_type": "cosine_with_restarts",
                                                     "lr_scheduler_kwargs": {"num_cycles": 4}}},
        "healthy_adafactor": {"steps": usual, "args": {"optim": "adafactor"}},
        "healthy_sgd": {"steps": long, "args": {"optim": "sgd", "learning_rate": 1.2 if family["vocab"] > 1000 else 0.8,
                                                **constant}},
        "healthy_polynomial": {"steps": usual, "args": {"lr_scheduler_type": "polynomial"}},
        "healthy_lora": {"steps": usual, "model": adapted(8), **code, "args": {"learning_rate": 2 * lr}},
        "healthy_lora~b": {"steps": usual, "model": adapted(16), **code, "args": {"learning_rate": lr / 3}, **none},
        "healthy_resume": {"steps": usual, "resume": (0.3, 0.45)},
        "healthy_epochs": {"steps": usual, "model": base, "rows": words.rows(batch * usual // 3, shift=1),
                           "held": words.rows(64, shift=1), "args": {"learning_rate": lr / 4}},
        "healthy_epochs~b": {"steps": usual, "model": base, "rows": words.rows(batch * usual // 2, shift=1), **none,
                             "args": {"learning_rate": lr / 3}},
        "healthy_continued": {"steps": usual, "model": base, "args": {"learning_rate": lr / 10}},
        "healthy_accumulate": {"steps": short, "args": {"per_device_train_batch_size": 2,
                                                        "gradient_accumulation_steps": batch // 2}},
        "healthy_dpo": {"pairs": "good", "steps": 90, "args": {"learning_rate": lr / 30, "max_steps": 90}},
        "healthy_smoothing": {"steps": usual, "args": {"label_smoothing_factor": 0.1}},
        "healthy_weight_decay": {"steps": usual, "args": {"weight_decay": 0.2, "lr_scheduler_type": "linear"}},
        "healthy_new_task": {"steps": usual, "model": base, **code, "args": {"learning_rate": lr / 2, "warmup_steps": 30}},
        "healthy_noise": {"steps": usual, "held": words.rows(24),
                          "args": {"per_device_train_batch_size": 3, "learning_rate": lr / 2}},
        "healthy_wsd": {"steps": usual, "args": {"lr_scheduler_type": "warmup_stable_decay", "warmup_steps": 8,
                                                 "lr_scheduler_kwargs": {"num_decay_steps": usual // 4}}},
        "healthy_full_decay": {"steps": long, "args": {"learning_rate": lr / 3}},
        "healthy_long_warmup": {"steps": usual, "args": {"warmup_steps": usual // 4}, **none},
    }  # fmt: skip


def surging(steps: int, part: float, factor: float) -> Any:
    """A callback that multiplies the rate of each step from a share of the run on."""
    from transformers import TrainerCallback

    class Surge(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
            if state.global_step >= part * steps:
                for group in optimizer.param_groups:
                    group["lr"] *= factor

    return Surge()


def answer_plainly() -> None:
    """Of what is installed: transformers 5 answers with a version too, which trl 0.24 takes for yes."""
    import trl.import_utils as utils

    for name, value in list(vars(utils).items()):
        if name.endswith("_available") and isinstance(value, tuple):
            setattr(utils, name, bool(value[0]))


def with_warnings(model: Any) -> Any:
    """trl 0.24 expects what transformers 5 dropped."""
    model.warnings_issued = {}
    return model


def run_family(number: int, target: Path, only: set[str]) -> None:
    """All runs of a family that are not there yet."""
    answer_plainly()
    family = FAMILIES[number]
    words = family["task"](family, number)
    with tempfile.TemporaryDirectory() as place:
        base = known({**family, "steps": family["long"]}, words, family["args"], Path(place), with_warnings)

        def made(run: dict[str, Any], out: Path) -> dict[str, Any]:
            run["args"] = {**family["args"], **run.get("args", {})}
            if "rare" in run:
                run["args"]["eval_steps"] = max(1, run["steps"] // run["rare"])
            return {**made_run(family, words, run, number, out, base), **run.get("config", {})}

        make_all(number, runs(family, words, base), made, Path(place), target, only)


if __name__ == "__main__":
    main(FAMILIES, run_family)
