"""Duration and learning rate schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl.lint.config import Config
from ftdsl.lint.edits import drop, put, rename, say
from ftdsl.lint.families.evaluation import EVALUATE
from ftdsl.lint.rule import EVERY, Findings, error, rule, warning


@rule("FT101", EVERY)
def warmup_set_twice(config: Config) -> Findings:
    """What it does: finds both `warmup_ratio` and `warmup_steps`.
    Why it matters: the precedence changed: in transformers 4 the steps win, since 5.0 the ratio wins, even a ratio of
        0. An upgrade silently changes the run.
    Example:
        warmup_ratio: 0.1
        warmup_steps: 100
    Use instead:
        warmup_steps: 100
    Applies to: transformers
    Source: run on transformers 5.6.0 (training_args.py __post_init__) and 4.57.1
    """
    if not (config.is_explicit("warmup_ratio") and config.is_explicit("warmup_steps")):
        return
    ratio, steps = config.at("warmup_ratio"), config.at("warmup_steps")
    new = config.version("transformers") >= (5,)
    counts, idle = (ratio, steps) if new else (steps, ratio)
    version = config.versions.get("transformers", "4")
    text = f"`{ratio.word}` and `{steps.word}` are both set"
    label = f"transformers {version} uses `{counts.word}`"
    yield error(
        idle, text, label=label, also=((counts, "and here"),), help=f"keep `{counts.word}`", fix=drop(idle, safe=True)
    )


@rule("FT102", EVERY)
def warmup_ratio_deprecated(config: Config) -> Findings:
    """What it does: finds `warmup_ratio` where transformers accepts a fraction as `warmup_steps`.
    Why it matters: deprecated in transformers 5.0, removed in 5.15: an upgrade breaks the file.
    Example:
        warmup_ratio: 0.03
    Use instead:
        warmup_steps: 0.03
    Applies to: transformers >= 5.0
    Source: transformers#41326; training_args.py 5.6.0 warns
    """
    version = config.version("transformers")
    if (
        not config.is_explicit("warmup_ratio")
        or config.is_explicit("warmup_steps")
        or version < (5,)
        or config.form == "recipe"
    ):
        return
    setting = config.at("warmup_ratio")
    fix = rename(setting, "warmup_steps") if (config.number("warmup_ratio") or 0) < 1 else None
    help = f"write `warmup_steps: {setting.text}`"
    if version >= (5, 15):
        yield error(setting, f"transformers 5.15 removed `{setting.word}`", help=help, fix=fix)
    else:
        yield warning(setting, f"transformers 5.15 removes `{setting.word}`", help=help, fix=fix)


@rule("FT103", EVERY)
def warmup_share_not_supported(config: Config) -> Findings:
    """What it does: finds `warmup_steps` below 1 where transformers does not support fractions.
    Why it matters: before 5.0 `warmup_steps: 0.03` is less than one step: silently no warm-up at all.
    Example:
        # with: transformers==4.57.1
        warmup_steps: 0.03
    Use instead:
        # with: transformers==4.57.1
        warmup_ratio: 0.03
    Applies to: transformers < 5.0
    Source: training_args.py 4.57.1, get_warmup_steps; peft#2949
    """
    steps = config.number("warmup_steps")
    if config.version("transformers") < (5,) and config.version("transformers") and steps and 0 < steps < 1:
        setting = config.at("warmup_steps")
        text = f"transformers {config.versions['transformers']} needs whole steps in `{setting.word}`"
        yield error(
            setting,
            text,
            label="less than one",
            help=f"write `warmup_ratio: {steps:g}`",
            fix=rename(setting, "warmup_ratio"),
        )


@rule("FT104", EVERY)
def warmup_ratio_above_one(config: Config) -> Findings:
    """What it does: finds a `warmup_ratio` of 1 or more.
    Why it matters: transformers 5 copies it to `warmup_steps`, where it is a number of steps.
    Example:
        warmup_ratio: 10
    Use instead:
        warmup_steps: 10
    Applies to: transformers >= 5.0
    Source: run on 5.6.0
    """
    ratio = config.number("warmup_ratio")
    if ratio is not None and ratio >= 1:
        setting = config.at("warmup_ratio")
        yield error(
            setting,
            f"a `{setting.word}` of {setting.text} means {ratio:g} steps",
            help=f"write `warmup_steps: {ratio:g}`, or a fraction below 1",
        )


def kwargs(config: Config) -> Mapping[str, Any]:
    arguments = config.value("lr_scheduler_kwargs")
    return arguments if isinstance(arguments, Mapping) else {}


@rule("FT107", EVERY)
def minimum_rate_missing(config: Config) -> Findings:
    """What it does: checks that cosine schedules with a minimum have exactly one of `min_lr` and `min_lr_rate`.
    Why it matters: with neither or both the run stops when the scheduler is created, after the model is loaded.
    Example:
        lr_scheduler_type: cosine_with_min_lr
        ---
        lr_scheduler_type: cosine_with_min_lr
        lr_scheduler_kwargs: {min_lr: 1e-6, min_lr_rate: 0.1}
    Use instead:
        lr_scheduler_type: cosine_with_min_lr
        lr_scheduler_kwargs: {min_lr_rate: 0.1}
    Applies to: transformers
    Source: transformers/optimization.py:372 (5.6.0)
    """
    if config.value("lr_scheduler_type") not in ("cosine_with_min_lr", "cosine_warmup_with_min_lr"):
        return
    given = [name for name in ("min_lr", "min_lr_rate") if kwargs(config).get(name) is not None]
    at = config.first("lr_scheduler_kwargs", "lr_scheduler_type")
    if len(given) == 2:
        yield error(at, "`min_lr` and `min_lr_rate` are both set", help="keep one of them")
    elif not given:
        name = config.value("lr_scheduler_type")
        yield error(at, f"`{name}` needs a minimum rate", help="write `lr_scheduler_kwargs: {min_lr_rate: 0.1}`")


@rule("FT108", EVERY)
def final_rate_too_high(config: Config) -> Findings:
    """What it does: finds a final learning rate that is not below the initial one.
    Why it matters: `polynomial` stops when the scheduler is created; a cosine with a minimum would rise instead of
        fall.
    Example:
        learning_rate: 1e-5
        lr_scheduler_type: polynomial
        lr_scheduler_kwargs: {lr_end: 1e-4}
        ---
        learning_rate: 1e-5
        lr_scheduler_type: cosine_with_min_lr
        lr_scheduler_kwargs: {min_lr: 1e-4}
    Use instead:
        learning_rate: 1e-4
        lr_scheduler_type: polynomial
        lr_scheduler_kwargs: {lr_end: 1e-6}
    Applies to: transformers
    Source: transformers/optimization.py:274 (5.6.0)
    """
    rate = config.number("learning_rate")
    for name in ("lr_end", "min_lr"):
        end = kwargs(config).get(name)
        if not isinstance(end, int | float) or rate is None or end < rate:
            continue
        at = config.first("lr_scheduler_kwargs", "learning_rate")
        other = config.at("learning_rate")
        yield error(
            at,
            f"`{name}` {end:g} is not below the learning rate {rate:g}",
            also=((other, "the learning rate"),),
            help=f"write a `{name}` below {rate:g}",
        )


@rule("FT109", EVERY)
def phases_do_not_add_up(config: Config) -> Findings:
    """What it does: compares the sum of the warm-up, stable and decay phases with the steps of the run.
    Why it matters: the engine follows the phases: if they are too short, the rest of the run has the lowest rate; if
        too long, the rate never decays.
    Example:
        max_steps: 1000
        warmup_steps: 100
        lr_scheduler_type: warmup_stable_decay
        lr_scheduler_kwargs: {num_stable_steps: 600, num_decay_steps: 100}
    Use instead:
        max_steps: 1000
        warmup_steps: 100
        lr_scheduler_type: warmup_stable_decay
        lr_scheduler_kwargs: {num_stable_steps: 600, num_decay_steps: 300}
    Applies to: transformers
    Source: transformers/optimization.py, get_wsd_schedule; llamafactory/train/trainer_utils.py:550 (0.9.5)
    """
    if config.value("lr_scheduler_type") != "warmup_stable_decay":
        return
    total, warm = config.number("max_steps"), config.number("warmup_steps") or 0
    parts = [kwargs(config).get(name) for name in ("num_stable_steps", "num_decay_steps")]
    if not total or total < 0 or not all(isinstance(part, int) for part in parts):
        return
    warm = warm if warm >= 1 or not warm else round(warm * total)
    summed = warm + sum(part for part in parts if part)
    if summed != total:
        at = config.first("lr_scheduler_kwargs", "lr_scheduler_type")
        text = f"{warm:g} warm-up + {parts[0]} stable + {parts[1]} decay = {summed:g} steps, but the run has {total:g}"
        left = total - warm - (parts[0] or 0)
        yield error(at, text, help=f"decay for {left:g} steps" if left > 0 else "make the phases shorter")


@rule("FT110", EVERY)
def schedule_needs_evaluation(config: Config) -> Findings:
    """What it does: finds schedules that depend on a metric in runs without evaluation.
    Why it matters: `reduce_lr_on_plateau` and `greedy` step after an evaluation; without one the run stops at the start.
    Example:
        lr_scheduler_type: reduce_lr_on_plateau
    Use instead:
        lr_scheduler_type: reduce_lr_on_plateau
        eval_strategy: steps
        eval_steps: 100
        val_size: 0.1
    Applies to: transformers
    Source: transformers/training_args.py:1748, 1754 (5.6.0)
    """
    name = config.value("lr_scheduler_type")
    if name in ("reduce_lr_on_plateau", "greedy") and config.value("eval_strategy") == "no":
        at = config.at("lr_scheduler_type")
        yield error(
            at,
            f"`{name}` needs evaluations, but there are none",
            help=f"write `{EVALUATE if config.form == 'recipe' else 'eval_strategy: steps'}`, or another schedule",
            fix=say(config, *EVALUATE.split(" = ")),
        )


@rule("FT121", EVERY)
def duration_set_twice(config: Config) -> Findings:
    """What it does: finds both `num_train_epochs` and `max_steps`.
    Why it matters: the steps win; the epochs are silently ignored.
    Example:
        num_train_epochs: 3
        max_steps: 1000
    Use instead:
        max_steps: 1000
    Applies to: transformers
    Source: transformers/trainer.py, set_initial_training_values (5.6.0)
    """
    if (
        config.is_explicit("num_train_epochs")
        and config.is_explicit("max_steps")
        and (config.number("max_steps") or 0) > 0
    ):
        epochs, steps = config.at("num_train_epochs"), config.at("max_steps")
        yield warning(
            epochs,
            f"`{epochs.word}` is ignored: `{steps.word}` takes precedence",
            help=f"drop one of them; `{steps.word}` wins",
            fix=drop(epochs, safe=True),
        )


@rule("FT122", EVERY)
def zero_interval(config: Config) -> Findings:
    """What it does: finds `logging_steps` of zero.
    Why it matters: transformers rejects it.
    Example:
        logging_steps: 0
        ---
        eval_strategy: steps
        eval_steps: 0
        logging_steps: 0
        val_size: 0.1
    Use instead:
        logging_steps: 10
    Applies to: transformers
    Source: transformers/training_args.py, _validate_args (5.6.0)
    """
    if config.value("logging_strategy") == "steps" and config.number("logging_steps") == 0:
        yield error(
            config.at("logging_steps"),
            "`logging_steps` cannot be 0",
            help="write `logging_steps: 10`, or `logging_strategy: no`",
            fix=put(config.at("logging_steps"), "10", safe=False),
        )
