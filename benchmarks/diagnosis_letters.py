"""Two more families of real short trainings, on plain transformers and trl: run by the engine's Python.

`python diagnosis_letters.py FOLDER [--only NAME,…] [--family N]`. Rows are drawn from languages instead of tables: letters of
this project's prose and code (a GPT-2 of 48 tokens), and sentences of a grammar whose words are as unequal as in texts (an
OLMo 2 of 1,500 tokens). Runs of one family differ in length, from 50 steps to 700. Healthy kinds are those that are mistaken
most easily: short runs, one row a step, long warm-up, restarts, three epochs with stairs, an adapter at a low rate. Mechanisms
were mended with sight of family 12; family 13 was put to the judges once, after that.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diagnosis_trainer import PROMPT, ROOT, dead, known, made_run, main, make_all, make_model, with_lora

FAMILIES: dict[int, dict[str, Any]] = {
    12: {"model": "gpt2", "hidden": 48, "layers": 3, "vocab": 48, "task": "letters", "batch": 10, "lr": 3e-3, "length": 30,
         "schedule": "cosine", "short": 60, "usual": 250, "long": 700, "exact": True, "epsilon": 0.0},
    13: {"model": "olmo2", "hidden": 40, "layers": 2, "vocab": 1500, "task": "sentences", "batch": 12, "lr": 2e-3, "length": 16,
         "schedule": "linear", "short": 50, "usual": 120, "long": 320, "exact": True, "epsilon": 0.05},
}  # fmt: skip
FIRST = 10
"""The first token that is no marker."""


class Language:
    """What `diagnosis_trainer.Words` is, of a language: prompts of three tokens, and answers that go on from them."""

    def __init__(self, family: dict[str, Any], seed: int) -> None:
        self.family, self.draw = family, random.Random(seed)
        self.count = family["vocab"] - FIRST
        self.keys = range(FIRST, FIRST + min(40, self.count))

    def text(self, shift: int) -> list[int]:
        """PROMPT + length tokens. shift: another language with the same tokens."""
        start = [self.draw.choice(self.keys) for _ in range(PROMPT)]
        return start + self.continued(start, shift)

    def continued(self, prompt: list[int], shift: int) -> list[int]:
        """The answer to a prompt, `length` tokens."""
        raise NotImplementedError

    def answer(self, prompt: list[int], epsilon: float, shift: int = 0) -> list[int]:
        tokens = self.continued(prompt, shift)
        return [self.draw.choice(self.keys) if self.draw.random() < epsilon else token for token in tokens]

    def row(
        self, epsilon: float, *, noise: bool = False, markers: tuple[int, ...] = (1, 2), shift: int = 0
    ) -> dict[str, Any]:
        prompt = self.text(shift)[:PROMPT]
        return self.between(prompt, self.answer(prompt, epsilon, shift), noise, markers)

    def between(self, prompt: list[int], answer: list[int], noise: bool, markers: tuple[int, ...]) -> dict[str, Any]:
        """A row of a prompt between markers, and its answer, or as many random tokens."""
        if noise:
            answer = [self.draw.randrange(FIRST, FIRST + self.count) for _ in answer]
        start = [*markers[: len(markers) // 2], *prompt, *markers[len(markers) // 2 :]]
        return {"input_ids": [*start, *answer, 3], "labels": [-100] * len(start) + [*answer, 3]}

    def rows(self, count: int, **more: Any) -> list[dict[str, Any]]:
        epsilon = more.pop("epsilon", self.family["epsilon"])
        return [self.row(epsilon, **more) for _ in range(count)]

    def broken(self, count: int, each: int, times: int) -> list[dict[str, Any]]:
        """Rows of which one in `each` has an answer of random tokens, so many times as long."""
        rows = self.rows(count)
        for at in range(each, count, each):
            tokens = [self.draw.randrange(FIRST, FIRST + self.count) for _ in range(times * self.family["length"])]
            start = rows[at]["input_ids"][: PROMPT + 2]
            rows[at] = {"input_ids": [*start, *tokens], "labels": [-100] * len(start) + tokens}
        return rows


class Letters(Language):
    """Letters, each by the two before it as they follow in this project's prose (shift 0) or its code (shift 1)."""

    LETTERS = " etaoinsrhldcumfpgwybvkxjqz.,;:'()=-_"

    def __init__(self, family: dict[str, Any], seed: int) -> None:
        super().__init__(family, seed)
        prose = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        self.follow = [self._counted(files) for files in (prose, sorted((ROOT / "ftdsl").rglob("*.py"))[:60])]

    def _counted(self, files: list[Path]) -> dict[tuple[int, int], tuple[list[int], list[int]]]:
        text = "".join(path.read_text(encoding="utf-8").lower() for path in files)
        tokens = [FIRST + self.LETTERS.index(letter) for letter in text if letter in self.LETTERS]
        table: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        for one, two, three in zip(tokens, tokens[1:], tokens[2:], strict=False):
            table[one, two][three] += 1
        return {pair: (list(seen), list(seen.values())) for pair, seen in table.items()}

    def text(self, shift: int) -> list[int]:
        start = list(self.draw.choice(list(self.follow[shift % 2])))
        return start + self.continued(start, shift)

    def continued(self, prompt: list[int], shift: int) -> list[int]:
        made, table = list(prompt[-2:]), self.follow[shift % 2]
        for _ in range(self.family["length"]):
            known, counts = table.get((made[-2], made[-1]), ([FIRST], [1]))
            made.append(self.draw.choices(known, counts)[0])
        return made[2:]


class Sentences(Language):
    """Sentences of a grammar: determiner, adjective, noun, verb, determiner, noun, and so on. Words of a class are as unequal
    as in texts (the n-th is drawn in proportion to 1/n^1.6), the verb follows from the subject, and later clauses repeat it.
    """

    def __init__(self, family: dict[str, Any], seed: int) -> None:
        super().__init__(family, seed)
        table = random.Random(family["vocab"])
        words = list(range(FIRST, FIRST + self.count))
        table.shuffle(words)
        size = self.count // 4
        self.classes = [[words[at : at + 12], words[size : size + 150], words[2 * size : 2 * size + 250], words[3 * size :]]
                        for at in (0, 100)]  # fmt: skip
        self.verb_of = {noun: table.randrange(40) for noun in words}

    def _drawn(self, kind: int, shift: int) -> int:
        words = self.classes[shift % 2][kind]
        place = int(self.draw.paretovariate(0.6)) - 1
        return words[place % len(words)]

    def text(self, shift: int) -> list[int]:
        start = [self._drawn(0, shift), self._drawn(1, shift), self._drawn(2, shift)]
        return start + self.continued(start, shift)

    def continued(self, prompt: list[int], shift: int) -> list[int]:
        subject, made = prompt[-1], []
        order = (3, 0, 2) if shift % 2 == 0 else (0, 2, 3)
        while len(made) < self.family["length"]:
            verb = self.classes[shift % 2][3][self.verb_of[subject]]
            clause = [verb if kind == 3 else self._drawn(kind, shift) for kind in order]
            made += [*clause, prompt[0], subject]
        return made[: self.family["length"]]


LANGUAGES: dict[str, type[Language]] = {"letters": Letters, "sentences": Sentences}


def creeping() -> Any:
    """A callback that keeps tensors, as metrics that are never let go of, and logs what the process holds."""
    import torch
    from transformers import TrainerCallback

    class Creep(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.kept: list[Any] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                self.kept.append(torch.ones(2**20))
                pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
                state.log_history[-1]["memory"] = pages * os.sysconf("SC_PAGE_SIZE")

    return Creep()


def runs(family: dict[str, Any], words: Language, base: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    """Name -> what differs: `steps`, and what `diagnosis_trainer.runs` has. `NAME~b` is a second run of a condition."""
    lr, batch, vocab = family["lr"], family["batch"], family["vocab"]
    short, usual, long = family["short"], family["usual"], family["long"]
    none: dict[str, Any] = {"held": None}

    def kinds(steps: int) -> list[dict[str, Any]]:
        """An epoch of a sixth of the run: two sources one after the other."""
        half = batch * steps // 12
        return [*words.rows(half), *words.rows(half, shift=1)]

    def half_noise(count: int) -> list[dict[str, Any]]:
        return [
            row for pair in zip(words.rows(count // 2), words.rows(count // 2, noise=True), strict=True) for row in pair
        ]

    def fresh(seed: int = 1) -> Any:
        return make_model(family, seed, vocab)

    other = {"markers": (4, 5, 6, 7, 8, 9)}
    code = {"rows": words.rows(3000, shift=1), "held": words.rows(64, shift=1)}
    masked = [{**row, "labels": [-100] * len(row["labels"])} for row in words.rows(500)]
    constant = {"lr_scheduler_type": "constant"}
    few = words.rows(4 * batch)
    seldom = words.rows(batch * usual // 8)
    return {
        "masked": {"steps": short, "rows": masked},
        "masked~b": {"steps": usual, "rows": masked, "args": {"logging_nan_inf_filter": True}, **none},
        "nan": {"steps": long, "plant": {"nan": int(0.4 * long)}},
        "explode": {"steps": usual, "args": {"learning_rate": 20.0, "optim": "sgd", "max_grad_norm": 0.0, **constant},
                    "plant": {"wide": 1}},
        "lr_high": {"steps": usual, "args": {"learning_rate": 0.3, **constant}},
        "lr_high~b": {"steps": long, "args": {"learning_rate": 40 * lr, **constant}},
        "lr_low": {"steps": short, "args": {"learning_rate": lr / 1000}},
        "lr_low~b": {"steps": usual, "args": {"learning_rate": lr / 3000}, **none},
        "vanish": {"steps": usual, "args": {"learning_rate": 0.01, "optim": "sgd"}, "model": lambda: dead(fresh())},
        "frozen": {"steps": short, "plant": {"dead": 1}},
        "underfit": {"steps": usual, "model": lambda: with_lora(fresh(), 1, family, everything=False)},
        "spike_rows": {"steps": long, "rows": words.broken(batch * long, batch * long // 6, 5), "order": True},
        "spike_rows~b": {"steps": usual, "rows": words.broken(batch * usual, batch * usual // 5, 5), "order": True, **none},
        "spike_lr": {"steps": long, "plant": {"lr_spike": int(0.5 * long), "factor": 60}, "args": constant},
        "spike_lr~b": {"steps": usual, "plant": {"lr_spike": int(0.7 * usual), "factor": 100}, **none},
        "sawtooth": {"steps": usual, "rows": kinds(usual), "order": True},
        "sawtooth~b": {"steps": long, "rows": kinds(long), "order": True, **none},
        "overfit": {"steps": usual, "rows": few, "args": {"learning_rate": 2 * lr}},
        "overfit~b": {"steps": long, "rows": words.rows(batch * long // 25)},
        "memorised": {"steps": usual, "rows": words.rows(8 * batch), "args": {"learning_rate": 3 * lr}, **none},
        "label_noise": {"steps": long, "rows": half_noise(batch * long // 2)},
        "oscillate": {"steps": long, "args": {"per_device_train_batch_size": 1, "learning_rate": 8 * lr}},
        "template": {"steps": usual, "model": base, "rows": words.rows(3000, **other), "held": words.rows(64, **other),
                     "args": {"learning_rate": lr / 5}},
        "leak": {"steps": usual, "rows": few, "held": "rows"},
        "lr_ends": {"steps": usual, "ends": usual // 2},
        "warmup": {"steps": usual, "model": base, "args": {"learning_rate": 10 * lr, "warmup_steps": 0}},
        "clipped": {"steps": long, "args": {"max_grad_norm": 0.01}},
        "slower": {"steps": 90, "plant": {"slower": 1}, "args": {"lr_scheduler_type": "linear"}, **none},
        "memory": {"steps": usual, "callbacks": [creeping], **none},
        "chosen_falls": {"pairs": "close", "steps": 80, "args": {"learning_rate": lr / 3, "max_steps": 80}},
        "no_margin": {"pairs": "coin", "steps": 80, "args": {"learning_rate": lr / 20, "max_steps": 80}},
        # nothing is wrong
        "healthy": {"steps": usual},
        "healthy~b": {"steps": long},
        "healthy_short": {"steps": short},
        "healthy_short~b": {"steps": short, "model": base, **code, "args": {"learning_rate": lr / 5}},
        "healthy_one_row": {"steps": long, "args": {"per_device_train_batch_size": 1, "learning_rate": lr / 6}},
        "healthy_two_rows": {"steps": usual, "args": {"per_device_train_batch_size": 2, "learning_rate": lr / 3}, **none},
        "healthy_restarts": {"steps": usual, "args": {"lr_scheduler_type": "cosine_with_restarts",
                                                      "lr_scheduler_kwargs": {"num_cycles": 3}}},
        "healthy_long_warmup": {"steps": usual, "args": {"warmup_steps": usual // 3}},
        "healthy_constant": {"steps": usual, "args": constant},
        "healthy_lora_low": {"steps": usual, "model": lambda: with_lora(base(), 8, family), **code,
                             "args": {"learning_rate": lr / 4}},
        "healthy_dpo": {"pairs": "good", "steps": 80, "args": {"learning_rate": lr / 40, "max_steps": 80}},
        "healthy_resume": {"steps": usual, "resume": (0.5, 0.6)},
        "healthy_epochs": {"steps": usual, "model": base, "rows": words.rows(batch * usual // 3, shift=1),
                           "held": words.rows(64, shift=1), "args": {"learning_rate": lr / 4}},
        "healthy_epochs~b": {"steps": usual, "model": lambda: with_lora(base(), 16, family), "rows": seldom,
                             "args": {"learning_rate": lr / 2, "max_steps": 3 * (usual // 8)}, **none},
        "healthy_continued": {"steps": usual, "model": base, "args": {"learning_rate": lr / 20}},
        "healthy_new_kind": {"steps": usual, "model": base, **code, "args": {"learning_rate": lr / 2}},
        "healthy_accumulate": {"steps": short, "args": {"per_device_train_batch_size": batch // 5,
                                                        "gradient_accumulation_steps": 5}},
        "healthy_decay": {"steps": usual, "args": {"weight_decay": 0.1}, **none},
    }  # fmt: skip


def run_family(number: int, target: Path, only: set[str]) -> None:
    """All runs of a family that are not there yet."""
    family = FAMILIES[number]
    words = LANGUAGES[family["task"]](family, number)
    with tempfile.TemporaryDirectory() as place:
        base = known({**family, "steps": family["long"]}, words, {}, Path(place))

        def made(run: dict[str, Any], out: Path) -> dict[str, Any]:
            return made_run(family, words, run, number, out, base)

        make_all(number, runs(family, words, base), made, Path(place), target, only)


if __name__ == "__main__":
    main(FAMILIES, run_family)
