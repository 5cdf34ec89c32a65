"""Stages that train on the model's own answers: prompts, models that judge answers, a teacher's share, groups without spread."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import rewards, sandbox
from ..report import Log, StageError
from . import models, tokens
from .formats import Format, Ids
from .rows import Row, Shape

RESERVED = ("prompt", "completion", "completion_ids", "images", "image", "tools", "environment")
"""Columns that TRL gives a meaning of its own."""

ANSWER = "answer"
"""The column of a row's own answer, unless the data has one of that name."""


# --- rows


def record(row: Row, raw: Mapping[str, Any]) -> dict[str, Any]:
    """A row as TRL reads it: the prompt as messages, and the data's columns for the rewards."""
    system = [{"role": "system", "content": row.system}] if row.system else []
    prompt = [*system, *({"role": role, "content": text} for role, text in row.messages)]
    own = {name: value for name, value in raw.items() if name not in RESERVED and name != "_source"}
    answer = {ANSWER: row.answers[0]} if row.answers and ANSWER not in raw else {}
    return {**own, **answer, "prompt": prompt}


def read(shape: Shape, raw: Mapping[str, Any]) -> Row | None:
    """The prompt of a row, and its answer if it has one; None for turns out of order."""
    row = shape.read(raw)
    if row is None or row.messages[-1][0] != "assistant":
        return row
    return Row(row.messages[:-1], row.system, (row.messages[-1][1],))


def conversation(prompt: Sequence[Mapping[str, str]]) -> Row:
    """Messages of a `record` as a row."""
    turns = [(message["role"], message["content"]) for message in prompt]
    system = turns.pop(0)[1] if turns and turns[0][0] == "system" else ""
    return Row(tuple(turns), system)


def answered(format: Format, tokenizer: Any, row: Row, text: str) -> tuple[Ids, Ids]:
    """(prompt, answer) of a prompt with this answer."""
    prompt, answer = format.prompt_and_answer(tokenizer, [*row.messages, ("assistant", text)], row.system)
    return prompt, [*answer, tokenizer.eos_token_id] if format.efficient_eos else answer


def fitting(rows: Any, tokenizer: Any, format: Format, room: int, log: Log) -> Any:
    """The rows whose prompt fits into `room` tokens. Raises: StageError when none does."""

    def fits(row: Mapping[str, Any]) -> bool:
        return len(tokens.prompted(format, tokenizer, conversation(row["prompt"]), room + 1)) <= room

    kept = rows.filter(fits)
    if dropped := len(rows) - len(kept):
        text = (
            f"{dropped} of {len(rows)} prompts are longer than {room} tokens (max_len without the answer), and left out"
        )
        fault = StageError(text, "max_len", "generate.max_new_tokens", help="raise `max_len`", code="FT625")
        if not len(kept):
            raise fault
        log.warn(fault)
    return kept


def enough(rows: int, arguments: Any) -> None:
    """Raises: StageError for fewer prompts than a step takes: TRL would drop them, and train no step at all."""
    step = arguments.per_device_train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps
    prompts = step // getattr(arguments, "num_generations", 1)
    if rows < prompts:
        help = "write a smaller `batch.global`, or add prompts"
        text = f"a step takes {prompts} prompts, and the data has {rows}"
        raise StageError(text, "batch.global", "batch", "data", help=help, code="FT401")


# --- rewards


def functions(
    data: Mapping[str, Any], config: Mapping[str, Any], tokenizer: Any, format: Format, log: Log, *, smoke: bool
) -> list[rewards.Reward]:
    """The rewards of a stage, in order. Raises: StageError."""
    if any(spec["kind"] == "code" for spec in data["rewards"]) and (open := sandbox.missing()):
        text = f"this system does not keep the code of answers from these: {', '.join(open)}"
        log.warn(StageError(text, "rewards", help="train where Linux has seccomp and Landlock, or in a container"))
    made = rewards.made(data["rewards"], Path("inputs"), smoke=smoke)
    return [
        reward or judge(spec, config, tokenizer, format) for spec, reward in zip(data["rewards"], made, strict=True)
    ]


def judge(spec: Mapping[str, Any], config: Mapping[str, Any], tokenizer: Any, format: Format) -> rewards.Reward:
    """A reward model's score of the whole conversation, in the format that the model was trained with. It is loaded at once, and
    moved to the device of the training when it is first asked.
    """
    import torch

    source = {key: value for key, value in config.items() if key in models.CONFIG and not key.startswith("load_in")}
    source |= {"model_name_or_path": spec["model"], "adapter_name_or_path": spec.get("adapters", [])}
    model = models.with_adapters(models.base_of(source, tokenizer, scores=True), source, new=False)
    model.eval().requires_grad_(False)
    limit = int(config["max_length"])

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float | None]:
        scores: list[float | None] = []
        ids = []
        for prompt, completion in zip(prompts, completions, strict=True):
            asked, answer = answered(format, tokenizer, conversation(prompt), rewards.text_of(completion))
            ids.append((asked + answer)[:limit])
        model.to(_device())
        for start in range(0, len(ids), 16):
            batch = tokenizer.pad({"input_ids": ids[start : start + 16]}, return_tensors="pt", padding_side="right")
            with torch.inference_mode():
                scores += model(**batch.to(model.device)).logits[:, 0].float().tolist()
        return scores

    reward.__name__ = spec["name"]
    return reward


def _device() -> Any:
    import torch

    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def end_answers(model: Any, tokenizer: Any, format: Format) -> None:
    """An answer ends at the model's own end tokens, and at those of the chat format."""
    known = model.generation_config.eos_token_id
    ends = [*(known if isinstance(known, list) else [known]), tokenizer.eos_token_id]
    ends += [tokenizer.convert_tokens_to_ids(token) for token in format.stop]
    model.generation_config.eos_token_id = list(dict.fromkeys(token for token in ends if token is not None))


# --- trainers


class OnFormat:
    """Prompts are written in the stage's chat format, as in every other stage; TRL would take the tokenizer's template."""

    format: Format

    def _tokenize_prompts(self: Any, prompts: Sequence[Any]) -> tuple[list[Ids], None, dict[str, Any]]:
        limit = 1 << 30
        rows = [conversation(prompt) for prompt in prompts]
        return [tokens.prompted(self.format, self._tokenizer, row, limit) for row in rows], None, {}


class PartlyOffPolicy(OnFormat):
    """Distillation in which a share of the steps takes the answers of the data instead of generating some.

    on_policy: the share that generates; which steps do is drawn from seed and step, alike on all ranks.
    """

    on_policy = 1.0

    def _generate_and_score_completions(self: Any, inputs: Any) -> Any:
        drawn = random.Random(f"{self.args.seed} {self.state.global_step} {self.model.training}").random()
        self._answers = None
        if drawn >= self.on_policy:
            self._answers = [self._answer(row) for row in inputs]
        self._metrics["train" if self.model.training else "eval"]["on_policy"].append(float(self._answers is None))
        return super()._generate_and_score_completions(inputs)  # type: ignore[misc]

    def _answer(self: Any, row: Mapping[str, Any]) -> Ids:
        """The row's own answer. Raises: StageError without one."""
        if not row.get(ANSWER):
            text = (
                "a row has no answer, and `on_policy` is below 100%: the other steps learn from the answers of the data"
            )
            raise StageError(text, "on_policy", "data")
        ids = answered(self.format, self._tokenizer, conversation(row["prompt"]), str(row[ANSWER]))[1]
        return ids[: self.max_completion_length]

    def _generate_single_turn(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._answers is None:
            return super()._generate_single_turn(*args, **kwargs)  # type: ignore[misc]
        return self._answers


class Spread:
    """Warns once when the answers to every prompt get the same reward for a while: then all advantages are 0, and nothing is
    learned.
    """

    STEPS = 10

    def __init__(self, warn: Callable[[StageError], None]) -> None:
        self.warn, self.flat = warn, 0

    def see(self, logs: Mapping[str, Any]) -> None:
        """Logs of the trainer."""
        if (share := logs.get("frac_reward_zero_std")) is None:
            return
        self.flat = self.flat + 1 if share >= 1 else 0
        if self.flat == self.STEPS:
            text = f"in {self.STEPS} logged steps in a row, all answers to each prompt got the same reward: nothing is learned"
            help = "a reward that tells answers apart, more `generations`, or a higher `generate.temperature`"
            self.warn(StageError(text, "rewards", "generations", help=help))


def spread(log: Log) -> Any:
    """`Spread` as a TrainerCallback."""
    from transformers import TrainerCallback

    watched = Spread(log.warn)

    class Watched(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            watched.see(logs or {})

    return Watched()
