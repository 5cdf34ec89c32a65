"""Evaluation during training: when, on which rows, and what depends on it."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.edits import add, drop, put, say
from ftdsl.lint.rule import EVERY, Findings, error, info, rule, warning


def evaluates(config: Config) -> bool:
    """As transformers decides: `do_eval`, or an evaluation strategy."""
    return config.on("do_eval") or config.value("eval_strategy") not in ("no", None, False)


def has_eval_rows(config: Config) -> bool:
    return config.has("eval_dataset") or (config.number("val_size") or 0) > 1e-6


EVALUATE = "evaluate.data = 5%"
"""How a recipe holds rows out."""


@rule("FT105", EVERY)
def save_and_eval_intervals_differ(config: Config) -> Findings:
    """What it does: checks that `load_best_model_at_end` has a checkpoint for every evaluation.
    Why it matters: the best model can only be restored if it was saved; transformers stops when the intervals
        differ.
    Example:
        load_best_model_at_end: true
        eval_strategy: steps
        eval_steps: 200
        save_strategy: steps
        save_steps: 500
        val_size: 0.1
        ---
        load_best_model_at_end: true
        eval_strategy: epoch
        save_strategy: steps
        val_size: 0.1
        ---
        load_best_model_at_end: true
        eval_strategy: steps
        eval_steps: 0.1
        save_steps: 500
        val_size: 0.1
    Use instead:
        load_best_model_at_end: true
        eval_strategy: steps
        eval_steps: 250
        save_strategy: steps
        save_steps: 500
        val_size: 0.1
    Applies to: transformers
    Source: transformers/training_args.py:1707-1727 (5.6.0), _validate_args
    """
    if not config.on("load_best_model_at_end") or config.value("save_strategy") == "best":
        return
    if "evaluation_strategy" in config.settings:  # FT116 says so, and that it is what measures
        return
    save, measure = config.value("save_strategy"), config.value("eval_strategy")
    if save != measure:
        at = config.first("eval_strategy", "save_strategy", "load_best_model_at_end")
        text = f"the best model needs a checkpoint per evaluation, but the run saves by {save} and "
        text += "does not evaluate" if measure == "no" else f"evaluates by {measure}"
        help = "write the same for both"
        if measure == "no":
            recipe = config.form == "recipe"
            help = (
                "write `evaluate { data = 5% }`" if recipe else f"write `eval_strategy: {save}`, and `val_size: 0.05`"
            )
            if config.trainer and not recipe:
                help = f"write `eval_strategy: {save}`"
        yield error(at, text, help=help, also=((config.at("save_strategy"), "saved here"),))
        return
    if save != "steps":
        return
    every, each = config.number("save_steps"), config.number("eval_steps") or config.number("logging_steps")
    if not every or not each:
        return
    at, other = config.first("save_steps", "eval_steps", "load_best_model_at_end"), config.at("eval_steps")
    if (every < 1) != (each < 1):
        yield error(
            at,
            "one interval is a fraction of the run, the other a number of steps",
            also=((other, "the other"),),
            help="write both as fractions, or both as steps",
        )
    elif round(every * 1e6) % round(each * 1e6):
        near = max(each, round(every / each) * each)
        text = f"saves every {every:g} steps, evaluates every {each:g}: not every checkpoint has a score"
        fix = put(config.at("save_steps"), f"{near:g}") if config.form != "recipe" else None
        yield error(at, text, also=((other, "the other interval"),), help=f"save every {near:g} steps", fix=fix)


@rule("FT106")
def early_stopping_without_metric(config: Config) -> Findings:
    """What it does: checks that early stopping has an evaluation and a metric.
    Why it matters: the callback asserts both when training starts, after the model and the data are loaded.
    Example:
        early_stopping_steps: 3
        ---
        early_stopping_steps: 3
        eval_strategy: steps
        eval_steps: 100
        val_size: 0.1
    Use instead:
        early_stopping_steps: 3
        eval_strategy: steps
        eval_steps: 100
        save_steps: 100
        val_size: 0.1
        load_best_model_at_end: true
    Applies to: LLaMA-Factory, transformers
    Source: transformers/trainer_callback.py, EarlyStoppingCallback.on_train_begin (5.6.0)
    """
    if not config.has("early_stopping_steps") or not config.trains:
        return
    at = config.at("early_stopping_steps")
    if config.value("eval_strategy") in ("no", None):
        yield error(
            at,
            f"`{at.word}` needs evaluations, but there are none",
            help=f"write `{EVALUATE}`" if config.form == "recipe" else "set `eval_strategy`",
            fix=say(config, *EVALUATE.split(" = ")),
        )
    elif not config.on("load_best_model_at_end") and not config.has("metric_for_best_model"):
        word = config.word("metric_for_best_model")
        yield error(
            at,
            f"`{at.word}` needs a metric to watch",
            help=f"set `{word}`, for example to `loss`",
            fix=add(config, at, "metric_for_best_model", "loss") or say(config, word, "loss"),
        )


@rule("FT111")
def evaluation_without_rows(config: Config) -> Findings:
    """What it does: finds evaluation or prediction without rows.
    Why it matters: the run stops while parsing its arguments: after 5 seconds, with a traceback and no line number.
    Example:
        eval_strategy: steps
        eval_steps: 100
        ---
        do_predict: true
        predict_with_generate: true
    Use instead:
        eval_strategy: steps
        eval_steps: 100
        val_size: 0.1
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:483 (0.9.5)
    """
    asked = evaluates(config) or config.on("do_predict") or config.on("predict_with_generate")
    if config.kind == "train" and asked and not has_eval_rows(config) and not config.has("tokenized_path"):
        at = config.first("eval_strategy", "do_eval", "do_predict", "predict_with_generate")
        help = f"write `{EVALUATE}`" if config.form == "recipe" else "set `eval_dataset`, or `val_size: 0.1`"
        yield error(
            at,
            f"`{at.word}` needs rows to evaluate on, but there are none",
            help=help,
            fix=say(config, *EVALUATE.split(" = ")),
        )


@rule("FT112")
def held_out_twice(config: Config) -> Findings:
    """What it does: finds `val_size` where it does not apply: together with `eval_dataset`, without `dataset`, or as
        a fraction of a stream.
    Why it matters: the run stops while parsing its arguments.
    Example:
        val_size: 0.1
        eval_dataset: other
        ---
        val_size: 0.1
        dataset: null
        do_train: false
        ---
        streaming: true
        max_steps: 1000
        val_size: 0.1
    Use instead:
        val_size: 0.1
        ---
        streaming: true
        max_steps: 1000
        val_size: 500
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/data_args.py:154-177 (0.9.5)
    """
    share = config.number("val_size") or 0
    if share <= 1e-6:
        return
    at = config.at("val_size")
    if config.has("eval_dataset"):
        other = config.at("eval_dataset")
        yield error(
            at,
            f"`{at.word}` and `{other.word}` are both set",
            also=((other, "and here"),),
            help="keep one of them",
            fix=drop(at, safe=False),
        )
    elif not config.has("dataset"):
        yield error(at, f"`{at.word}` needs a `dataset` to split", help="write `eval_dataset` instead")
    elif config.on("streaming") and share < 1:
        yield error(
            at, f"a stream has no known length: `{at.word}` must be a number of rows", help="write `val_size: 500`"
        )


@rule("FT114", EVERY)
def fractional_interval(config: Config) -> Findings:
    """What it does: finds intervals above 1 that are not whole numbers.
    Why it matters: below 1 they are fractions of the run, above they are steps; transformers stops on anything
        else.
    Example:
        save_steps: 2.5
        ---
        logging_steps: 10.5
    Use instead:
        save_steps: 3
        ---
        logging_steps: 10
    Applies to: transformers
    Source: transformers/training_args.py:1693-1701 (5.6.0)
    """
    for name, strategy in (
        ("save_steps", "save_strategy"),
        ("eval_steps", "eval_strategy"),
        ("logging_steps", "logging_strategy"),
    ):
        number = config.number(name)
        if config.value(strategy) == "steps" and number and number > 1 and number != int(number):
            at = config.at(name)
            yield error(
                at,
                f"`{at.word}` must be a whole number of steps, not {number:g}",
                help=f"write `{round(number)}`",
                fix=put(at, str(round(number))),
            )


@rule("FT115", EVERY)
def interval_longer_than_the_run(config: Config) -> Findings:
    """What it does: finds save and evaluation intervals longer than the run.
    Why it matters: nothing is saved or evaluated before the end, and a crash loses everything.
    Example:
        max_steps: 200
        save_steps: 500
        ---
        max_steps: 100
        eval_strategy: steps
        eval_steps: 250
        save_steps: 50
        val_size: 0.1
    Use instead:
        max_steps: 200
        save_steps: 50
    Applies to: all
    Source: arithmetic
    """
    total = config.number("max_steps") or 0
    if total <= 0 or not config.trains:
        return
    for name, strategy, what in (
        ("save_steps", "save_strategy", "saved"),
        ("eval_steps", "eval_strategy", "evaluated"),
    ):
        every = config.number(name)
        if config.value(strategy) == "steps" and every and every > total and config.is_explicit(name):
            at = config.at(name)
            yield warning(
                at,
                f"the run has {total:g} steps, but nothing is {what} before step {every:g}",
                help=f"write at most {total / 4:g}",
            )


@rule("FT120", EVERY)
def prefetch_without_workers(config: Config) -> Findings:
    """What it does: finds `dataloader_prefetch_factor` without worker processes.
    Why it matters: only worker processes prefetch; transformers stops.
    Example:
        dataloader_prefetch_factor: 4
    Use instead:
        dataloader_prefetch_factor: 4
        dataloader_num_workers: 4
    Applies to: transformers
    Source: transformers/training_args.py:1760 (5.6.0)
    """
    if config.has("dataloader_prefetch_factor") and not config.number("dataloader_num_workers"):
        at = config.at("dataloader_prefetch_factor")
        workers = config.word("dataloader_num_workers")
        yield error(at, f"`{at.word}` needs worker processes", help=f"set `{workers}` to 4, or drop it", fix=drop(at))


@rule("FT214")
def generation_not_supported(config: Config) -> Findings:
    """What it does: finds `predict_with_generate` where LLaMA-Factory cannot generate: outside SFT, with
        ZeRO-3, or together with `compute_accuracy`.
    Why it matters: the run stops while parsing its arguments.
    Example:
        stage: dpo
        predict_with_generate: true
        learning_rate: 5e-6
        val_size: 0.1
        ---
        predict_with_generate: true
        compute_accuracy: true
        val_size: 0.1
        ---
        predict_with_generate: true
        val_size: 0.1
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Use instead:
        predict_with_generate: true
        val_size: 0.1
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:419, 489-493 (0.9.5)
    """
    if not config.on("predict_with_generate") or config.kind != "train":
        return
    at = config.at("predict_with_generate")
    if config.stage != "sft":
        yield error(
            at,
            f"a {config.stage} stage cannot generate answers",
            help="evaluate with a separate SFT configuration",
            fix=drop(at),
        )
    elif config.zero == 3:
        yield error(at, "ZeRO-3 does not support generation", help="use ZeRO-2, or evaluate in a separate stage")
    if config.on("compute_accuracy"):
        other = config.at("compute_accuracy")
        yield error(
            other,
            "token accuracy and generation exclude each other",
            also=((at, "generation is on"),),
            help="keep one of them",
            fix=drop(other, safe=False),
        )


@rule("FT609")
def predict_without_generate(config: Config) -> Findings:
    """What it does: finds `do_predict` in SFT without `predict_with_generate`.
    Why it matters: without it there is nothing to save, and LLaMA-Factory stops.
    Example:
        do_train: false
        do_predict: true
        eval_dataset: support
    Use instead:
        do_train: false
        do_predict: true
        predict_with_generate: true
        eval_dataset: support
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:429 (0.9.5)
    """
    if (
        config.kind == "train"
        and config.stage == "sft"
        and config.on("do_predict")
        and not config.on("predict_with_generate")
    ):
        at = config.at("do_predict")
        yield error(
            at,
            f"`{at.word}` saves no answers without `predict_with_generate`",
            help="write `predict_with_generate: true`",
            fix=add(config, at, "predict_with_generate", True),
        )


@rule("FT702")
def evaluation_fills_gpu_memory(config: Config) -> Findings:
    """What it does: points out evaluations that keep every prediction in GPU memory until they end.
    Why it matters: without `eval_accumulation_steps` the predictions of all rows stay on the GPU; a large
        evaluation set exhausts its memory, often long after training started.
    Example:
        compute_accuracy: true
        eval_strategy: steps
        eval_steps: 100
        eval_dataset: support
    Use instead:
        compute_accuracy: true
        eval_accumulation_steps: 16
        eval_strategy: steps
        eval_steps: 100
        eval_dataset: support
    Applies to: transformers
    Source: LLaMA-Factory#5419; transformers/trainer.py, evaluation_loop (5.6.0)
    """
    if (
        config.gpu == ""
        or not config.on("compute_accuracy")
        or not evaluates(config)
        or config.has("eval_accumulation_steps")
    ):
        return
    at = config.at("compute_accuracy")
    word = config.word("eval_accumulation_steps")
    yield info(
        at,
        "an evaluation keeps all predictions in GPU memory until it ends",
        help=f"set `{word}` to 16 if memory runs out",
    )
