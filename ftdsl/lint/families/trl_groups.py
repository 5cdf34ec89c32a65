"""TRL's trainers that learn from groups of answers: sizes of groups, rewards, and how different answers are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftdsl.lint.config import Config, Setting
from ftdsl.lint.rule import Findings, error, rule, warning

GROUPED = ("grpo", "rloo")
"""Trainers that compare the answers to one prompt with each other."""
GENERATING = (*GROUPED, "distillation")
_SIZES = ("generation_batch_size", "steps_per_generation", "num_generations", "per_device_train_batch_size")


@rule("FT627", "trl")
def groups_not_whole(config: Config) -> Findings:
    """What it does: checks that answers are generated, and evaluated, in whole groups of `num_generations`.
    Why it matters: an advantage compares the answers to one prompt; TRL stops when it reads its arguments, on every rank. Without
        the number of processes, sizes that some number makes whole are a warning.
    Example:
        # with: trainer=grpo, gpus=1
        per_device_train_batch_size: 4
        num_generations: 8
        reward_funcs: [think_format_reward]
        ---
        # with: trainer=grpo, gpus=2
        per_device_train_batch_size: 4
        generation_batch_size: 12
        num_generations: 4
        reward_funcs: [think_format_reward]
        ---
        # with: trainer=grpo, gpus=1
        per_device_train_batch_size: 8
        eval_strategy: steps
        per_device_eval_batch_size: 4
        reward_funcs: [think_format_reward]
        ---
        # with: trainer=grpo
        per_device_train_batch_size: 4
        num_generations: 8
        reward_funcs: [think_format_reward]
    Use instead:
        # with: trainer=grpo, gpus=2
        per_device_train_batch_size: 4
        num_generations: 8
        reward_funcs: [think_format_reward]
        ---
        # with: trainer=grpo, gpus=1
        per_device_train_batch_size: 8
        eval_strategy: steps
        reward_funcs: [think_format_reward]
    Applies to: TRL
    Source: trl/trainer/grpo_config.py, rloo_config.py, __post_init__ (1.16.0)
    """
    if config.trainer not in GROUPED:
        return
    world = config.launch.world if config.launch else 0
    group = _whole(config, "num_generations")
    micro = _whole(config, "per_device_train_batch_size") or 1
    given = _whole(config, "generation_batch_size") if config.has("generation_batch_size") else 0
    steps = "steps_per_generation" if config.has("steps_per_generation") else "gradient_accumulation_steps"
    per_rank = micro * (_whole(config, steps) or 1)
    ours = config.form == "recipe" and not config.is_explicit(
        "generation_batch_size"
    )  # the plan has solved the equation
    if given and world and given % (micro * world):
        at = config.at("generation_batch_size")
        text = f"`{at.word}` {given} is not a multiple of {micro} micro x {world} ranks"
        yield error(at, text, help=f"write a multiple of {micro * world}")
    elif group and not ours:
        at = config.first("num_generations", *_SIZES)
        yield from _grouped(at, given or per_rank * (world or 1), group, known=bool(given or world), what="generates")
    if config.value("eval_strategy") != "no" and not ours:
        group = _whole(config, "num_generations_eval") or group
        size = (_whole(config, "per_device_eval_batch_size") or 8) * (world or 1)
        at = config.first("per_device_eval_batch_size", "num_generations_eval", "num_generations", "eval_strategy")
        if group:
            yield from _grouped(at, size, group, known=bool(world), what="evaluates")


def _whole(config: Config, name: str) -> int:
    number = config.number(name)
    return int(number) if number else 0


def _grouped(at: Setting, size: int, group: int, *, known: bool, what: str) -> Findings:
    if size % group == 0:
        return
    if known:
        text = f"a step {what} {size} answers, which are no whole groups of {group}"
        yield error(at, text, help=f"make it a multiple of {group}")
    else:
        ranks = group // math.gcd(size, group)
        text = f"a process {what} {size} answers: groups of {group} are whole only on a multiple of {ranks} processes"
        yield warning(at, text, help=f"make it a multiple of {group}, or start {ranks} processes")


@rule("FT628", "trl")
def group_of_one(config: Config) -> Findings:
    """What it does: finds groups of one answer.
    Why it matters: there is nothing to compare an answer with; TRL stops when it reads its arguments.
    Example:
        # with: trainer=grpo
        num_generations: 1
        reward_funcs: [think_format_reward]
    Use instead:
        # with: trainer=grpo
        num_generations: 8
        reward_funcs: [think_format_reward]
    Applies to: TRL
    Source: trl/trainer/grpo_config.py, rloo_config.py, __post_init__ (1.16.0)
    """
    if config.trainer in GROUPED and _whole(config, "num_generations") == 1:
        at = config.at("num_generations")
        yield error(at, "a group of one answer has nothing to compare it with", help="write 2 or more; 8 is usual")


KNOWN = ("accuracy_reward", "reasoning_accuracy_reward", "think_format_reward", "get_soft_overlong_punishment")
"""Rewards of TRL's own script by name (trl/scripts/grpo.py)."""


@rule("FT631", "trl")
def unknown_reward(config: Config) -> Findings:
    """What it does: checks the rewards of a run: there is one, each is TRL's or a path, each has a weight.
    Why it matters: TRL's script fails after its imports, or when the trainer is made with the model loaded.
    Example:
        # with: trainer=grpo
        reward_funcs: [accuracy]
        ---
        # with: trainer=grpo
        num_generations: 8
        ---
        # with: trainer=grpo
        reward_funcs: [think_format_reward]
        reward_weights: [1.0, 0.5]
    Use instead:
        # with: trainer=grpo
        reward_funcs: [think_format_reward, my_lib.rewards.score]
        reward_weights: [1.0, 0.5]
    Applies to: TRL
    Source: trl/scripts/grpo.py, trl/trainer/grpo_trainer.py:568-575, 737 (1.16.0)
    """
    if config.trainer not in GROUPED or config.form == "recipe":
        return
    names = config.value("reward_funcs")
    names = names if isinstance(names, list) else [names] if names else []
    count = len(names) + config.has("reward_model_name_or_path")
    if not count:
        at = config.first("num_generations", "output_dir", "model_name_or_path")
        yield error(at, "nothing says what an answer is worth", help="write `reward_funcs: [think_format_reward]`")
    for name in names:
        if name not in KNOWN and "." not in str(name):
            at = config.at("reward_funcs")
            yield error(
                at,
                f"TRL has no reward `{name}`",
                help=f"it has {', '.join(KNOWN)}; others by their path: `module.function`",
            )
    weights = config.value("reward_weights")
    if count and isinstance(weights, list) and len(weights) != count:
        at = config.at("reward_weights")
        yield error(
            at, f"{len(weights)} weights for {count} rewards", help="one weight for each, the reward model first"
        )


@rule("FT632", "trl")
def reward_without_spread(config: Config) -> Findings:
    """What it does: finds rewards that are the same for every answer: a length that no answer exceeds, a pattern that is in every
        text, a weight of 0.
    Why it matters: an advantage is the difference from the mean of the group: such a reward teaches nothing, and if it is the
        only one, the loss is 0 in every step.
    Example:
        # with: trainer=grpo
        reward_funcs: [think_format_reward, my_lib.score]
        reward_weights: [0.0, 0.0]
        ---
        # with: trainer=grpo
        reward_funcs: [get_soft_overlong_punishment]
        max_completion_length: 512
    Use instead:
        # with: trainer=grpo
        reward_funcs: [think_format_reward, my_lib.score]
        reward_weights: [1.0, 0.0]
    Applies to: TRL
    Source: trl/trainer/grpo_trainer.py, advantages; trl/rewards/other_rewards.py: 0 up to 1024 tokens (1.16.0)
    """
    if config.trainer not in GROUPED:
        return
    flat = list(_constant(config))
    count = len(_rewards(config)) + config.has("reward_model_name_or_path")
    at = config.first("reward_funcs", "reward_weights", "data", "max_completion_length")
    if flat and len(flat) == count:
        yield error(
            at, f"every answer gets the same reward: {flat[0]}", help="the loss would be 0; reward what differs"
        )
    for why in flat if len(flat) < count else ():
        if not why.endswith(_LOGGED):
            yield warning(at, f"a reward is the same for every answer: {why}", help="it teaches nothing: drop it")


_LOGGED = "has the weight 0"
"""A reward that is logged alone, beside others that count."""


def _rewards(config: Config) -> Sequence[Any]:
    """Names of a file's rewards, specs of a recipe's."""
    data = config.value("data")
    if isinstance(data, Mapping) and isinstance(data.get("rewards"), list):
        return list(data["rewards"])
    names = config.value("reward_funcs")
    return names if isinstance(names, list) else [names] if names else []


def _constant(config: Config) -> Iterator[str]:
    """Why each reward that has no spread has none."""
    answer, weights = config.number("max_completion_length") or 0, config.value("reward_weights")
    for at, reward in enumerate(_rewards(config)):
        spec: Mapping[str, Any] = reward if isinstance(reward, Mapping) and "kind" in reward else {"kind": str(reward)}
        if isinstance(weights, list) and at < len(weights) and weights[at] == 0:
            yield f"`{spec['kind']}` {_LOGGED}"
        elif spec["kind"] == "get_soft_overlong_punishment" and answer <= 1024:
            yield f"no answer of {answer:g} tokens is above 1024"
        elif spec["kind"] == "length" and not spec.get("min") and answer <= (spec.get("max") or 0):
            yield f"no answer is above {answer:g} tokens, and `length` allows {spec['max']}"
        elif spec["kind"] == "regex" and _everywhere(str(spec.get("pattern", ""))):
            yield f"`{spec['pattern']}` is in every text"


def _everywhere(pattern: str) -> bool:
    """Whether a pattern is found in texts that have nothing in common."""
    try:
        return all(re.search(pattern, text) for text in ("", "a", "0 ;"))
    except re.error:
        return False


@rule("FT633", "trl")
def answers_all_alike(config: Config) -> Findings:
    """What it does: finds sampling that gives the same answer every time: `top_k` of 1, `top_p` or a temperature close to 0.
    Why it matters: all answers of a group are the same, so their rewards are, and the loss is 0; at temperature 0 generation
        stops.
    Example:
        # with: trainer=grpo
        reward_funcs: [think_format_reward]
        top_k: 1
        ---
        # with: trainer=grpo
        reward_funcs: [think_format_reward]
        temperature: 0.01
    Use instead:
        # with: trainer=grpo
        reward_funcs: [think_format_reward]
        temperature: 1.0
        top_k: 0
    Applies to: TRL
    Source: trl/trainer/grpo_trainer.py, generation_config; transformers' TemperatureLogitsWarper needs more than 0
    """
    if config.trainer not in GROUPED:
        return
    limits = {"top_k": (1, 1), "top_p": (0, 0.05), "temperature": (0, 0.05)}
    for name, (low, high) in limits.items():
        number = config.number(name)
        if config.has(name) and number is not None and low <= number <= high:
            at = config.at(name)
            yield error(
                at, f"with `{at.word}` {number:g} all answers of a group are alike", help="sample at temperature 1"
            )


@rule("FT635", "trl")
def answer_fills_the_window(config: Config) -> Findings:
    """What it does: compares the length of an answer with the window: vLLM's, or the model's own.
    Why it matters: nothing is left for the prompt; vLLM refuses it at the first step, and a model continues beyond the positions
        it knows.
    Example:
        # with: trainer=grpo
        reward_funcs: [think_format_reward]
        use_vllm: true
        max_completion_length: 4096
        vllm_max_model_length: 4096
        ---
        # with: trainer=grpo, window=2048
        reward_funcs: [think_format_reward]
        max_completion_length: 2048
        ---
        # with: trainer=sft, window=2048
        max_length: 4096
    Use instead:
        # with: trainer=grpo, window=8192
        reward_funcs: [think_format_reward]
        use_vllm: true
        max_completion_length: 4096
        vllm_max_model_length: 6144
    Applies to: TRL
    Source: trl/generation/vllm_generation.py, max_model_len (1.16.0)
    """
    if config.trainer in GENERATING and config.form != "recipe":
        answer = config.number("max_completion_length") or 0
        window = config.number("vllm_max_model_length") if config.on("use_vllm") else 0
        at = config.first("max_completion_length", "vllm_max_model_length")
        for room, whose in ((window or 0, "vLLM's window"), (config.window, "the model's window")):
            if room and answer >= room:
                text = f"an answer of {answer:g} tokens leaves no room for a prompt in {whose} of {room:g}"
                yield error(at, text, help=f"write at most {room / 2:g}")
                return
    elif config.has("max_length") and config.window:
        length, at = config.number("max_length") or 0, config.at("max_length")
        if length > config.window:
            text = f"rows of {length:g} tokens are longer than the model's window of {config.window}"
            yield warning(at, text, help=f"write at most {config.window}")
